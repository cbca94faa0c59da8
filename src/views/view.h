// One view: an overlay engine, whose rights it uses, and what the kernel still holds of it.
//
// The table gives each view a number, by which its nodes and handles are told from those of others (numbers.h). A view
// is found by what its layers are (device and inode number), not by how they were spelt. Number 0 is the directory that
// the mount covers, for everybody without a view; it is always there.
// A view lives while a process, an open file or the kernel's cache refers to it, and as long as the idle time says.
// Threads: safe. Errors: those of opening the layers as the process that names them; EBUSY for an upper that another
// view writes to, also where that view uses the rights of a group that the process has not; ELOOP for layers in the
// mount itself; EINVAL where the layers cannot be stacked (the log says why) or are more than 500; E2BIG for markers
// that no execve(2) takes.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "fuse/filesystem.h"
#include "overlay/common.h"
#include "overlay/overlay.h"
#include "sys/caller_creds.h"
#include "sys/capabilities.h"
#include "sys/proc.h"
#include "views/markers.h"

namespace vellum::views {

using ViewIndex = std::uint16_t;
constexpr ViewIndex kOriginal = 0;
constexpr ViewIndex kMaxViews = 1 << 15;

struct View {
  ViewIndex index = kOriginal;
  std::uint64_t serial = 0;  // unlike the number never used again: the generation of its nodes, in file handles
  std::uint32_t uid = 0;
  std::shared_ptr<const sys::Identity> identity;  // null: the daemon's own rights
  std::string layers;                             // what they are, and the uid
  std::string turn;                               // as ViewTable::Layers::turn()
  Markers markers;                                // as the first process spelt them
  std::vector<std::string> stack;                 // paths of the layers, topmost first, to put another view on
  std::unique_ptr<fuse::Notifier> notifier;
  std::unique_ptr<overlay::Overlay> engine;
  std::atomic<std::int64_t> known{0};    // lookups of its own nodes that the kernel has
  std::atomic<std::int64_t> handles{0};  // open files and directories
  std::chrono::steady_clock::time_point idle_since{};
};
using ViewRef = std::shared_ptr<View>;

// The process is gone, or not ours to look at. What else may go wrong with looking (no descriptor, no memory) must not
// pass for that: a process would be shown another view, or have other rights.
bool out_of_sight(Errno error);

// Whether a process of the view's user could do all that the view may do on disk: it lends nobody a group.
bool may_use(const View& view, const sys::ProcessIds& ids);

class ViewTable {
 public:
  struct Settings {
    std::string mountpoint;   // absolute
    std::string original;     // a path to the covered directory that stays usable
    overlay::Options engine;  // what all views have in common
  };
  ViewTable(Settings settings, std::function<std::unique_ptr<fuse::Notifier>(ViewIndex)> make_notifier);

  // The view of the covered directory. Call once, first.
  std::expected<void, std::string> open_original();
  // What was agreed with the kernel, for all views to come.
  void agreed(const fuse::Connection& connection);
  // The mount's own device number: no layer may be on it.
  void mounted_as(dev_t device) { device_.store(device); }
  void set_workers(unsigned workers);
  // Runs what needs descriptors; where there are none left, closes those that are open for speed alone and tries again.
  template <class Open>
  auto with_room(Open open) const -> decltype(open()) {
    auto result = open();
    if (result || (result.error() != EMFILE && result.error() != ENFILE)) return result;
    settings_.engine.common->dir_fds.clear();
    return open();
  }

  // The view for these markers in the environment of a process with these ids. `around` is what that process would see
  // without them, asked for only where a layer is the mount itself.
  Result<ViewRef> view_for(const Markers& markers, const sys::ProcessIds& ids,
                           const std::function<Result<ViewRef>()>& around);
  ViewRef at(ViewIndex index) const;
  const ViewRef& original() const { return original_; }
  std::vector<ViewRef> all() const;
  // Takes the view out if nobody but the caller and the table has it, the kernel included. `forget_number` is called
  // when that is settled, before another view can get its number, with the table and the numbers locked.
  bool drop_idle(ViewRef view, const std::function<void()>& forget_number);
  void destroy_all();
  // While somebody holds it, no number passes from one view to another.
  SharedMutex& numbers() { return numbers_; }

 private:
  // A directory that a marker names.
  struct Named {
    std::string path;
    sys::UniqueFd fd;  // O_PATH; none: the covered directory, which goes by our own descriptor
    std::string key;   // what it is
  };
  struct Layers {
    std::optional<Named> upper;
    std::vector<Named> lowers;
    std::string key;     // what they are, and the uid
    std::string rights;  // the same with the groups
    // What no two views are made or ended for at once.
    const std::string& turn() const { return upper ? upper->key : rights; }
  };
  struct Opened {
    std::vector<sys::UniqueFd> held;
    std::vector<std::string> lowers;  // these three by descriptor
    std::string upper, work;
    std::string work_path;
  };
  Result<Layers> find_layers(const Markers& markers, const ViewRef& around) const;
  Result<Named> find_layer(const std::string& path) const;
  Result<sys::UniqueFd> open_found(sys::FdRef found) const;
  Result<Opened> open_layers(const Layers& layers, const Markers& markers, std::uint32_t uid) const;
  Status open_work_dir(const Markers& markers, std::uint32_t uid, sys::FdRef upper, Opened& opened) const;
  Result<ViewRef> known(const Layers& layers, const sys::ProcessIds& ids) const;
  Result<ViewRef> make(const Markers& markers, std::shared_ptr<const sys::Identity> identity, std::uint32_t uid,
                       const Layers& layers);

  Settings settings_;
  const std::function<std::unique_ptr<fuse::Notifier>(ViewIndex)> make_notifier_;
  const std::uint32_t self_ = sys::privileges().euid;
  ViewRef original_;
  std::string original_key_;
  fuse::Connection connection_;
  std::atomic<unsigned> workers_{1};
  std::atomic<dev_t> device_{0};

  // What is being made right now and for which user, or ended (kEnding), by upper or, without one, by key. Who wants
  // the same waits for it, and nobody else. A leaf.
  static constexpr std::uint32_t kEnding = std::numeric_limits<std::uint32_t>::max();
  Status take_turn(const std::string& turn, std::uint32_t uid);
  void end_turn(const std::string& turn);
  std::mutex making_mutex_;
  std::condition_variable making_done_;
  absl::flat_hash_map<std::string, std::uint32_t> making_;
  SharedMutex numbers_;  // before mutex_
  mutable SharedMutex mutex_;
  std::vector<ViewRef> views_ VELLUM_GUARDED_BY(mutex_);
  std::uint64_t last_serial_ VELLUM_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, ViewIndex> by_layers_ VELLUM_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, ViewIndex> by_upper_ VELLUM_GUARDED_BY(mutex_);
};

}  // namespace vellum::views
