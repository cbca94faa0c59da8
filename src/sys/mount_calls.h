// mount(2) and umount2(2), and what must be known of the place before. Threads: safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

struct MountFlags {
  bool read_only = false;
  bool nosuid = false;
  bool nodev = false;
  bool noexec = false;
  bool noatime = false;
  bool nodiratime = false;
  bool relatime = false;
  bool strictatime = false;
  bool synchronous = false;
  bool dirsync = false;
};

Status mount(const std::string& source, const std::string& target, const std::string& type, const MountFlags& flags,
             const std::string& data);
// Takes the mount out of the tree at once; it ends when its last user does.
Status unmount_detached(const std::string& target);

// Which mount a path leads to. `unique` is never given to another mount (0 before Linux 6.8); `id` is the one in
// /proc/self/mountinfo. Asks no file system anything, so it does not wait for a server.
struct MountId {
  std::uint64_t id = 0;
  std::uint64_t unique = 0;
  friend bool operator==(const MountId&, const MountId&) = default;
};
Result<MountId> mount_id(const std::string& path);
Result<MountId> mount_id(FdRef mount);
// The device number that files at a path show. Asks no file system anything either.
Result<dev_t> device_of(const std::string& path);
// Whether there is no disk behind a directory: it is on tmpfs or ramfs, and no other mount lies below it. False also if
// that cannot be told.
bool lives_in_memory(FdRef directory);
// Where the mount can be reached now; ENOENT: nowhere in this mount namespace, or another covers it.
Result<std::string> mount_point(const MountId& mount);
// syncfs(2) of the file system at a path.
Status sync_file_system(const std::string& path);

// The file type (S_IFMT) of what lies at a path, symlinks followed.
Result<std::uint32_t> file_type(const std::string& path);
// The absolute path without symlinks.
Result<std::string> real_path(const std::string& path);

// Whether SELinux watches this machine, as far as can be seen from here.
bool has_selinux();

// A mount namespace of the calling thread's own, from which nothing spreads.
Status enter_private_mount_namespace();

}  // namespace vellum::sys
