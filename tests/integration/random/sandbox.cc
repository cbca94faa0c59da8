#include "sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <ftw.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace vellum::random_test {
namespace {

[[noreturn]] void die(const char* what) {
  fmt::print(stderr, "sandbox: {}: {} (these tests need root)\n", what, std::strerror(errno));
  ::_exit(1);
}

void mount_scratch(const std::string& path) {
  ::mkdir(path.c_str(), 0755);
  if (::mount("scratch", path.c_str(), "tmpfs", 0, "mode=0755,size=12g,nr_inodes=0") != 0) die("mount tmpfs");
}

int remove_one(const char* path, const struct stat*, int, struct FTW*) { return ::remove(path); }

}  // namespace

int run_in_sandbox(const std::function<int()>& body) {
  if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) die("unshare");
  const pid_t child = ::fork();
  if (child < 0) die("fork");
  if (child == 0) {
    // The first process of a pid namespace takes all others with it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) die("make mounts private");
    if (::mount("proc", "/proc", "proc", 0, nullptr) != 0) die("mount /proc");
    if (::mount("mnt", "/mnt", "tmpfs", 0, "mode=0755") != 0) die("mount /mnt");
    mount_scratch(kScratch);
    mount_scratch(kOtherScratch);
    ::umask(0);
    const int status = body();
    std::fflush(nullptr);
    ::_exit(status);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string fresh_directory(const std::string& scratch) {
  static int counter = 0;
  std::string path = fmt::format("{}/{}", scratch, counter++);
  if (::mkdir(path.c_str(), 0755) != 0) die("mkdir scratch");
  return path;
}

void remove_tree(const std::string& path) { ::nftw(path.c_str(), remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); }

}  // namespace vellum::random_test
