// mount(2) and umount2(2), and what must be known of the place before. Threads: safe.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

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
Status unmount(const std::string& target);

// The file type (S_IFMT) of what lies at a path, symlinks followed.
Result<std::uint32_t> file_type(const std::string& path);
// The absolute path without symlinks.
Result<std::string> real_path(const std::string& path);

// A mount namespace of the calling thread's own, from which nothing spreads.
Status enter_private_mount_namespace();

}  // namespace vellum::sys
