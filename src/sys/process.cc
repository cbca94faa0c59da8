#include "sys/process.h"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <memory>

#include "base/scope.h"

namespace vellum::sys {

Result<Child> start_program(const std::vector<std::string>& arguments,
                            const std::vector<std::string>& extra_environment, FdRef inherited) {
  auto [reader, writer] = TRY(make_pipe());
  std::vector<char*> argv, envp;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  for (const auto& variable : extra_environment) envp.push_back(const_cast<char*>(variable.c_str()));
  for (char** variable = ::environ; *variable != nullptr; ++variable) envp.push_back(*variable);
  envp.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  if (const int error = ::posix_spawn_file_actions_init(&actions); error != 0) return fail(error);
  const auto free_actions = on_exit([&actions] { ::posix_spawn_file_actions_destroy(&actions); });
  // Standard error first: descriptor 3 may be the pipe itself, and is then replaced.
  int error = ::posix_spawn_file_actions_adddup2(&actions, writer.raw(), STDERR_FILENO);
  constexpr int kInherited = 3;
  if (error == 0 && inherited) error = ::posix_spawn_file_actions_adddup2(&actions, inherited.raw(), kInherited);
  if (error != 0) return fail(error);

  posix_spawnattr_t attributes;
  if ((error = ::posix_spawnattr_init(&attributes)) != 0) return fail(error);
  const auto free_attributes = on_exit([&attributes] { ::posix_spawnattr_destroy(&attributes); });
  // Signals that we block or ignore are not the program's business.
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  sigaddset(&defaults, SIGXFSZ);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  Child child;
  error = ::posix_spawnp(&child.pid, argv[0], &actions, &attributes, argv.data(), envp.data());
  if (error != 0) return fail(error);
  child.errors = std::move(reader);
  return child;
}

Result<ChildExit> wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return fail_errno();
  }
  if (WIFEXITED(status)) return ChildExit{.exited = true, .code = WEXITSTATUS(status)};
  return ChildExit{.exited = false, .code = WTERMSIG(status)};
}

Status send_signal(pid_t pid, int signal) {
  if (::kill(pid, signal) != 0) return fail_errno();
  return {};
}

std::string read_to_end(FdRef pipe, std::size_t limit) {
  std::string text;
  std::array<char, 512> buffer;
  while (text.size() < limit) {
    const ssize_t got = ::read(pipe.raw(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return text;
}

std::string read_line(FdRef pipe, std::size_t limit) {
  std::string text;
  char byte = 0;
  while (text.size() < limit) {
    const ssize_t got = ::read(pipe.raw(), &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || byte == '\n') break;
    text += byte;
  }
  return text;
}

Status write_all(FdRef pipe, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(pipe.raw(), bytes.data(), bytes.size());
    if (put < 0) {
      if (errno == EINTR) continue;
      return fail_errno();
    }
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

bool is_terminal(FdRef fd) { return ::isatty(fd.raw()) == 1; }

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno();
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

namespace {

std::atomic<pid_t> forward_to{0};

void forward(int signal) {
  const int saved = errno;
  if (const pid_t pid = forward_to.load(); pid > 0) ::kill(pid, signal);
  errno = saved;
}

void set_handlers(std::initializer_list<int> signals, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  for (const int signal : signals) ::sigaction(signal, &action, nullptr);
}

}  // namespace

Status become_subreaper() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return fail_errno();
  return {};
}

void new_process_name(const char* name) { ::prctl(PR_SET_NAME, name); }

Result<std::pair<pid_t, ChildExit>> wait_any() {
  int status = 0;
  pid_t pid = 0;
  while ((pid = ::waitpid(-1, &status, 0)) < 0) {
    if (errno != EINTR) return fail_errno();
  }
  if (WIFEXITED(status)) return std::pair(pid, ChildExit{.exited = true, .code = WEXITSTATUS(status)});
  return std::pair(pid, ChildExit{.exited = false, .code = WTERMSIG(status)});
}

void forward_signals(std::initializer_list<int> signals, pid_t to) {
  forward_to.store(to);
  set_handlers(signals, &forward);
}

void ignore_signals(std::initializer_list<int> signals) { set_handlers(signals, SIG_IGN); }
void default_signals(std::initializer_list<int> signals) { set_handlers(signals, SIG_DFL); }

Errno exec_program(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  return Errno::last();
}

Status set_environment(const std::string& name, const std::string* value) {
  const int status = value != nullptr ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  if (status != 0) return fail_errno();
  return {};
}

Status change_directory(const std::string& path) {
  if (::chdir(path.c_str()) != 0) return fail_errno();
  return {};
}

Result<std::string> current_directory() {
  const std::unique_ptr<char, void (*)(void*)> path(::getcwd(nullptr, 0), &std::free);
  if (!path) return fail_errno();
  return std::string(path.get());
}

Status enter_own_namespaces() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return fail_errno();
    const auto write_map = [](const char* path, const std::string& text) -> Status {
      const UniqueFd file(::open(path, O_WRONLY | O_CLOEXEC));
      if (!file) return fail_errno();
      return write_all(file, text);
    };
    TRY(write_map("/proc/self/setgroups", "deny"));
    TRY(write_map("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1"));
    TRY(write_map("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1"));
  }
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno();
  return {};
}

Result<pid_t> fork_child() {
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno();
  return pid;
}

void new_session() { ::setsid(); }

Status change_to_root_directory() {
  if (::chdir("/") != 0) return fail_errno();
  return {};
}

Status standard_streams_to_null() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return fail_errno();
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::dup2(null.raw(), stream) < 0) return fail_errno();
  return {};
}

void occupy_standard_streams() {
  for (;;) {
    const int fd = ::open("/dev/null", O_RDWR);
    if (fd <= STDERR_FILENO && fd >= 0) continue;
    if (fd > STDERR_FILENO) ::close(fd);
    return;
  }
}

void exit_now(int code) { ::_exit(code); }

std::uint32_t effective_uid() { return ::geteuid(); }
std::uint32_t effective_gid() { return ::getegid(); }

void clear_umask() { ::umask(0); }

}  // namespace vellum::sys
