// Processes: running a program and hearing what it said, and becoming a daemon.
// Threads: run_program() is safe; fork_child() is for programs that have one thread still.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <initializer_list>
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
Status send_signal(pid_t pid, int signal);

// Everything until the end of a pipe, at most `limit` bytes.
std::string read_to_end(FdRef pipe, std::size_t limit);
// Up to the next newline, which is left out.
std::string read_line(FdRef pipe, std::size_t limit);
Status write_all(FdRef pipe, std::string_view bytes);
bool is_terminal(FdRef fd);
Result<std::pair<UniqueFd, UniqueFd>> make_pipe();  // read end, write end; closed on exec

// For a supervisor. Orphans below this process become its children.
Status become_subreaper();
// The next child that ends; ECHILD: there is none left.
Result<std::pair<pid_t, ChildExit>> wait_any();
void new_process_name(const char* name);  // at most 15 bytes, in ps(1)
// From now on these signals go to `to` as well, or instead (ignore_signals: to nobody).
void forward_signals(std::initializer_list<int> signals, pid_t to);
void ignore_signals(std::initializer_list<int> signals);
void default_signals(std::initializer_list<int> signals);
// Becomes another program, found along PATH. Returns only with an error.
Errno exec_program(const std::vector<std::string>& arguments);
Status set_environment(const std::string& name, const std::string* value);  // null: takes it away
Status change_directory(const std::string& path);
Result<std::string> current_directory();
// A mount namespace of this process's own; where that takes a user namespace, one in which it is root.
Status enter_own_namespaces();

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
