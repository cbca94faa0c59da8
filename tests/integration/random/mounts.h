// One overlay mount by any of the three implementations that read these layers: ours, the kernel's, Debian's.
//
// A Mount unmounts when it goes out of scope. FUSE daemons run in the foreground as children, so that their exit
// status is seen: a daemon that crashes, or that a sanitizer stops, fails the test.
// Threads: none of this is safe for concurrent use.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace vellum::random_test {

enum class Backend { kVellum, kKernel, kPeer };

std::string name_of(Backend backend);
std::optional<Backend> parse_backend(const std::string& name);

// The backend under test: --backend or VELLUM_TEST_BACKEND, ours by default.
Backend tested_backend();
void set_tested_backend(Backend backend);
// False where the implementation is not on this machine.
bool available(Backend backend);
// Path of a link named fuse-overlayfs to our binary (VELLUM_BIN, or the one built beside).
std::string vellum_program();

struct Layers {
  std::vector<std::string> lowers;  // topmost first
  std::string upper, work;          // empty: read-only
};

class Mount {
 public:
  Mount(Backend backend, const Layers& layers, const std::string& mountpoint, const std::string& options = "");
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  ~Mount();

  // Why mounting failed, or why the daemon ended badly; empty when all is well.
  const std::string& failure() const { return failure_; }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return mountpoint_; }
  pid_t daemon() const { return daemon_; }

  // Unmounts and waits for the daemon; false, with failure() set, if either went wrong.
  bool unmount();
  // SIGKILL to the daemon, then a lazy unmount: what a crash leaves behind.
  void kill_daemon();

 private:
  void mount_kernel(const std::string& options);
  void start_daemon(const std::string& program, const std::string& options);
  void reap_daemon();

  std::string mountpoint_;
  std::string failure_;
  pid_t daemon_ = -1;
  bool mounted_ = false;
  bool is_peer_ = false;
};

}  // namespace vellum::random_test
