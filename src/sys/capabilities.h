// What this process, or one thread of it, may do: capabilities(7) and the user namespace they count in.
// Threads: a Capabilities is the calling thread's; the rest is safe.
#pragma once

#include <linux/capability.h>

#include <cstdint>
#include <initializer_list>

#include "base/result.h"

namespace vellum::sys {

// A copy of the calling thread's sets. Changes are in the copy until apply().
class Capabilities {
 public:
  static Result<Capabilities> of_thread();

  bool effective(unsigned capability) const;
  void drop(unsigned capability);                         // from the effective set
  void keep_only(std::initializer_list<unsigned> these);  // effective: of these, what is permitted
  void raise_all();                                       // effective: all that is permitted, but SYS_RESOURCE
  Status apply() const;

 private:
  __user_cap_data_struct sets_[_LINUX_CAPABILITY_U32S_3]{};
};

// The calling thread's writes count against the quotas of the files' owners, and leave the blocks that a file system
// keeps for its administrator: without SYS_RESOURCE, as kernel overlayfs does it.
Status keep_to_quotas();

// The effective rights of this process that decide what an overlay may do.
struct Privileges {
  bool sys_admin = false;       // CAP_SYS_ADMIN in the initial user namespace: trusted.* works
  bool sys_admin_here = false;  // in the current user namespace
  std::uint32_t euid = 0, egid = 0;
};
Privileges privileges();

}  // namespace vellum::sys
