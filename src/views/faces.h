// Faces: directories that are one node to the kernel and another directory in each view.
//
// The kernel has one dentry per name. If two views gave the same name different nodes, each look by one would throw the
// other's dentry out, with all that is cached below it; and a process whose working directory it was would get ENOENT
// from getcwd(2). So near the root, where all views meet, directories are faces: the root, and the directories of the
// first `depth` levels below it. Who asks decides what a face shows, so names in a face, and its attributes, are never
// cached. Everything else has nodes of its own in each view, and is cached without limit.
//
// A face can be neither removed nor renamed for one view alone. set_apart() gives a name a node of its own in one view;
// answering ESTALE then makes the kernel look the name up again, and the operation goes on with that node.
//
// The directory that a view has at a face never becomes another one while the face lives: the kernel keeps the face for
// whoever has it as working directory or open. vacate() says that the view's directory of a name was renamed or
// removed; what comes to that name next is shown by a node of its own, until the kernel has forgotten the face.
// A directory may thus have two numbers in one view: is_double().
//
// Each binding (face, view) holds one lookup of the engine's node. Where a node is said to be released, that lookup is
// the caller's to give back. Threads: safe (leaf locks, short).
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "fuse/filesystem.h"
#include "views/view.h"

namespace vellum::views {

class Faces {
 public:
  using Released = std::vector<std::pair<ViewIndex, fuse::NodeId>>;

  explicit Faces(unsigned depth);

  // The directory that a view has at a face, if it is known.
  std::optional<fuse::NodeId> bound(fuse::NodeId face, ViewIndex view) const;
  // Where a face that is not the root lies; ESTALE: there is none of this number.
  struct Place {
    fuse::NodeId parent;
    std::string name;
  };
  Result<Place> place(fuse::NodeId face) const;
  // What the view has there: `node`, unless it has something already; then `node` is released. ESTALE: no such face.
  Result<fuse::NodeId> bind(fuse::NodeId face, ViewIndex view, fuse::NodeId node, Released& released);

  // The face that stands for a directory called `name` in the face `parent`, looked up once more by the kernel.
  // Nothing: there the view's own node is shown.
  std::optional<fuse::NodeId> show(fuse::NodeId parent, std::string_view name, ViewIndex view, fuse::NodeId node,
                                   Released& released);
  // Whether the view has, or had, something at the face of that name; and whether the name is a face for it at present.
  bool has_face(fuse::NodeId parent, std::string_view name, ViewIndex view) const;
  bool shows_face(fuse::NodeId parent, std::string_view name, ViewIndex view) const;
  void set_apart(fuse::NodeId parent, std::string_view name, ViewIndex view);
  bool is_apart(fuse::NodeId parent, std::string_view name, ViewIndex view) const;
  void vacate(fuse::NodeId parent, std::string_view name, ViewIndex view);
  // Whether the kernel may know what the view has at a face by a node of the view's own as well.
  bool is_double(fuse::NodeId face, ViewIndex view) const;

  void forget(fuse::NodeId face, std::uint64_t count, Released& released);
  // The kernel looked this name up and got a view's own node, in the mount's numbers; and what it forgot of such nodes.
  void shown(fuse::NodeId parent, std::string_view name, fuse::NodeId node);
  void forgotten(fuse::NodeId node, std::uint64_t count);
  // It has another name now, in this face.
  void moved(fuse::NodeId node, fuse::NodeId parent, std::string_view name);
  // The names whose dentries may keep the view's nodes alive.
  std::vector<Place> shown_by(ViewIndex view) const;
  // The face, if the view's engine's node is bound to one.
  std::optional<fuse::NodeId> face_of(ViewIndex view, fuse::NodeId node) const;
  void drop(ViewIndex view);
  std::size_t size() const;

  // The kernel has one inode for a face, and lets or refuses by the last owner and mode that anybody was told: perhaps
  // another view's. The faces are contested while that may refuse somebody other than root what is theirs.
  using Time = std::chrono::steady_clock::time_point;
  enum class Telling {
    kTruth,
    kStarting,   // contested, but what was told before may still be on its way
    kContested,  // all may be told that they may do all; whether they may is judged by us
  };
  // `caller` is about to be told this.
  Telling tell(fuse::NodeId face, const fuse::Attr& attr, std::uint32_t caller, Time now);
  // Whether they may have been contested when the kernel let through what is asked now.
  bool contested(Time now) const;

 private:
  struct Binding {
    fuse::NodeId node;
    bool left = false;  // it is not what has that name any more
  };
  struct Face {
    fuse::NodeId id = fuse::NodeId::kNone;
    Face* parent = nullptr;
    std::string name;
    unsigned depth = 0;
    std::uint64_t lookups = 0;
    absl::flat_hash_map<ViewIndex, Binding> bound;
    absl::flat_hash_map<std::string, Face*> children;
    absl::flat_hash_set<std::pair<std::string, ViewIndex>> apart;
    struct Told {
      std::size_t rights = 0;        // what anybody may do
      std::size_t owner_rights = 0;  // what the owner may do, and who that is
      Time when;
    };
    std::array<Told, 2> told;  // the last two that differ, the last first
    Time user;                 // when somebody other than root was told
    Time stranger;             // and when it was not the owner either
  };
  struct Shown {
    Place place;
    std::uint64_t lookups = 0;
  };
  // What the view has at the face of that name; null: nothing.
  static Binding* binding(const Face& in, std::string_view name, ViewIndex view);
  const Face* find(fuse::NodeId id) const VELLUM_REQUIRES(mutex_);
  Face* find(fuse::NodeId id) VELLUM_REQUIRES(mutex_);
  fuse::NodeId bind_locked(Face& face, ViewIndex view, fuse::NodeId node, Released& released) VELLUM_REQUIRES(mutex_);
  void unbind_locked(const Face& face, ViewIndex view, fuse::NodeId node) VELLUM_REQUIRES(mutex_);
  void drop_unused(Face* face, Released& released) VELLUM_REQUIRES(mutex_);

  const unsigned depth_;
  mutable Mutex mutex_;
  std::uint64_t next_ VELLUM_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<std::uint64_t, std::unique_ptr<Face>> faces_ VELLUM_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::uint64_t, Face*> by_node_ VELLUM_GUARDED_BY(mutex_);  // outer(view, node)
  Time contest_start_ VELLUM_GUARDED_BY(mutex_), contest_end_ VELLUM_GUARDED_BY(mutex_);
  mutable Mutex shown_mutex_;  // each FORGET takes it
  absl::flat_hash_map<std::uint64_t, Shown> shown_ VELLUM_GUARDED_BY(shown_mutex_);
};

}  // namespace vellum::views
