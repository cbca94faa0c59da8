#include "stage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "files.h"

namespace vellum::bench {
namespace {

constexpr uid_t kFirstIdOfNamespace = 100'000;
constexpr uid_t kPlainUser = 65534;  // nobody: fusermount3 wants an id that has a name

std::atomic<pid_t> stage_process = 0;

void end_stage(int) {
  if (const pid_t stage = stage_process; stage > 0) ::kill(stage, SIGKILL);
}

std::string temporary_dir(const std::string& parent) {
  std::string path = parent + "/vellum-bench.XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) must(-1, "make a temporary directory in", parent);
  must(::chmod(path.c_str(), 0755), "chmod", path);
  return path;
}

void write_text(const std::string& path, const std::string& text) {
  const int fd = static_cast<int>(must(::open(path.c_str(), O_WRONLY | O_CLOEXEC), "open", path));
  must(::write(fd, text.data(), text.size()), "write", path);
  ::close(fd);
}

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) must(-1, "wait for", "a child");
  }
  return exit_code(status);
}

// exit() without the caller's atexit handlers and buffers.
[[noreturn]] void leave(const std::function<int()>& body) {
  int status = 1;
  try {
    status = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vellum-bench: %s\n", error.what());
  }
  std::fflush(nullptr);
  std::_Exit(status);
}

// First process of the pid namespace: mounts, starts the body, reaps.
int be_first(const Stage& stage, const std::function<int(const Stage&)>& body) {
  must(::prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl", "PR_SET_PDEATHSIG");
  must(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make private", "/");
  must(::mount("proc", "/proc", "proc", 0, nullptr), "mount", "/proc");
  must(::mount("vellum-bench", stage.memory.c_str(), "tmpfs", 0, "mode=0755,size=80%,nr_inodes=8m"), "mount a tmpfs on",
       stage.memory);
  // The machine's node may be for root only; in here anybody mounts.
  const std::string node = stage.memory + "/fuse";
  must(::mknod(node.c_str(), S_IFCHR | 0666, makedev(10, 229)), "mknod", node);
  must(::chmod(node.c_str(), 0666), "chmod", node);
  must(::mount(node.c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr), "bind over", "/dev/fuse");

  const pid_t child = static_cast<pid_t>(must(::fork(), "fork", ""));
  if (child == 0) {
    leave([&] {
      ::umask(022);
      return body(stage);
    });
  }
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended == child) return exit_code(status);
    if (ended < 0 && errno != EINTR) must(-1, "wait for", "children");
  }
}

}  // namespace

const char* name_of(Who who) {
  switch (who) {
    case Who::kRoot: return "root";
    case Who::kUserNamespace: return "userns";
    case Who::kPlainUser: return "user";
  }
  return "";
}

int run_on_stage(const Settings& settings, const std::function<int(const Stage&)>& body) {
  if (::geteuid() != 0) throw Failure("must be started as root: it makes namespaces and mounts in them");
  struct sigaction action {};
  action.sa_handler = end_stage;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);

  const Stage stage{.memory = temporary_dir("/tmp"), .disk = temporary_dir(settings.disk)};
  // Only the children are in the new pid namespace, but the mounts are ours, too: so in a child, all of it.
  std::fflush(nullptr);
  const pid_t outer = static_cast<pid_t>(must(::fork(), "fork", ""));
  if (outer == 0) {
    leave([&] {
      for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);
      must(::prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl", "PR_SET_PDEATHSIG");
      ::setpgid(0, 0);  // ^C comes to us alone, so that we clean up after them
      must(::unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare", "");
      const pid_t first = static_cast<pid_t>(must(::fork(), "fork", ""));
      if (first == 0) leave([&] { return be_first(stage, body); });
      return wait_for(first);
    });
  }
  stage_process = outer;
  const int status = wait_for(outer);
  stage_process = 0;
  // The processes of the pid namespace end with its first one, which ends with `outer`; mounts hold nothing here.
  remove_tree(stage.disk);
  ::rmdir(stage.memory.c_str());
  return status;
}

std::string run_as(Who who, const Stage& stage, const std::function<std::string(const Stage&)>& body) {
  const Stage own{.memory = stage.memory + "/" + name_of(who), .disk = stage.disk + "/" + name_of(who)};
  const uid_t owner = who == Who::kUserNamespace ? kFirstIdOfNamespace : who == Who::kPlainUser ? kPlainUser : 0;
  for (const std::string& dir : {own.memory, own.disk}) {
    make_dirs(dir);
    must(::chown(dir.c_str(), owner, owner), "chown", dir);
  }

  std::array<int, 2> result{}, unshared{}, mapped{};
  for (auto* ends : {&result, &unshared, &mapped}) must(::pipe2(ends->data(), O_CLOEXEC), "pipe", "");
  std::fflush(nullptr);
  const pid_t child = static_cast<pid_t>(must(::fork(), "fork", ""));
  if (child == 0) {
    leave([&] {
      must(::prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl", "PR_SET_CHILD_SUBREAPER");
      char byte = 0;
      if (who == Who::kUserNamespace) {
        must(::unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare", "a user namespace");
        must(::write(unshared[1], "u", 1), "write", "pipe");
        must(::read(mapped[0], &byte, 1) - 1, "read", "pipe");
        must(::setgroups(0, nullptr), "setgroups", "");
        must(::setresgid(0, 0, 0), "setresgid", "");
        must(::setresuid(0, 0, 0), "setresuid", "");
      }
      const std::string text = body(own);
      for (std::size_t at = 0; at < text.size();) {
        at += static_cast<std::size_t>(must(::write(result[1], text.data() + at, text.size() - at), "write", "result"));
      }
      return 0;
    });
  }
  ::close(result[1]);
  ::close(unshared[1]);
  char byte = 0;
  if (who == Who::kUserNamespace && ::read(unshared[0], &byte, 1) == 1) {
    const std::string map = fmt::format("0 {} 65536", kFirstIdOfNamespace);
    write_text(fmt::format("/proc/{}/uid_map", child), map);
    write_text(fmt::format("/proc/{}/gid_map", child), map);
    must(::write(mapped[1], "m", 1), "write", "pipe");
  }
  std::string text;
  std::array<char, 65536> buffer{};
  for (ssize_t got = 0; (got = ::read(result[0], buffer.data(), buffer.size())) != 0;) {
    if (got > 0) text.append(buffer.data(), static_cast<std::size_t>(got));
    if (got < 0 && errno != EINTR) must(-1, "read", "result");
  }
  for (auto* ends : {&unshared, &mapped}) {
    ::close((*ends)[0]);
    if (ends == &mapped) ::close((*ends)[1]);
  }
  ::close(result[0]);
  if (wait_for(child) != 0) throw Failure(fmt::format("the runs as {} did not end well", name_of(who)));
  remove_tree(own.memory);
  remove_tree(own.disk);
  return text;
}

void take_rights_of_client(Who who) {
  if (who != Who::kPlainUser) return;
  must(::setgroups(0, nullptr), "setgroups", "");
  must(::setresgid(kPlainUser, kPlainUser, kPlainUser), "setresgid", "");
  must(::setresuid(kPlainUser, kPlainUser, kPlainUser), "setresuid", "");
  must(::prctl(PR_SET_DUMPABLE, 1), "prctl", "PR_SET_DUMPABLE");
}

}  // namespace vellum::bench
