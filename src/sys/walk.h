// Opening a path that somebody else chose, without ever asking one file system anything: our own mount, whose answer
// we would have to give ourselves.
//
// Threads: safe. Errors: as openat(2). Source: path_resolution(7), openat2(2).
#pragma once

#include <string>

#include "base/result.h"
#include "sys/file.h"

namespace vellum::sys {

// Where an absolute path leads to, as an O_PATH descriptor of a directory. Symlinks are followed, but no magic link of
// /proc, and in a sticky directory that all may write to only those of its owner or of who this thread acts as. ELOOP:
// the path leads to, or through, the file system with this device number; it is not asked.
Result<UniqueFd> walk_outside(const std::string& path, dev_t device);

// What tells one directory from all others; again nothing is asked.
struct Place {
  dev_t device = 0;
  std::uint64_t ino = 0;
};
Result<Place> place_of(FdRef fd);

// EACCES or EROFS where who this thread acts as may make nothing in the directory. (faccessat2)
Status check_writable(FdRef dir);

}  // namespace vellum::sys
