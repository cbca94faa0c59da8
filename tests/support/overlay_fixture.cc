#include "support/overlay_fixture.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace vellum::test {
namespace {

constexpr const char* kBinary = "/mnt/bin/fuse-overlayfs";

template <class... Makers>
struct Overloaded : Makers... {
  using Makers::operator()...;
};
template <class... Makers>
Overloaded(Makers...) -> Overloaded<Makers...>;

void make_parents(const std::string& root, const std::string& path) {
  for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    std::string parent = root + "/" + path.substr(0, slash);
    if (::mkdir(parent.c_str(), 0755) < 0 && errno != EEXIST) {
      ADD_FAILURE() << "mkdir " << parent << ": " << errno_name(errno);
    }
  }
}

// What the caller's own rights do not allow (foreign owners, devices, trusted xattrs) is done as root.
template <class Spec>
void dress(const std::string& path, const Spec& spec) {
  if (spec.uid != static_cast<uid_t>(-1) || spec.gid != static_cast<gid_t>(-1)) {
    as_root([&] { EXPECT_OK(::lchown(path.c_str(), spec.uid, spec.gid)); });
  }
  for (const auto& xattr : spec.xattrs) {
    as_root([&] { EXPECT_OK(set_xattr(path, xattr.name, xattr.value)) << path << " " << xattr.name; });
  }
  as_root([&] { EXPECT_OK(::chmod(path.c_str(), spec.mode)); });
}

