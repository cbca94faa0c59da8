#include "sys/file.h"

#include <dirent.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

namespace vellum::sys {
namespace {

template <class Call>
auto retry(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

Status status(long result) {
  if (result < 0) return fail_errno();
  return {};
}

Result<UniqueFd> owned(long fd) {
  if (fd < 0) return fail_errno();
  return UniqueFd(static_cast<int>(fd));
}

timespec to_timespec(const statx_timestamp& t) { return {.tv_sec = t.tv_sec, .tv_nsec = static_cast<long>(t.tv_nsec)}; }

Result<Statx> do_statx(int dir, const char* name, int flags) {
  struct ::statx raw;
  if (retry([&] {
        return ::statx(dir, name, flags | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &raw);
      }) < 0) {
    return fail_errno();
  }
  return Statx{.ino = raw.stx_ino,
               .size = raw.stx_size,
               .blocks = raw.stx_blocks,
               .mode = raw.stx_mode,
               .nlink = raw.stx_nlink,
               .uid = raw.stx_uid,
               .gid = raw.stx_gid,
               .blksize = raw.stx_blksize,
               .dev = makedev(raw.stx_dev_major, raw.stx_dev_minor),
               .rdev = makedev(raw.stx_rdev_major, raw.stx_rdev_minor),
               .atime = to_timespec(raw.stx_atime),
               .mtime = to_timespec(raw.stx_mtime),
               .ctime = to_timespec(raw.stx_ctime),
               .btime = to_timespec(raw.stx_btime),
               .has_btime = (raw.stx_mask & STATX_BTIME) != 0,
               .mount = (raw.stx_mask & STATX_MNT_ID) != 0 ? raw.stx_mnt_id : 0,
               .protected_by_flag = (raw.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0};
}

// "/proc/self/fd/N": the way to an object behind an O_PATH fd for calls that have no AT_EMPTY_PATH.
struct ProcPath {
  explicit ProcPath(FdRef fd) { std::snprintf(text.data(), text.size(), "/proc/self/fd/%d", fd.raw()); }
  std::array<char, 40> text{};
  const char* c_str() const { return text.data(); }
};

Result<UniqueFd> open_resolving(FdRef root, const char* path, int flags, std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.resolve = resolve;
  for (int tries = 0;; ++tries) {
    long fd = ::syscall(SYS_openat2, root.raw(), path, &how, sizeof how);
    // EAGAIN: a rename somewhere raced with the check that we stay beneath.
    if (fd < 0 && (errno == EINTR || (errno == EAGAIN && tries < 64))) continue;
    return owned(fd);
  }
}

Result<UniqueFd> open_beneath_once(FdRef root, const char* path, int flags, MountsBelow mounts) {
  std::uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  if (mounts == MountsBelow::kRefused) resolve |= RESOLVE_NO_XDEV;
  return open_resolving(root, path, flags | O_NOFOLLOW, resolve);
}

}  // namespace

Result<UniqueFd> open(const char* path, int flags, mode_t mode) {
  return owned(retry([&] { return ::open(path, flags | O_CLOEXEC, mode); }));
}

Result<UniqueFd> openat(FdRef dir, const char* name, int flags, mode_t mode) {
  return owned(retry([&] { return ::openat(dir.raw(), name, flags | O_CLOEXEC | O_NOFOLLOW, mode); }));
}

Result<UniqueFd> open_beneath(FdRef root, std::string_view path, int flags, MountsBelow mounts) {
  // One call takes less than PATH_MAX bytes: longer paths go in stages that end at a slash.
  constexpr std::size_t kStage = 4000;
  UniqueFd stage;
  FdRef at = root;
  while (path.size() > kStage) {
    std::size_t cut = path.rfind('/', kStage);
    if (cut == std::string_view::npos || cut == 0) return fail(ENAMETOOLONG);
    stage = TRY(open_beneath_once(at, std::string(path.substr(0, cut)).c_str(), O_PATH | O_DIRECTORY, mounts));
    at = stage;
    path.remove_prefix(cut + 1);
  }
  return open_beneath_once(at, path.empty() ? "." : std::string(path).c_str(), flags, mounts);
}

Result<UniqueFd> reopen(FdRef fd, int flags) {
  ProcPath path(fd);
  return owned(retry([&] { return ::open(path.c_str(), (flags | O_CLOEXEC) & ~O_NOFOLLOW); }));
}

Result<UniqueFd> dup(FdRef fd) { return owned(::fcntl(fd.raw(), F_DUPFD_CLOEXEC, 3)); }

Result<Statx> statx(FdRef dir, const char* name) {
  return do_statx(dir.raw(), name, AT_SYMLINK_NOFOLLOW | (*name == '\0' ? AT_EMPTY_PATH : 0));
}

Result<Statx> statx_path(const char* path) { return do_statx(AT_FDCWD, path, 0); }

Result<std::string> readlink(FdRef dir, const char* name) {
  std::array<char, 4097> buffer;
  ssize_t length = ::readlinkat(dir.raw(), name, buffer.data(), buffer.size());
  if (length < 0) return fail_errno();
  return std::string(buffer.data(), static_cast<std::size_t>(length));
}

Result<struct statvfs> statvfs(FdRef fd) {
  struct statvfs result;
  if (retry([&] { return ::fstatvfs(fd.raw(), &result); }) < 0) return fail_errno();
  return result;
}

std::chrono::nanoseconds age(const timespec& time) {
  const auto then = std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  return std::chrono::system_clock::now().time_since_epoch() - then;
}

bool on_local_fs(FdRef fd) {
  constexpr std::uint32_t kXfs = 0x58465342;  // <linux/magic.h> does not have it
  constexpr std::array<std::uint32_t, 5> kLocal = {EXT4_SUPER_MAGIC, kXfs, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC,
                                                   TMPFS_MAGIC};
  struct ::statfs st {};
  return ::fstatfs(fd.raw(), &st) == 0 &&
         std::ranges::find(kLocal, static_cast<std::uint32_t>(st.f_type)) != kLocal.end();
}

Result<std::uint64_t> fs_id(FdRef fd) {
  struct statfs raw;
  if (retry([&] { return ::fstatfs(fd.raw(), &raw); }) < 0) return fail_errno();
  std::uint64_t id = 0;
  static_assert(sizeof raw.f_fsid >= sizeof id);
  std::memcpy(&id, &raw.f_fsid, sizeof id);
  return id;
}

Status mkdir(FdRef dir, const char* name, mode_t mode) { return status(::mkdirat(dir.raw(), name, mode)); }

Status mkdir_path(const char* path, mode_t mode) { return status(::mkdir(path, mode)); }

Status mknod(FdRef dir, const char* name, mode_t mode, dev_t dev) {
  return status(::mknodat(dir.raw(), name, mode, dev));
}

Status symlink(const char* target, FdRef dir, const char* name) { return status(::symlinkat(target, dir.raw(), name)); }

Status link(FdRef old_dir, const char* old_name, FdRef dir, const char* name) {
  return status(::linkat(old_dir.raw(), old_name, dir.raw(), name, 0));
}

Status link_fd(FdRef fd, FdRef dir, const char* name) {
  ProcPath path(fd);
  return status(::linkat(AT_FDCWD, path.c_str(), dir.raw(), name, AT_SYMLINK_FOLLOW));
}

Status unlink(FdRef dir, const char* name) { return status(::unlinkat(dir.raw(), name, 0)); }

Status rmdir(FdRef dir, const char* name) { return status(::unlinkat(dir.raw(), name, AT_REMOVEDIR)); }

Status rename(FdRef old_dir, const char* old_name, FdRef dir, const char* name, unsigned flags) {
  return status(::syscall(SYS_renameat2, old_dir.raw(), old_name, dir.raw(), name, flags));
}

Status chmod(FdRef dir, const char* name, mode_t mode) {
#ifdef SYS_fchmodat2
  constexpr long kFchmodat2 = SYS_fchmodat2;
#else
  constexpr long kFchmodat2 = 452;
#endif
  int flags = *name == '\0' ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
  long result = ::syscall(kFchmodat2, dir.raw(), name, mode, flags);
  if (result == 0 || errno != ENOSYS) return status(result);
  // Before Linux 6.6 only /proc leads to an object without following it.
  UniqueFd found;
  FdRef fd = dir;
  if (*name != '\0') {
    found = TRY(openat(dir, name, O_PATH));
    fd = found;
  }
  return status(::chmod(ProcPath(fd).c_str(), mode));
}

Status chown(FdRef dir, const char* name, std::uint32_t uid, std::uint32_t gid) {
  return status(::fchownat(dir.raw(), name, uid, gid, AT_SYMLINK_NOFOLLOW | (*name == '\0' ? AT_EMPTY_PATH : 0)));
}

Status utimens(FdRef dir, const char* name, const timespec& atime, const timespec& mtime) {
  const timespec times[2] = {atime, mtime};
  if (*name != '\0') return status(::utimensat(dir.raw(), name, times, AT_SYMLINK_NOFOLLOW));
  // AT_EMPTY_PATH came to utimensat with Linux 6.6 or so and not for every libc: /proc serves all.
  return status(::utimensat(AT_FDCWD, ProcPath(dir).c_str(), times, 0));
}

Status truncate(FdRef fd, std::uint64_t size) {
  return status(retry([&] { return ::ftruncate(fd.raw(), static_cast<off_t>(size)); }));
}

Result<std::size_t> read_some(FdRef fd, std::span<std::byte> out) {
  const ssize_t n = retry([&] { return ::read(fd.raw(), out.data(), out.size()); });
  if (n < 0) return fail_errno();
  return static_cast<std::size_t>(n);
}

Status check_access(FdRef fd, int rights) {
  return status(static_cast<int>(::syscall(SYS_faccessat2, fd.raw(), "", rights, AT_EMPTY_PATH | AT_EACCESS)));
}

Result<std::uint64_t> file_size(FdRef fd) {
  struct stat st {};
  if (::fstat(fd.raw(), &st) != 0) return fail_errno();
  return static_cast<std::uint64_t>(st.st_size);
}

Result<std::size_t> pread(FdRef fd, std::span<std::byte> out, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < out.size()) {
    ssize_t n = retry(
        [&] { return ::pread(fd.raw(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done)); });
    if (n < 0) {
      if (done > 0) break;
      return fail_errno();
    }
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<std::size_t> pwrite(FdRef fd, std::span<const std::byte> bytes, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = retry([&] {
      return ::pwrite(fd.raw(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    });
    if (n < 0) {
      if (done > 0) break;  // the caller learns of the error when it writes the rest
      return fail_errno();
    }
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Status fallocate(FdRef fd, int mode, std::uint64_t offset, std::uint64_t length) {
  return status(
      retry([&] { return ::fallocate(fd.raw(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)); }));
}

Result<std::uint64_t> lseek(FdRef fd, std::int64_t offset, int whence) {
  off_t result = ::lseek(fd.raw(), offset, whence);
  if (result < 0) return fail_errno();
  return static_cast<std::uint64_t>(result);
}

Result<std::size_t> copy_file_range(FdRef in, std::uint64_t offset_in, FdRef out, std::uint64_t offset_out,
                                    std::size_t length) {
  auto from = static_cast<off_t>(offset_in);
  auto to = static_cast<off_t>(offset_out);
  ssize_t n = retry([&] { return ::copy_file_range(in.raw(), &from, out.raw(), &to, length, 0); });
  if (n < 0) return fail_errno();
  return static_cast<std::size_t>(n);
}

Status clone_file(FdRef from, FdRef to) { return status(::ioctl(to.raw(), FICLONE, from.raw())); }

Status fsync(FdRef fd, bool data_only) {
  return status(retry([&] { return data_only ? ::fdatasync(fd.raw()) : ::fsync(fd.raw()); }));
}

Status lock_exclusive(FdRef fd) { return status(::flock(fd.raw(), LOCK_EX | LOCK_NB)); }

Status syncfs(FdRef fd) { return status(::syncfs(fd.raw())); }

Result<std::uint32_t> ioctl_get_u32(FdRef fd, unsigned long command) {
  // The commands are declared with long but the kernel writes an int: room for either.
  std::array<std::uint32_t, 2> value{};
  if (::ioctl(fd.raw(), command, value.data()) < 0) return fail_errno();
  return value[0];
}

namespace detail {

Status read_dir(FdRef dir, void* context, DirEntryFn entry) {
  struct alignas(8) Buffer {
    std::array<char, 32768> bytes;
  };
  Buffer buffer;
  if (::lseek(dir.raw(), 0, SEEK_SET) < 0) return fail_errno();
  for (;;) {
    long filled = retry([&] { return ::syscall(SYS_getdents64, dir.raw(), buffer.bytes.data(), buffer.bytes.size()); });
    if (filled < 0) return fail_errno();
    if (filled == 0) return {};
    for (long at = 0; at < filled;) {
      const char* record = buffer.bytes.data() + at;
      dirent64 head;
      std::memcpy(&head, record, offsetof(dirent64, d_name));
      std::string_view name(record + offsetof(dirent64, d_name));
      if (name != "." && name != ".." && !entry(context, name, head.d_ino, head.d_type)) return {};
      at += head.d_reclen;
    }
  }
}

}  // namespace detail

std::size_t open_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) return 1024;
  return static_cast<std::size_t>(limit.rlim_cur);
}

std::size_t raise_open_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  return open_file_limit();
}

}  // namespace vellum::sys
