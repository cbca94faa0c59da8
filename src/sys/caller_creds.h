// Makes what this thread creates belong to somebody else, for one scope: fsuid, fsgid and umask.
//
// So a file is born with its final owner, group, inherited ACL and mode in one system call, and no crash can
// leave it with the daemon's. Capabilities stay (SECBIT_NO_SETUID_FIXUP), so permission checks of the real
// directory do not get in the way of what the kernel has already allowed on the mount.
// Needs CAP_SETUID/CAP_SETGID for foreign ids: owned() says whether the scope got them.
// Threads: affects the calling thread only. Source: credentials(7), setfsuid(2), unshare(2) CLONE_FS.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"

namespace vellum::sys {

class CallerCreds {
 public:
  CallerCreds(std::uint32_t uid, std::uint32_t gid, mode_t umask);
  ~CallerCreds();
  CallerCreds(const CallerCreds&) = delete;
  CallerCreds& operator=(const CallerCreds&) = delete;

  // Whether objects made now belong to (uid, gid). If not, the creator must chown them.
  bool owned() const { return owned_; }
  // Whether the umask counts. Where a sandbox refuses unshare(2) it stays 0, and the creator must mask the mode.
  static bool have_umask();

 private:
  bool owned_ = true;
  bool switched_uid_ = false;
  bool switched_gid_ = false;
};

// Somebody whose rights, and no others, a thread uses.
struct Identity {
  std::uint32_t uid = 0, gid = 0;
  std::vector<gid_t> groups;
};
// From now on this thread touches files as `who`: with that uid, gid and groups, and without the capabilities that
// overrule permissions. Null: as the process itself again. Stays until the next call; the same again costs nothing.
// CallerCreds within it adds to it. EPERM where this process may not become anybody else.
Status act_as(const std::shared_ptr<const Identity>& who);

}  // namespace vellum::sys
