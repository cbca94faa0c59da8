// The file system calls the project makes, one thin function each: Errno instead of -1, EINTR retried, owned fds.
//
// A (dir, name) pair names one entry of an open directory; name is a single component and is never followed if it
// is a symlink. An empty name means the file behind `dir` itself, which may then be any O_PATH fd.
// Paths of several components go through open_beneath(), which no symlink, "..", or magic link can lead out.
// Threads: safe; errors: as the system call's manual page.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

struct Statx {
  std::uint64_t ino = 0, size = 0, blocks = 0;
  std::uint32_t mode = 0, nlink = 0, uid = 0, gid = 0, blksize = 0;
  dev_t dev = 0, rdev = 0;
  timespec atime{}, mtime{}, ctime{}, btime{};
  bool has_btime = false;
  std::uint64_t mount = 0;         // its number; 0: not known
  bool protected_by_flag = false;  // immutable or append-only, see chattr(1)

  bool is_dir() const { return S_ISDIR(mode); }
  bool is_regular() const { return S_ISREG(mode); }
  bool is_symlink() const { return S_ISLNK(mode); }
};

// How long ago that was, by the system's clock; negative: it is to come.
std::chrono::nanoseconds age(const timespec& time);

// Opening.
Result<UniqueFd> open(const char* path, int flags, mode_t mode = 0);
Result<UniqueFd> openat(FdRef dir, const char* name, int flags, mode_t mode = 0);
// Several components, relative, resolved beneath `root` and through no symlink. Paths beyond PATH_MAX work.
// kRefused: EXDEV for what lies in a mount below `root`.
enum class MountsBelow { kFollowed, kRefused };
Result<UniqueFd> open_beneath(FdRef root, std::string_view path, int flags,
                              MountsBelow mounts = MountsBelow::kFollowed);
// A new open file description of the file behind `fd` (which may be O_PATH).
Result<UniqueFd> reopen(FdRef fd, int flags);
Result<UniqueFd> dup(FdRef fd);

// Looking.
Result<Statx> statx(FdRef dir, const char* name);
Result<Statx> statx_path(const char* path);  // follows symlinks
Result<std::string> readlink(FdRef dir, const char* name);
Result<struct statvfs> statvfs(FdRef fd);
Result<std::uint64_t> fs_id(FdRef fd);  // statfs f_fsid
// Whether that file system is one that this kernel alone changes, by its own calls: no network, FUSE or overlay. False
// where that is not known of it.
bool on_local_fs(FdRef fd);

// Making and removing entries.
Status mkdir(FdRef dir, const char* name, mode_t mode);
Status mkdir_path(const char* path, mode_t mode);  // follows symlinks on the way
Status mknod(FdRef dir, const char* name, mode_t mode, dev_t dev);
Status symlink(const char* target, FdRef dir, const char* name);
Status link(FdRef old_dir, const char* old_name, FdRef dir, const char* name);
// Gives a (possibly nameless) open file a name.
Status link_fd(FdRef fd, FdRef dir, const char* name);
Status unlink(FdRef dir, const char* name);
Status rmdir(FdRef dir, const char* name);
Status rename(FdRef old_dir, const char* old_name, FdRef dir, const char* name, unsigned flags = 0);

// Changing attributes. Never through a symlink.
Status chmod(FdRef dir, const char* name, mode_t mode);
Status chown(FdRef dir, const char* name, std::uint32_t uid, std::uint32_t gid);  // ~0u: leave
Status utimens(FdRef dir, const char* name, const timespec& atime, const timespec& mtime);
Status truncate(FdRef fd, std::uint64_t size);

// Whether this thread, as it acts now, may do that (R_OK, W_OK, X_OK).
Status check_access(FdRef fd, int rights);

// Contents.
// From where the file stands; pipes too. 0 at the end.
Result<std::size_t> read_some(FdRef fd, std::span<std::byte> out);
Result<std::uint64_t> file_size(FdRef fd);
Result<std::size_t> pread(FdRef fd, std::span<std::byte> out, std::uint64_t offset);
Result<std::size_t> pwrite(FdRef fd, std::span<const std::byte> bytes, std::uint64_t offset);
Status fallocate(FdRef fd, int mode, std::uint64_t offset, std::uint64_t length);
Result<std::uint64_t> lseek(FdRef fd, std::int64_t offset, int whence);
Result<std::size_t> copy_file_range(FdRef in, std::uint64_t offset_in, FdRef out, std::uint64_t offset_out,
                                    std::size_t length);
Status clone_file(FdRef from, FdRef to);  // FICLONE
Status fsync(FdRef fd, bool data_only = false);
Status syncfs(FdRef fd);
// flock(LOCK_EX | LOCK_NB): EWOULDBLOCK if another process holds it. Ends with the last copy of the fd.
Status lock_exclusive(FdRef fd);
// FS_IOC_GETFLAGS / FS_IOC_GETVERSION: an int out of the file.
Result<std::uint32_t> ioctl_get_u32(FdRef fd, unsigned long command);

// Directories. Calls entry(name, ino, DT_*) for each but "." and ".."; a false return stops.
template <class Entry>
Status read_dir(FdRef dir, Entry&& entry);

namespace detail {
using DirEntryFn = bool (*)(void* context, std::string_view name, std::uint64_t ino, unsigned char type);
Status read_dir(FdRef dir, void* context, DirEntryFn entry);
}  // namespace detail

template <class Entry>
Status read_dir(FdRef dir, Entry&& entry) {
  return detail::read_dir(dir, &entry, [](void* context, std::string_view name, std::uint64_t ino, unsigned char type) {
    return (*static_cast<std::remove_reference_t<Entry>*>(context))(name, ino, type);
  });
}

// Extended attributes, addressed as (dir, name) like everything else.
Result<std::string> getxattr(FdRef dir, const char* name, const char* attribute);
Status setxattr(FdRef dir, const char* name, const char* attribute, std::string_view value, int flags = 0);
Result<std::string> listxattr(FdRef dir, const char* name);
Status removexattr(FdRef dir, const char* name, const char* attribute);

// The soft limit of open files, after raising it to the hard limit if that is allowed.
std::size_t raise_open_file_limit();
std::size_t open_file_limit();

}  // namespace vellum::sys
