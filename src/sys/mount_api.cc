#include "sys/mount_api.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <utility>

namespace vellum::sys {

Result<FsContext> FsContext::open(const char* type) {
  FsContext context;
  context.fd_.reset(::fsopen(type, FSOPEN_CLOEXEC));
  if (!context.fd_) return fail_errno();
  return context;
}

Status FsContext::set(const char* key, const std::string& value) {
  if (::fsconfig(fd_.raw(), FSCONFIG_SET_STRING, key, value.c_str(), 0) != 0) return fail_errno();
  return {};
}

Status FsContext::set_flag(const char* key) {
  if (::fsconfig(fd_.raw(), FSCONFIG_SET_FLAG, key, nullptr, 0) != 0) return fail_errno();
  return {};
}

Status FsContext::set_fd(const char* key, FdRef value) {
  if (::fsconfig(fd_.raw(), FSCONFIG_SET_FD, key, nullptr, value.raw()) != 0) return fail_errno();
  return {};
}

Status FsContext::create() {
  if (::fsconfig(fd_.raw(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno();
  return {};
}

Result<UniqueFd> FsContext::mount(const MountFlags& flags) {
  unsigned attributes = 0;
  const auto set = [&attributes](bool on, unsigned bit) { attributes |= on ? bit : 0U; };
  set(flags.read_only, MOUNT_ATTR_RDONLY);
  set(flags.nosuid, MOUNT_ATTR_NOSUID);
  set(flags.nodev, MOUNT_ATTR_NODEV);
  set(flags.noexec, MOUNT_ATTR_NOEXEC);
  set(flags.noatime, MOUNT_ATTR_NOATIME);
  set(flags.nodiratime, MOUNT_ATTR_NODIRATIME);
  set(flags.strictatime, MOUNT_ATTR_STRICTATIME);
  UniqueFd mount(::fsmount(fd_.raw(), FSMOUNT_CLOEXEC, attributes));
  if (!mount) return fail_errno();
  return mount;
}

std::string FsContext::messages() {
  std::string words;
  std::array<char, 1024> line;
  // One message each: a letter for its kind, a blank, the text.
  for (ssize_t got = 0; (got = ::read(fd_.raw(), line.data(), line.size())) > 2;) {
    std::string text(line.data() + 2, static_cast<std::size_t>(got) - 2);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    words += (words.empty() ? "" : "; ") + text;
  }
  return words;
}

Status attach(FdRef mount, FdRef directory) {
  constexpr unsigned kNoPaths = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
  if (::move_mount(mount.raw(), "", directory.raw(), "", kNoPaths) != 0) return fail_errno();
  return {};
}

Status map_owners(FdRef mount, FdRef user_namespace) {
  struct mount_attr attributes {};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<unsigned>(user_namespace.raw());
  if (::mount_setattr(mount.raw(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) return fail_errno();
  return {};
}

Result<std::string> make_temporary_directory() {
  const char* base = ::secure_getenv("TMPDIR");
  std::string path = std::string(base != nullptr && *base == '/' ? base : "/tmp") + "/.vellum.XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return fail_errno();
  return path;
}

Status remove_directory(const std::string& path) {
  if (::rmdir(path.c_str()) != 0) return fail_errno();
  return {};
}

Result<std::pair<UniqueFd, std::string>> attach_loop_device(FdRef file) {
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return fail_errno();
  // Others look for a free device too: whoever configures it first has it.
  constexpr int kTries = 64;
  for (int i = 0; i < kTries; ++i) {
    const int number = ::ioctl(control.raw(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail_errno();
    std::string path = "/dev/loop" + std::to_string(number);
    UniqueFd device(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!device) return fail_errno();
    struct loop_config config {};
    config.fd = static_cast<__u32>(file.raw());
    config.block_size = 4096;
    config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    if (::ioctl(device.raw(), LOOP_CONFIGURE, &config) == 0) return std::pair(std::move(device), std::move(path));
    if (errno != EBUSY) return fail_errno();
  }
  return fail(EBUSY);
}

}  // namespace vellum::sys
