// What every mount of ours does between its first option and its unmounted tree, whatever it serves.
//
// start() forks before the process has any thread; the child opens what it serves while the working directory is still
// the caller's (paths may be relative), calls serve(), which mounts and only then tells the parent, which exits with 0
// when the mount is usable and with another status when it is not. Nothing stays mounted after an error.
// Threads: both are called from the only one.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "fuse/daemon.h"
#include "fuse/filesystem.h"
#include "fuse/mount.h"
#include "fuse/session.h"
#include "sys/uring_permit.h"

namespace vellum::cli {

// Returns the program's exit status. `before` runs in the caller's process, with signals blocked; `serve` in the one
// that serves.
int start(const std::string& program, bool foreground, const std::function<void()>& before,
          const std::function<int(fuse::Daemon&)>& serve);

struct Serving {
  std::string program;  // begins every message
  fuse::MountOptions mount;
  fuse::Wishes wishes;
  unsigned threads = 1;
  unsigned ring_threads = 0;
  bool io_uring_wanted = false;  // by name: switched on for the moment of mounting, and missed aloud
  bool foreground = false;
  std::function<Status(const fuse::Mount&)> on_mount;  // before the first request; may be empty
  std::function<void(unsigned workers)> on_workers;  // before the first request, and when more are known; may be empty
  std::function<void(const fuse::Session&)> on_session;     // before the first request; may be empty
  std::function<std::string(const fuse::Session&)> report;  // SIGUSR1: one line
};

// Whether a mount that is about to be made may be served over io_uring, and what must be held until INIT is answered.
struct UringOffer {
  bool may_use = false;
  std::optional<sys::UringPermit> permit;
};
// by_name: switched on for that time, if it can be.
UringOffer offer_uring(bool by_name);

// Mounts, serves until unmounted or told to stop; the exit status.
int serve(fuse::Filesystem& filesystem, const Serving& what, fuse::Daemon& daemon);

}  // namespace vellum::cli
