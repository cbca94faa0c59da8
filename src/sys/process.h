// Processes: running a program and hearing what it said, and becoming a daemon.
// Threads: run_program() is safe; fork_child() is for programs that have one thread still.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

struct ChildExit {
  bool exited = false;  // else killed by a signal
  int code = 0;         // exit status or signal number
  bool success() const { return exited && code == 0; }
};

// A program running with `inherited` as its descriptor 3 (if given) and its standard error in a pipe.
struct Child {
  pid_t pid = -1;
  UniqueFd errors;
};
Result<Child> start_program(const std::vector<std::string>& arguments,
                            const std::vector<std::string>& extra_environment, FdRef inherited);
Result<ChildExit> wait_for(pid_t pid);

// Everything until the end of a pipe, at most `limit` bytes.
std::string read_to_end(FdRef pipe, std::size_t limit);
Status write_all(FdRef pipe, std::string_view bytes);
Result<std::pair<UniqueFd, UniqueFd>> make_pipe();  // read end, write end; closed on exec

// 0 in the child.
Result<pid_t> fork_child();
void new_session();  // setsid
Status change_to_root_directory();
Status standard_streams_to_null();
// Where the caller closed one of them, /dev/null: otherwise the next file opened would be taken for it. First in
// main().
void occupy_standard_streams();
// Modes that a file system is asked for are complete: the process's own mask must take nothing away.
void clear_umask();
[[noreturn]] void exit_now(int code);  // without destructors or atexit
std::uint32_t effective_uid();
std::uint32_t effective_gid();

}  // namespace vellum::sys
