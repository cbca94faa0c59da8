#include "sys/capabilities.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vellum::sys {
namespace {

__user_cap_header_struct this_thread() { return {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0}; }

// Its inode has this number for ever (PROC_USER_INIT_INO, linux/nsfs.h). What it maps says less: another may map every
// id to itself, too.
bool in_initial_user_namespace() {
  constexpr ino_t kInitialUserNamespace = 0xEFFFFFFD;
  struct stat st {};
  return ::stat("/proc/self/ns/user", &st) == 0 && st.st_ino == kInitialUserNamespace;
}

}  // namespace

Result<Capabilities> Capabilities::of_thread() {
  Capabilities now;
  auto header = this_thread();
  if (::syscall(SYS_capget, &header, now.sets_) != 0) return fail_errno();
  return now;
}

bool Capabilities::effective(unsigned capability) const {
  return (sets_[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

void Capabilities::drop(unsigned capability) { sets_[CAP_TO_INDEX(capability)].effective &= ~CAP_TO_MASK(capability); }

void Capabilities::keep_only(std::initializer_list<unsigned> these) {
  for (auto& set : sets_) set.effective = 0;
  for (const unsigned capability : these) {
    auto& set = sets_[CAP_TO_INDEX(capability)];
    set.effective |= set.permitted & CAP_TO_MASK(capability);
  }
}

void Capabilities::raise_all() {
  for (auto& set : sets_) set.effective = set.permitted;
  drop(CAP_SYS_RESOURCE);
}

Status Capabilities::apply() const {
  auto header = this_thread();
  if (::syscall(SYS_capset, &header, sets_) != 0) return fail_errno();
  return {};
}

Status keep_to_quotas() {
  Capabilities rights = TRY(Capabilities::of_thread());
  rights.drop(CAP_SYS_RESOURCE);
  return rights.apply();
}

Privileges privileges() {
  Privileges result{.euid = ::geteuid(), .egid = ::getegid()};
  if (const auto now = Capabilities::of_thread()) result.sys_admin_here = now->effective(CAP_SYS_ADMIN);
  result.sys_admin = result.sys_admin_here && in_initial_user_namespace();
  return result;
}

}  // namespace vellum::sys
