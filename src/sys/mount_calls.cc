#include "sys/mount_calls.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

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

Status unmount(const std::string& target) {
  if (::umount2(target.c_str(), UMOUNT_NOFOLLOW) != 0) return fail_errno();
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

Status enter_private_mount_namespace() {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno();
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno();
  return {};
}

}  // namespace vellum::sys
