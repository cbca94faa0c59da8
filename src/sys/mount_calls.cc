#include "sys/mount_calls.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "sys/file.h"

namespace vellum::sys {

Status mount(const std::string& source, const std::string& target, const std::string& type, const MountFlags& flags,
             const std::string& data) {
  unsigned long bits = 0;
  const auto set = [&bits](bool on, unsigned long bit) { bits |= on ? bit : 0UL; };
  set(flags.read_only, MS_RDONLY);
  set(flags.nosuid, MS_NOSUID);
  set(flags.nodev, MS_NODEV);
  set(flags.noexec, MS_NOEXEC);
  set(flags.noatime, MS_NOATIME);
  set(flags.nodiratime, MS_NODIRATIME);
  set(flags.relatime, MS_RELATIME);
  set(flags.strictatime, MS_STRICTATIME);
  set(flags.synchronous, MS_SYNCHRONOUS);
  set(flags.dirsync, MS_DIRSYNC);
  if (::mount(source.c_str(), target.c_str(), type.c_str(), bits, data.c_str()) != 0) return fail_errno();
  return {};
}

Status unmount_detached(const std::string& target) {
  if (::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) return fail_errno();
  return {};
}

Result<dev_t> device_of(const std::string& path) {
  struct ::statx st;
  constexpr int kFlags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW;
  if (::statx(AT_FDCWD, path.c_str(), kFlags, 0, &st) != 0) return fail_errno();
  return makedev(st.stx_dev_major, st.stx_dev_minor);
}

namespace {

Result<MountId> id_of_mount(int directory, const char* path, int how) {
  constexpr unsigned kMountId = 0x1000, kMountIdUnique = 0x4000;  // STATX_MNT_ID, STATX_MNT_ID_UNIQUE
  const int flags = how | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW;
  // One field holds either, whichever was asked for. It lies behind what older headers declare.
  struct alignas(8) Buffer {
    unsigned char bytes[256];
  };
  constexpr std::size_t kMountIdAt = 144;
  const auto ask = [=](unsigned mask, std::uint64_t& value) -> Status {
    Buffer buffer{};
    if (::syscall(SYS_statx, directory, path, flags, mask, buffer.bytes) != 0) return fail_errno();
    std::uint32_t got = 0;
    std::memcpy(&got, buffer.bytes, sizeof got);
    if ((got & mask) != 0) std::memcpy(&value, buffer.bytes + kMountIdAt, sizeof value);
    return {};
  };
  MountId result;
  TRY(ask(kMountId, result.id));
  TRY(ask(kMountIdUnique, result.unique));
  return result;
}

// Calls visit(id, mount point) for each mount of this namespace, until that returns false. False: they cannot be read.
template <class Visit>
bool for_each_mount(const Visit& visit) {
  std::ifstream table("/proc/self/mountinfo");
  if (!table) return false;
  std::string line;
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::uint64_t id = 0;
    std::string parent, device, root, escaped;
    fields >> id >> parent >> device >> root >> escaped;
    std::string path;  // blanks, tabs, newlines and backslashes are \ooo
    for (std::size_t i = 0; i < escaped.size(); ++i) {
      if (escaped[i] == '\\' && i + 3 < escaped.size()) {
        path += static_cast<char>(std::stoi(escaped.substr(i + 1, 3), nullptr, 8));
        i += 3;
      } else {
        path += escaped[i];
      }
    }
    if (!visit(id, path)) break;
  }
  return true;
}

}  // namespace

Result<MountId> mount_id(const std::string& path) { return id_of_mount(AT_FDCWD, path.c_str(), 0); }
Result<MountId> mount_id(FdRef mount) { return id_of_mount(mount.raw(), "", AT_EMPTY_PATH); }

Result<std::string> mount_point(const MountId& mount) {
  Result<std::string> found = fail(ENOENT);
  for_each_mount([&](std::uint64_t id, std::string& path) {
    if (id == mount.id) found = std::move(path);
    return !found;
  });
  if (!found) return found;
  // Covered by another mount, or the number was given to another one.
  if (const auto there = mount_id(*found); !there || *there != mount) return fail(ENOENT);
  return found;
}

bool lives_in_memory(FdRef directory) {
  struct statfs st {};
  if (::fstatfs(directory.raw(), &st) != 0 || (st.f_type != TMPFS_MAGIC && st.f_type != RAMFS_MAGIC)) return false;
  // The kernel says where it lies. Walking there could lead through a mount that waits for us.
  const auto path = readlink(directory, ("/proc/self/fd/" + std::to_string(directory.raw())).c_str());
  if (!path || !path->starts_with('/')) return false;
  const std::string below = *path == "/" ? *path : *path + "/";
  bool alone = true;
  const bool read = for_each_mount([&](std::uint64_t, const std::string& mount) {
    alone = !mount.starts_with(below) || mount == "/";
    return alone;
  });
  return read && alone;
}

Status sync_file_system(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno();
  if (::syncfs(fd.raw()) != 0) return fail_errno();
  return {};
}

Result<std::uint32_t> file_type(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return fail_errno();
  return st.st_mode & static_cast<std::uint32_t>(S_IFMT);
}

Result<std::string> real_path(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  if (real == nullptr) return fail_errno();
  std::string result = real;
  ::free(real);
  return result;
}

bool has_selinux() {
  struct statfs st {};
  return ::statfs("/sys/fs/selinux", &st) == 0 && static_cast<std::uint32_t>(st.f_type) == SELINUX_MAGIC;
}

Status enter_private_mount_namespace() {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno();
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno();
  return {};
}

}  // namespace vellum::sys
