// The mount API of file descriptors: a file system is configured, made, and attached to the tree as a last step, or
// never: a detached mount can be a layer of another.
//
//   FsContext context = TRY(FsContext::open("erofs"));
//   TRY(context.set("source", path)); TRY(context.create());
//   UniqueFd mount = TRY(context.mount({.read_only = true}));
//   TRY(attach(mount, directory));
// Threads: plain values. Errors: as of the calls; messages() has the kernel's own words where it said some.
// Source: fsopen(2), fsconfig(2), fsmount(2), move_mount(2), mount_setattr(2).
#pragma once

#include <string>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/mount_calls.h"

namespace vellum::sys {

class FsContext {
 public:
  static Result<FsContext> open(const char* type);
  Status set(const char* key, const std::string& value);
  Status set_flag(const char* key);
  Status set_fd(const char* key, FdRef value);
  Status create();
  Result<UniqueFd> mount(const MountFlags& flags);
  // What the kernel said until now, in one line. Can be read once.
  std::string messages();

 private:
  UniqueFd fd_;
};

// Puts a detached mount at a directory; an O_PATH descriptor will do.
Status attach(FdRef mount, FdRef directory);
// Shows owners as a user namespace maps them. Only before the mount is attached.
Status map_owners(FdRef mount, FdRef user_namespace);

// A new directory that only its owner may enter, beneath $TMPDIR or /tmp.
Result<std::string> make_temporary_directory();
Status remove_directory(const std::string& path);

// A loop device that reads a file, and goes when its last user does.
Result<std::pair<UniqueFd, std::string>> attach_loop_device(FdRef file);

}  // namespace vellum::sys
