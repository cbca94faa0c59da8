// A MemoryFs (or any file system) behind a real /dev/fuse mount, in a mount namespace of this process's own, so that
// nothing is left behind whatever happens. available() tells whether that is possible here.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <future>
#include <memory>
#include <string>
#include <thread>

#include "fuse/mount.h"
#include "fuse/session.h"

namespace vellum::fuse::testing {

inline bool mounts_available() {
  static const bool available = [] {
    return ::geteuid() == 0 && ::access("/dev/fuse", R_OK | W_OK) == 0 && sys::enter_private_mount_namespace();
  }();
  return available;
}

class Mounted {
 public:
  Mounted(Filesystem& filesystem, SessionOptions options = {}, unsigned threads = 2, MountOptions mount_options = {})
      : threads_(threads) {
    char name[] = "/tmp/vellum-fuse-test-XXXXXX";
    directory_ = ::mkdtemp(name);
    mount_options.mountpoint = directory_;
    if (mount_options.subtype.empty()) mount_options.subtype = "vellumtest";
    auto made = fuse::mount(mount_options);
    if (!made) {
      error_ = made.error().message;
      return;
    }
    mount_ = std::move(*made);
    options.on_ready = [this](unsigned) { ready_.set_value(); };
    session_ = std::make_unique<Session>(filesystem, std::move(options));
    thread_ = std::thread(
        [this] { ended_ = session_->run(std::make_unique<DeviceChannel>(mount_.take_device()), threads_); });
    if (ready_.get_future().wait_for(std::chrono::seconds(10)) != std::future_status::ready) error_ = "no INIT came";
  }
  ~Mounted() {
    finish();
    ::umount2(directory_.c_str(), MNT_DETACH);  // whatever a test that failed has left
    ::rmdir(directory_.c_str());
  }

  const std::string& error() const { return error_; }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  const std::string& root() const { return directory_; }
  Session& session() { return *session_; }
  Mount& mount() { return mount_; }
  Status finish() {
    if (thread_.joinable()) {
      ignore(mount_.unmount());
      thread_.join();
    }
    return ended_;
  }
  // Waits for run() to return by itself.
  Status wait_for_end() {
    thread_.join();
    return ended_;
  }

 private:
  unsigned threads_;
  std::string directory_, error_;
  Mount mount_;
  std::promise<void> ready_;
  std::unique_ptr<Session> session_;
  Status ended_;
  std::thread thread_;
};

}  // namespace vellum::fuse::testing
