// An overlay without a mount: layers written down as the tree they are, and the calls a kernel would make.
//
//   OverlayFixture fs({.lower = {{"a/f", File{"old", 0444}}}, .upper = {}});
//   EXPECT_EQ(fs.read("a/f"), "old");
//
// Paths are walked by LOOKUP, each lookup is counted, and forget_all() gives all counts back. With
// `through_wire` every call goes through Client, a socket pair and a Session.
// Parents of a named entry are made with mode 0755. Threads: belongs to one (fs() itself is safe).
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "fuse/loopback.h"
#include "overlay/overlay.h"
#include "unit/temp_dir.h"

namespace vellum::overlay::testing {

using vellum::testing::exists;
using vellum::testing::is_root;
using vellum::testing::lstat_of;
using vellum::testing::read_file;
using vellum::testing::set_xattr;
using vellum::testing::TempDir;
using vellum::testing::write_file;
using vellum::testing::xattr_of;

using Xattrs = std::vector<std::pair<std::string, std::string>>;
struct File {
  std::string content{};
  mode_t mode = 0644;
  Xattrs xattrs{};
};
struct Dir {
  mode_t mode = 0755;
  Xattrs xattrs{};
};
struct Symlink {
  std::string target;
};
struct Special {
  mode_t mode;
  dev_t rdev = 0;
};
struct HardLink {
  std::string to;
};
using Item = std::variant<File, Dir, Symlink, Special, HardLink>;
using Tree = std::vector<std::pair<std::string, Item>>;

inline Special whiteout() { return Special{S_IFCHR}; }
inline Dir opaque() { return Dir{0755, {{"user.overlay.opaque", "y"}}}; }

void make_tree(const std::string& root, const Tree& tree);

struct Spec {
  Tree lower{};
  std::vector<Tree> lowers{};  // instead of `lower`, topmost first
  Tree upper{};
  bool read_only = false;
  Options options{};  // its layers are filled in, below those that it has
  bool through_wire = false;
  std::string base = ::testing::TempDir();  // where the layers lie
};

// What readdir says: name to (ino, type).
struct Seen {
  std::uint64_t ino;
  std::uint32_t type;
};

class OverlayFixture {
 public:
  explicit OverlayFixture(Spec spec);
  ~OverlayFixture();

  Overlay& engine() { return *engine_; }
  fuse::Filesystem& fs() { return *fs_; }
  void remount();

  // On disk.
  std::string lower(const std::string& path = {}, std::size_t layer = 0) const;
  std::string upper(const std::string& path = {}) const { return dir_ / ("upper" + slash(path)); }
  std::string work(const std::string& path = {}) const { return dir_ / ("work/work" + slash(path)); }
  // Names in the upper directory as they are on disk, and what is left in the work directory.
  std::set<std::string> upper_names(const std::string& path = {}) const { return names_on_disk(upper(path)); }
  std::set<std::string> litter() const;

  // In the merged tree. ENOENT for a name that is not there.
  Result<fuse::Entry> look(const std::string& path);
  bool has(const std::string& path) { return look(path).has_value(); }
  fuse::NodeId node(const std::string& path);  // fails the test if there is none
  fuse::Attr attr(const std::string& path);
  Result<std::string> read(const std::string& path);
  Status write(const std::string& path, const std::string& content, int flags = O_WRONLY);
  Status create(const std::string& path, const std::string& content = {}, std::uint32_t mode = 0644);
  Status mkdir(const std::string& path, std::uint32_t mode = 0755);
  Status symlink(const std::string& target, const std::string& path);
  Status link(const std::string& from, const std::string& path);
  Status unlink(const std::string& path);
  Status rmdir(const std::string& path);
  Status rename(const std::string& from, const std::string& to, fuse::RenameFlags flags = {});
  Status set(const std::string& path, const fuse::SetAttr& change);
  std::map<std::string, Seen> list(const std::string& path = {});
  std::set<std::string> names(const std::string& path = {});  // without the dots
  Result<fuse::HandleId> open(const std::string& path, int flags);
  Result<std::string> read_handle(fuse::NodeId node, fuse::HandleId handle, std::uint64_t offset = 0);
  Result<std::size_t> write_handle(fuse::NodeId node, fuse::HandleId handle, std::uint64_t offset,
                                   const std::string& content);
  // Every regular file and directory of the merged tree, as text; reads contents.
  std::string whole_tree();

  void count(fuse::NodeId node) { ++counted_[node]; }
  void forget_all();

  fuse::Caller caller{.uid = ::geteuid(), .gid = ::getegid(), .pid = 1};

 private:
  static std::string slash(const std::string& path) { return path.empty() ? path : "/" + path; }
  static std::set<std::string> names_on_disk(const std::string& path);
  // The parent's node and the last component.
  Result<std::pair<fuse::NodeId, std::string>> parent_of(const std::string& path);
  Status keep(const Result<fuse::Entry>& entry);
  void start();
  void describe(const std::string& path, std::string& out);

  TempDir dir_;
  Spec spec_;
  std::unique_ptr<Overlay> engine_;
  std::unique_ptr<fuse::Loopback> loopback_;
  fuse::Filesystem* fs_ = nullptr;
  std::map<fuse::NodeId, std::uint64_t> counted_;
};

}  // namespace vellum::overlay::testing
