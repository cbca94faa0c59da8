// A mounted overlay whose layers are written down as the tree they are:
//
//   OverlayFixture fs({.lower = {{"a/f", File{"old", 0444}}, {"d", Dir{0700}}}, .upper = {{"a/g", File{"new"}}}});
//   EXPECT_EQ(read_file(fs / "a/f"), "old");
//
// Parents of a named entry are made with mode 0755. The overlay is mounted by the backend of this run (backend.h)
// and is unmounted, its daemon waited for, and its layers removed at the end of the scope.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "support/backend.h"
#include "support/files.h"
#include "support/stage.h"

namespace vellum::test {

struct Xattr {
  std::string name, value;
};
using Xattrs = std::vector<Xattr>;

struct File {
  std::string content{};
  mode_t mode = 0644;
  Xattrs xattrs{};
  uid_t uid = static_cast<uid_t>(-1);  // -1: whoever the backend runs as
  gid_t gid = static_cast<gid_t>(-1);
};
struct Dir {
  mode_t mode = 0755;
  Xattrs xattrs{};
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
};
struct Symlink {
  std::string target;
};
struct Fifo {
  mode_t mode = 0644;
};
struct Socket {
  mode_t mode = 0755;
};
struct Device {
  mode_t mode;  // with S_IFCHR or S_IFBLK
  unsigned major, minor;
};
struct HardLink {
  std::string to;  // an entry named before, from the layer's root
};
struct Whiteout {};  // a character device 0/0

using Entry = std::variant<File, Dir, Symlink, Fifo, Socket, Device, HardLink, Whiteout>;
using Tree = std::vector<std::pair<std::string, Entry>>;

// Makes the entries below an existing directory.
void make_tree(const std::string& root, const Tree& tree);

// A directory marked opaque in the way the backend writes it: trusted where it may, else user.
Dir opaque_dir();
// The overlay xattr prefix kernel overlayfs of this backend uses: "trusted.overlay." or "user.overlay.".
std::string overlay_xattr(const std::string& name);

struct OverlaySpec {
  Tree lower{};
  std::vector<Tree> lowers{};        // instead of `lower`; topmost first
  std::vector<std::string> below{};  // directories that already exist, as the lowest layers
  Tree upper{};
  bool read_only = false;        // no upper layer
  std::string options{};         // for every backend, comma-separated
  std::string vellum_options{};  // for our binary and the peer only; VELLUM_TEST_OPTIONS adds to ours
  std::string kernel_options{};  // for kernel overlayfs only
  Store lower_on = Store::kDefault;
  Store upper_on = Store::kDefault;
};

class OverlayFixture {
 public:
  explicit OverlayFixture(const OverlaySpec& spec);
  ~OverlayFixture();
  OverlayFixture(const OverlayFixture&) = delete;
  OverlayFixture& operator=(const OverlayFixture&) = delete;

  // Paths: in the mounted tree, and in the layers as they lie on disk.
  std::string operator/(const std::string& path) const { return mountpoint_ + "/" + path; }
  const std::string& root() const { return mountpoint_; }
  std::string upper(const std::string& path = "") const { return join(upper_, path); }
  std::string lower(const std::string& path = "", std::size_t layer = 0) const { return join(lowers_[layer], path); }
  std::string work() const { return work_; }
  const std::vector<std::string>& lowers() const { return lowers_; }

  void mount();
  void unmount();
  void remount() {
    unmount();
    mount();
  }
  // The same layers under kernel overlayfs, in place of the backend's mount. Needs rights to mount it (not a plain
  // user).
  void remount_on_kernel();
  // Drops what the kernel has cached of the mounted tree.
  void drop_caches() const;

  pid_t daemon() const { return daemon_; }  // 0 when the kernel serves the mount
  bool mounted() const { return mounted_; }
  // lowerdir=…,upperdir=…,workdir=… of this overlay's layers, for the command line.
  std::string layer_options() const;

 private:
  static std::string join(const std::string& root, const std::string& path) {
    return path.empty() ? root : root + "/" + path;
  }

  std::string options_, vellum_options_, kernel_options_;
  std::string place_, upper_place_, upper_, work_, mountpoint_;
  std::vector<std::string> lowers_;
  bool mounted_ = false, by_kernel_ = false;
  pid_t daemon_ = 0;
};

// Mounts kernel overlayfs with this spelled-out list of layers; 0 or -1 with errno.
struct KernelOverlay {
  std::vector<std::string> lowers;
  std::string upper{}, work{}, options{};
};
int mount_kernel_overlay(const KernelOverlay& layers, const std::string& mountpoint);

// Runs `fuse-overlayfs ARGS…` (ours, or the peer in its backend) in the foreground until it has returned; its
// daemon, if it left one, is `daemon`.
struct Mounted {
  int status = 0;
  std::string output{};
  pid_t daemon = 0;
};
Mounted run_fuse_overlayfs(const std::vector<std::string>& arguments);
// Starts it and does not wait: for -f. Output goes to a file.
pid_t start_fuse_overlayfs(const std::vector<std::string>& arguments, const std::string& output_file);
// Waits for one of our children to end: its exit status (128+N for a signal), or -1 (and SIGKILL) if it does not.
int wait_for_end(pid_t child);
// Unmounts as the backend's user does.
int unmount_fuse(const std::string& mountpoint);
bool is_mountpoint(const std::string& path);
// A fresh empty directory, removed with everything else when the stage ends.
std::string fresh_dir(Store store = Store::kDefault);
std::vector<pid_t> children();

}  // namespace vellum::test
