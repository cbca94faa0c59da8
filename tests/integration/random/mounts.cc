#include "mounts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace vellum::random_test {
namespace {

constexpr const char* kPeerProgram = "/usr/bin/fuse-overlayfs";
constexpr const char* kLinkToVellum = "/mnt/fuse-overlayfs";
constexpr int kStartTimeoutMs = 20'000;

std::optional<Backend> chosen;

std::string layer_options(const Layers& layers) {
  std::string text = fmt::format("lowerdir={}", fmt::join(layers.lowers, ":"));
  if (!layers.upper.empty()) text += fmt::format(",upperdir={},workdir={}", layers.upper, layers.work);
  return text;
}

std::optional<dev_t> device_of(const std::string& path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return std::nullopt;
  return st.st_dev;
}

}  // namespace

std::string name_of(Backend backend) {
  switch (backend) {
    case Backend::kVellum: return "vellum";
    case Backend::kKernel: return "kernel";
    case Backend::kPeer: return "peer";
  }
  return "?";
}

std::optional<Backend> parse_backend(const std::string& name) {
  for (Backend backend : {Backend::kVellum, Backend::kKernel, Backend::kPeer})
    if (name == name_of(backend)) return backend;
  return std::nullopt;
}

Backend tested_backend() {
  if (chosen) return *chosen;
  const char* name = std::getenv("VELLUM_TEST_BACKEND");
  return name == nullptr ? Backend::kVellum : parse_backend(name).value_or(Backend::kVellum);
}

void set_tested_backend(Backend backend) { chosen = backend; }

std::string vellum_program() {
  const char* binary = std::getenv("VELLUM_BIN");
  if (binary == nullptr) binary = VELLUM_BINARY;  // of the same build
  if (::symlink(binary, kLinkToVellum) != 0 && errno != EEXIST) return "";
  return kLinkToVellum;
}

bool available(Backend backend) {
  switch (backend) {
    case Backend::kVellum: return !vellum_program().empty() && ::access(kLinkToVellum, X_OK) == 0;
    case Backend::kKernel: return true;
    case Backend::kPeer: return ::access(kPeerProgram, X_OK) == 0;
  }
  return false;
}

Mount::Mount(Backend backend, const Layers& layers, const std::string& mountpoint, const std::string& options)
    : mountpoint_(mountpoint) {
  std::string all = layer_options(layers);
  if (!options.empty()) all += "," + options;
  is_peer_ = backend == Backend::kPeer;
  if (backend == Backend::kKernel) {
    mount_kernel(all);
  } else {
    const char* every = is_peer_ ? nullptr : std::getenv("VELLUM_TEST_OPTIONS");
    if (every != nullptr) all += std::string(",") + every;
    start_daemon(is_peer_ ? kPeerProgram : vellum_program(), all + ",dev,suid");
  }
}

Mount::~Mount() {
  if (mounted_ || daemon_ > 0) unmount();
}

void Mount::mount_kernel(const std::string& options) {
  // fsconfig would take longer option strings; one page is enough here except for hundreds of layers.
  if (::mount("overlay", mountpoint_.c_str(), "overlay", 0, options.c_str()) != 0) {
    failure_ = fmt::format("mount overlay -o {}: {}", options, std::strerror(errno));
    return;
  }
  mounted_ = true;
}

void Mount::start_daemon(const std::string& program, const std::string& options) {
  const std::optional<dev_t> before = device_of(mountpoint_);
  daemon_ = ::fork();
  if (daemon_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (program == kPeerProgram) {
      // It complains of every unmount and of options that its own fusermount3 adds.
      const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
      ::dup2(null, STDERR_FILENO);
    }
    ::execl(program.c_str(), program.c_str(), "-f", "-o", options.c_str(), mountpoint_.c_str(), nullptr);
    fmt::print(stderr, "{}: {}\n", program, std::strerror(errno));
    ::_exit(127);
  }
  for (int waited_us = 0; waited_us < kStartTimeoutMs * 1000; waited_us += 500) {
    const std::optional<dev_t> now = device_of(mountpoint_);
    if (now && now != before) {
      mounted_ = true;
      return;
    }
    int status = 0;
    if (::waitpid(daemon_, &status, WNOHANG) == daemon_) {
      daemon_ = -1;
      failure_ = fmt::format("{} -o {} ended at start with status {:#x}", program, options, status);
      ::umount2(mountpoint_.c_str(), MNT_DETACH);
      return;
    }
    ::usleep(500);
  }
  failure_ = fmt::format("{} did not mount in {} ms", program, kStartTimeoutMs);
  kill_daemon();
}

bool Mount::unmount() {
  if (mounted_) {
    // A file of a process that has just ended may still be held for a moment, which is long on a busy machine.
    int attempts = 0;
    while (::umount2(mountpoint_.c_str(), 0) != 0) {
      if (errno == EBUSY && ++attempts < 3'000) {
        ::usleep(5'000);
        continue;
      }
      failure_ = fmt::format("umount: {}", std::strerror(errno));
      ::umount2(mountpoint_.c_str(), MNT_DETACH);
      break;
    }
    mounted_ = false;
  }
  reap_daemon();
  return failure_.empty();
}

void Mount::reap_daemon() {
  if (daemon_ <= 0) return;
  const pid_t daemon = std::exchange(daemon_, -1);
  int status = 0;
  for (int waited_ms = 0; waited_ms < 15'000; waited_ms += 1) {
    if (::waitpid(daemon, &status, WNOHANG) == daemon) {
      // The peer answers an ordinary unmount with exit status 1 at times.
      if (status != 0 && (!is_peer_ || WIFSIGNALED(status)))
        failure_ += fmt::format(" daemon ended with status {:#x}", status);
      return;
    }
    ::usleep(1'000);
  }
  failure_ += " daemon does not end after unmount";
  ::kill(daemon, SIGKILL);
  ::waitpid(daemon, &status, 0);
}

void Mount::kill_daemon() {
  if (daemon_ > 0) {
    ::kill(daemon_, SIGKILL);
    ::waitpid(daemon_, nullptr, 0);
    daemon_ = -1;
  }
  ::umount2(mountpoint_.c_str(), MNT_DETACH);
  mounted_ = false;
}

}  // namespace vellum::random_test
