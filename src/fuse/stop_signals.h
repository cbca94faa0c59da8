// Signals of a serving process: SIGTERM, SIGINT and SIGHUP ask it to end, SIGUSR1 to report; SIGPIPE and SIGXFSZ are
// ignored, and so is each of the others that the caller has ignored (nohup(1), a shell for what it puts in the
// background).
//
// block() must run in main() before any thread is made. A StopSignals then waits in a thread of its own and calls
// back there; its destructor ends that thread, so a process whose mount was taken away from outside ends too.
// Threads: callbacks run one at a time on that thread.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "base/result.h"
#include "sys/signals.h"

namespace vellum::fuse {

class StopSignals {
 public:
  struct Callbacks {
    std::function<void(int signal)> stop = {};  // for the first such signal
    // For each that comes when `patience` is over since. Sooner they are the same wish said again: timeout(1) sends a
    // signal to the process and then to its group, systemd SIGHUP behind SIGTERM.
    std::function<void()> hurry = {};
    std::function<void()> report = {};  // SIGUSR1
    std::chrono::steady_clock::duration patience = std::chrono::seconds(1);
  };

  static Status block();
  explicit StopSignals(Callbacks callbacks);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  void watch();

  Callbacks callbacks_;
  Result<sys::SignalQueue> queue_;
  std::thread watcher_;
};

}  // namespace vellum::fuse
