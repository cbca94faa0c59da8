#include "sys/caller_creds.h"

#include <grp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "sys/capabilities.h"

namespace vellum::sys {
namespace {

struct ThreadState {
  ThreadState() {
    // An own fs_struct: umask(2) then concerns this thread only.
    own_umask = ::unshare(CLONE_FS) == 0;
    ::umask(0);
    int bits = ::prctl(PR_GET_SECUREBITS);
    if (bits >= 0) ::prctl(PR_SET_SECUREBITS, static_cast<unsigned long>(bits) | SECBIT_NO_SETUID_FIXUP);
    uid = ::geteuid();
    gid = ::getegid();
  }
  bool own_umask = false;
  std::uint32_t uid, gid;
  mode_t umask_now = 0;
  std::shared_ptr<const Identity> acting;  // null: ourselves
};

ThreadState& state() {
  thread_local ThreadState instance;
  return instance;
}

// Of this thread: all that the process has, or only what no permission check of a file system asks for. SYS_ADMIN stays
// for marks in trusted.*, SETUID and SETGID for the way back.
Status set_effective(bool all) {
  Capabilities rights = TRY(Capabilities::of_thread());
  if (all)
    rights.raise_all();
  else
    rights.keep_only({CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID});
  return rights.apply();
}

Status become(const Identity& who) {
  // The library's setgroups() would change every thread.
  if (::syscall(SYS_setgroups, who.groups.size(), who.groups.data()) != 0) return fail_errno();
  ::setfsgid(who.gid);
  ::setfsuid(who.uid);
  if (static_cast<std::uint32_t>(::setfsuid(static_cast<uid_t>(-1))) != who.uid ||
      static_cast<std::uint32_t>(::setfsgid(static_cast<gid_t>(-1))) != who.gid) {
    return fail(EPERM);
  }
  return {};
}

// What the process had before anybody became somebody else.
const Identity& ourselves() {
  static const Identity instance = [] {
    Identity self{.uid = ::geteuid(), .gid = ::getegid(), .groups = {}};
    const int count = ::getgroups(0, nullptr);
    if (count > 0) {
      self.groups.resize(static_cast<std::size_t>(count));
      self.groups.resize(static_cast<std::size_t>(std::max(::getgroups(count, self.groups.data()), 0)));
    }
    return self;
  }();
  return instance;
}

}  // namespace

Status act_as(const std::shared_ptr<const Identity>& who) {
  ThreadState& thread = state();
  if (thread.acting == who) return {};
  const Identity& self = ourselves();
  if (who && self.uid != 0) return who->uid == self.uid ? Status{} : fail(EPERM);
  // By way of ourselves: only so is every step allowed.
  if (thread.acting) {
    TRY(set_effective(true));
    if (const Status back = become(self); !back) {
      ignore(set_effective(false));
      return back;
    }
    thread.uid = self.uid;
    thread.gid = self.gid;
    thread.acting = nullptr;
  }
  if (!who) return {};
  Status became = become(*who);
  if (became) became = set_effective(false);
  if (!became) {
    ignore(become(self));
    return became;
  }
  thread.uid = who->uid;
  thread.gid = who->gid;
  thread.acting = who;
  return {};
}

CallerCreds::CallerCreds(std::uint32_t uid, std::uint32_t gid, mode_t umask) {
  ThreadState& thread = state();
  if (gid != thread.gid) {
    ::setfsgid(gid);
    switched_gid_ = static_cast<std::uint32_t>(::setfsgid(static_cast<gid_t>(-1))) == gid;
    owned_ = owned_ && switched_gid_;
  }
  if (uid != thread.uid) {
    ::setfsuid(uid);
    switched_uid_ = static_cast<std::uint32_t>(::setfsuid(static_cast<uid_t>(-1))) == uid;
    owned_ = owned_ && switched_uid_;
  }
  if (thread.own_umask && umask != thread.umask_now) {
    ::umask(umask);
    thread.umask_now = umask;
  }
}

CallerCreds::~CallerCreds() {
  ThreadState& thread = state();
  if (switched_uid_) ::setfsuid(thread.uid);
  if (switched_gid_) ::setfsgid(thread.gid);
  // Whatever else this thread creates (work files, whiteouts) says its exact mode.
  if (thread.umask_now != 0) {
    ::umask(0);
    thread.umask_now = 0;
  }
}

bool CallerCreds::have_umask() { return state().own_umask; }

}  // namespace vellum::sys
