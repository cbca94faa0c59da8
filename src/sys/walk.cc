#include "sys/walk.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/fsuid.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace vellum::sys {
namespace {

constexpr int kDirectory = O_PATH | O_DIRECTORY | O_NOFOLLOW;
constexpr unsigned kMostLinks = 40;  // as the kernel

// By what the kernel has in its cache alone: EAGAIN where a file system would have to be asked. (RESOLVE_CACHED)
Result<UniqueFd> open_cached(const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_CACHED | RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how);
  if (fd < 0) return fail_errno();
  return UniqueFd(static_cast<int>(fd));
}

Status check_outside(FdRef fd, dev_t device) {
  if (TRY(place_of(fd)).device == device) return fail(ELOOP);
  return {};
}

// What the kernel asks of those who follow a link themselves (fs.protected_symlinks; magic links are procfs's).
Status may_follow(FdRef dir, FdRef link) {
  struct ::statfs fs;
  if (::fstatfs(link.raw(), &fs) != 0) return fail_errno();
  if (fs.f_type == PROC_SUPER_MAGIC) return fail(ELOOP);
  const Statx around = TRY(statx(dir, ""));
  if ((around.mode & (S_ISVTX | S_IWOTH)) != (S_ISVTX | S_IWOTH)) return {};
  const std::uint32_t owner = TRY(statx(link, "")).uid;
  const auto self = static_cast<std::uint32_t>(::setfsuid(static_cast<uid_t>(-1)));
  if (owner != self && owner != around.uid) return fail(EACCES);
  return {};
}

}  // namespace

Result<Place> place_of(FdRef fd) {
  struct ::statx st;
  constexpr int kFlags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
  if (::statx(fd.raw(), "", kFlags, STATX_INO, &st) != 0) return fail_errno();
  return Place{.device = makedev(st.stx_dev_major, st.stx_dev_minor), .ino = st.stx_ino};
}

Status check_writable(FdRef dir) {
  if (::syscall(SYS_faccessat2, dir.raw(), "", W_OK | X_OK, AT_EMPTY_PATH | AT_EACCESS) == 0) return {};
  if (errno == ENOSYS) return {};  // before Linux 5.8: found out by the first write
  return fail_errno();
}

Result<UniqueFd> walk_outside(const std::string& path, dev_t device) {
  if (!path.starts_with('/')) return fail(EINVAL);
  if (auto fd = open_cached(path)) {
    TRY(check_outside(*fd, device));
    return fd;
  }
  // Step by step: a mount is seen when it was entered and before a name is looked up in it.
  UniqueFd at = TRY(open("/", kDirectory));
  std::string rest = path;
  for (unsigned links = 0;;) {
    const auto begin = rest.find_first_not_of('/');
    if (begin == std::string::npos) return at;
    const auto end = std::min(rest.find('/', begin), rest.size());
    const std::string name = rest.substr(begin, end - begin);
    rest.erase(0, end);
    if (auto next = openat(at, name.c_str(), kDirectory)) {
      TRY(check_outside(*next, device));
      at = std::move(*next);
      continue;
    } else if (next.error() != ENOTDIR) {
      return fail(next.error());
    }
    const UniqueFd link = TRY(openat(at, name.c_str(), O_PATH | O_NOFOLLOW));
    TRY(check_outside(link, device));
    if (!TRY(statx(link, "")).is_symlink()) return fail(ENOTDIR);
    if (++links > kMostLinks) return fail(ELOOP);
    TRY(may_follow(at, link));
    const std::string target = TRY(readlink(link, ""));
    if (target.starts_with('/')) at = TRY(open("/", kDirectory));
    rest.insert(0, target);
  }
}

}  // namespace vellum::sys