void make_socket(const std::string& path, mode_t mode) {
  // A socket's address is short, a layer's path may not be: bind below the parent's fd.
  std::size_t slash = path.rfind('/');
  Fd parent(path.substr(0, slash), O_PATH | O_DIRECTORY);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string near = "/proc/self/fd/" + std::to_string(static_cast<int>(parent)) + "/" + path.substr(slash + 1);
  std::memcpy(address.sun_path, near.c_str(), near.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_OK(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  EXPECT_OK(::chmod(path.c_str(), mode));
}

void make_entry(const std::string& root, const std::string& name, const Entry& entry) {
  make_parents(root, name);
  std::string path = root + "/" + name;
  std::visit(Overloaded{
                 [&](const File& file) {
                   EXPECT_OK(create_file(path, file.content)) << path;
                   dress(path, file);
                 },
                 [&](const Dir& dir) {
                   EXPECT_TRUE(::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) << path;
                   dress(path, dir);
                 },
                 [&](const Symlink& link) { EXPECT_OK(::symlink(link.target.c_str(), path.c_str())) << path; },
                 [&](const Fifo& fifo) {
                   EXPECT_OK(::mkfifo(path.c_str(), 0600)) << path;
                   EXPECT_OK(::chmod(path.c_str(), fifo.mode));
                 },
                 [&](const Socket& socket) { make_socket(path, socket.mode); },
                 [&](const Device& device) {
                   as_root([&] {
                     EXPECT_OK(::mknod(path.c_str(), device.mode, makedev(device.major, device.minor))) << path;
                     EXPECT_OK(::chmod(path.c_str(), device.mode & 07777));
                   });
                 },
                 [&](const HardLink& link) { EXPECT_OK(::link((root + "/" + link.to).c_str(), path.c_str())) << path; },
                 [&](const Whiteout&) { EXPECT_OK(::mknod(path.c_str(), S_IFCHR | 0600, makedev(0, 0))) << path; },
             },
             entry);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

std::string escaped(const std::string& path, const std::string& special) {
  std::string out;
  for (char c : path) {
    if (special.find(c) != std::string::npos) out += '\\';
    out += c;
  }
  return out;
}

int wait_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

pid_t spawn(const std::vector<std::string>& arguments, int output) {
  std::vector<char*> argv{const_cast<char*>("fuse-overlayfs")};
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output, 1);
  ::posix_spawn_file_actions_adddup2(&actions, output, 2);
  pid_t child = 0;
  int error = ::posix_spawn(&child, kBinary, &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  EXPECT_EQ(errno_name(error), "0") << "start " << kBinary;
  return error == 0 ? child : -1;
}

}  // namespace

void make_tree(const std::string& root, const Tree& tree) {
  // Directories get their modes last, so that a read-only one can be filled.
  for (const auto& [name, entry] : tree) {
    if (!std::holds_alternative<Dir>(entry)) make_entry(root, name, entry);
  }
  for (auto at = tree.rbegin(); at != tree.rend(); ++at) {
    if (std::holds_alternative<Dir>(at->second)) make_entry(root, at->first, at->second);
  }
}

std::string overlay_xattr(const std::string& name) {
  return (on(kUnprivileged) ? "user.overlay." : "trusted.overlay.") + name;
}

Dir opaque_dir() { return {.xattrs = {{overlay_xattr("opaque"), "y"}}}; }

std::vector<pid_t> children() {
  std::vector<pid_t> found;
  for (const auto& task : names_in("/proc/self/task")) {
    std::ifstream list("/proc/self/task/" + task + "/children");
    for (pid_t pid = 0; list >> pid;) found.push_back(pid);
  }
  return found;
}

std::string fresh_dir(Store store) {
  static int count = 0;
  std::string path = store_path(store) + "/c" + std::to_string(++count);
  EXPECT_OK(::mkdir(path.c_str(), 0755)) << path;
  return path;
}

bool is_mountpoint(const std::string& path) {
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    if (split(line, ' ')[4] == path) return true;
  }
  return false;
}

int unmount_fuse(const std::string& mountpoint) {
  if (!on(kVellumUser)) return ::umount2(mountpoint.c_str(), 0);
  Ran ran = run("fusermount3 -u '" + mountpoint + "'");
  if (ran.status == 0) return 0;
  errno = EBUSY;
  return -1;
}

int wait_for_end(pid_t child) {
  int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  if (pidfd < 0) return -1;
  Fd owned(pidfd);
  pollfd ended{.fd = pidfd, .events = POLLIN, .revents = 0};
  bool in_time = ::poll(&ended, 1, 20'000) == 1;
  if (!in_time) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return in_time ? wait_status(status) : -1;
}

pid_t start_fuse_overlayfs(const std::vector<std::string>& arguments, const std::string& output_file) {
  Fd output(output_file, O_RDWR | O_CREAT | O_APPEND);
  return spawn(arguments, output);
}

Mounted run_fuse_overlayfs(const std::vector<std::string>& arguments) {
  Mounted result;
  std::vector<pid_t> before = children();
  // A file, not a pipe: the daemon may keep it open.
  Fd output(::memfd_create("output", MFD_CLOEXEC));
  pid_t child = spawn(arguments, output);
  if (child < 0) return {.status = -1};
  result.status = wait_for_end(child);
  result.output = read_fd(output);
  for (pid_t pid : children()) {
    if (std::find(before.begin(), before.end(), pid) == before.end()) result.daemon = pid;
  }
  return result;
}

int mount_kernel_overlay(const KernelOverlay& layers, const std::string& mountpoint) {
  int raw = static_cast<int>(::syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC));
  if (raw < 0) return -1;
  Fd context(raw);
  auto set = [&](const std::string& key, const std::string& value) {
    return ::syscall(SYS_fsconfig, raw, FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0);
  };
  for (const auto& lower : layers.lowers) {
    if (set("lowerdir+", lower) < 0) return -1;
  }
  if (!layers.upper.empty() && (set("upperdir", layers.upper) < 0 || set("workdir", layers.work) < 0)) return -1;
  for (const auto& option : split(layers.options, ',')) {
    std::size_t equals = option.find('=');
    long result = equals == std::string::npos
                      ? ::syscall(SYS_fsconfig, raw, FSCONFIG_SET_FLAG, option.c_str(), nullptr, 0)
                      : set(option.substr(0, equals), option.substr(equals + 1));
    if (result < 0) return -1;
  }
  if (::syscall(SYS_fsconfig, raw, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) {
    int error = errno;
    std::string why(1024, '\0');
    while (::read(raw, why.data(), why.size()) > 0) std::fprintf(stderr, "kernel overlayfs: %s\n", why.c_str());
    errno = error;
    return -1;
  }
  int mount = static_cast<int>(::syscall(SYS_fsmount, raw, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOATIME));
  if (mount < 0) return -1;
  Fd owned(mount);
  return static_cast<int>(::syscall(SYS_move_mount, mount, "", AT_FDCWD, mountpoint.c_str(), MOVE_MOUNT_F_EMPTY_PATH));
}

OverlayFixture::OverlayFixture(const OverlaySpec& spec)
    : options_(spec.options), vellum_options_(spec.vellum_options), kernel_options_(spec.kernel_options) {
  Store upper_store = spec.upper_on == Store::kDefault ? default_upper_store() : spec.upper_on;
  place_ = fresh_dir(spec.lower_on);
  mountpoint_ = fresh_dir(Store::kTmpfs);  // fusermount3 mounts over known kinds of file systems only
  std::vector<Tree> trees = spec.lowers;
  if (trees.empty() && (spec.below.empty() || !spec.lower.empty())) trees.push_back(spec.lower);
  for (std::size_t i = 0; i < trees.size(); ++i) {
    lowers_.push_back(place_ + "/lower" + std::to_string(i));
    EXPECT_OK(::mkdir(lowers_.back().c_str(), 0755));
    make_tree(lowers_.back(), trees[i]);
  }
  for (const auto& dir : spec.below) lowers_.push_back(dir);
  if (!spec.read_only) {
    upper_place_ = fresh_dir(upper_store);
    upper_ = upper_place_ + "/upper";
    work_ = upper_place_ + "/work";
    EXPECT_OK(::mkdir(upper_.c_str(), 0755));
    EXPECT_OK(::mkdir(work_.c_str(), 0755));
    make_tree(upper_, spec.upper);
  }
  mount();
}

OverlayFixture::~OverlayFixture() {
  if (mounted_) unmount();
  if (::testing::Test::HasFailure()) return;  // the stage removes it; until then it can be looked at
  // Layers may hold what the plain user cannot remove.
  as_root([&] {
    remove_tree(place_);
    remove_tree(mountpoint_);
    if (!upper_place_.empty()) remove_tree(upper_place_);
  });
}

std::string OverlayFixture::layer_options() const {
  std::string text = "lowerdir=";
  for (const auto& lower : lowers_) text += (lower == lowers_.front() ? "" : ":") + escaped(lower, ":,\\");
  if (!upper_.empty()) text += ",upperdir=" + escaped(upper_, ",\\") + ",workdir=" + escaped(work_, ",\\");
  return text;
}

void OverlayFixture::mount() {
  ASSERT_FALSE(mounted_);
  if (on(kKernel) || on(kKernelUserns)) {
    remount_on_kernel();
    return;
  }
  std::string text = layer_options();
  const char* every = on(kAnyVellum) ? std::getenv("VELLUM_TEST_OPTIONS") : nullptr;
  for (const auto& more : {options_, vellum_options_, std::string(every != nullptr ? every : "")}) {
    if (!more.empty()) text += "," + more;
  }
  Mounted result = run_fuse_overlayfs({"-o", text, mountpoint_});
  EXPECT_EQ(result.status, 0) << "fuse-overlayfs -o " << text << " " << mountpoint_ << "\n" << result.output;
  daemon_ = result.daemon;
  mounted_ = result.status == 0;
  if (!mounted_) throw std::runtime_error("cannot mount: " + result.output);
}

void OverlayFixture::remount_on_kernel() {
  if (mounted_) unmount();
  std::string options = options_;
  if (on(kAnyKernel) && !kernel_options_.empty()) options += (options.empty() ? "" : ",") + kernel_options_;
  if (on(kAnyUserns)) options += options.empty() ? "userxattr" : ",userxattr";
  if (mount_kernel_overlay({.lowers = lowers_, .upper = upper_, .work = work_, .options = options}, mountpoint_) < 0) {
    throw std::runtime_error("cannot mount kernel overlayfs with '" + options + "': " + errno_name(errno));
  }
  mounted_ = by_kernel_ = true;
}

void OverlayFixture::unmount() {
  ASSERT_TRUE(mounted_);
  mounted_ = false;
  if (std::exchange(by_kernel_, false)) {
    EXPECT_OK(::umount2(mountpoint_.c_str(), 0)) << "unmount " << mountpoint_;
    return;
  }
  if (unmount_fuse(mountpoint_) < 0) {
    ADD_FAILURE() << "unmount " << mountpoint_ << ": " << errno_name(errno);
    as_root([&] { ::umount2(mountpoint_.c_str(), MNT_DETACH); });
    ::kill(daemon_, SIGKILL);
  }
  EXPECT_NE(daemon_, 0) << "no daemon was left to serve the mount";
  if (pid_t ended = std::exchange(daemon_, 0); ended != 0) {
    EXPECT_EQ(wait_for_end(ended), 0) << "how the daemon ended after the unmount";
  }
}

void OverlayFixture::drop_caches() const { drop_machine_caches(); }

}  // namespace vellum::test
