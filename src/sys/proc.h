// What /proc says of other processes: who they are, what they were started with, who started them.
//
// A pid may be that of a thread: /proc/TID answers like /proc/PID. Every answer is of one moment; pids are used again,
// so whoever remembers something of a process remembers its start time with it.
// Threads: safe. Errors: as of open(2) and read(2); ESRCH where the process is gone. Source: proc(5).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace vellum::sys {

// Equal: the same process, and it has not called execve() in between (the kernel puts each program's stack at a random
// place; see addresses_are_random()).
struct ProcessImage {
  std::uint64_t start = 0;  // clock ticks since boot
  std::uint64_t stack = 0, environ_start = 0, environ_end = 0;
  friend bool operator==(const ProcessImage&, const ProcessImage&) = default;
};
struct ProcessStat {
  pid_t parent = 0;
  bool ended = false;  // all threads; a process may outlive its first one
  ProcessImage image;
};
Result<ProcessStat> process_stat(pid_t pid);

struct ProcessIds {
  pid_t process = 0;  // of which `pid` is a thread
  std::uint32_t uid = 0, euid = 0, suid = 0, fsuid = 0;
  std::uint32_t gid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<gid_t> groups;
  bool one_uid() const { return uid == euid && uid == suid && uid == fsuid; }
  bool one_gid() const { return gid == egid && gid == sgid && gid == fsgid; }
  bool has_group(gid_t group) const;
};
Result<ProcessIds> process_ids(pid_t pid);

// What it was started with: NAME=value, each followed by a zero byte. EACCES where we may not look.
Result<std::string> process_environ(pid_t pid);
Result<std::string> process_command(pid_t pid);  // at most 15 bytes of the executable's name

// Whether a path means the same there as here: same mount namespace, same root directory.
bool shares_root(pid_t pid);
// The program that it runs, by its auxiliary vector (getauxval(3)): the quickest to read of what an execve() changes.
struct Program {
  std::size_t mark = 0;  // of the addresses in it; means something in this process only
  bool secure = true;    // started with rights that who started it has not (AT_SECURE: set-user-id, file capabilities)
};
// EPERM, EACCES where we may not look.
Result<Program> process_program(pid_t pid);
// Whether this process's image has addresses of its own in each run. Without that, neither ProcessImage nor
// Program::mark can tell an execve().
bool addresses_are_random(pid_t pid);
pid_t this_process();

}  // namespace vellum::sys
