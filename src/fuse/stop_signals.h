// Signals of a serving process: SIGTERM, SIGINT and SIGHUP ask it to end, SIGUSR1 to report; SIGPIPE and SIGXFSZ are
// ignored.
//
// block() must run in main() before any thread is made. A StopSignals then waits in a thread of its own and calls
// back there; its destructor ends that thread, so a process whose mount was taken away from outside ends too.
// Threads: callbacks run one at a time on that thread.
#pragma once

#include <functional>
#include <thread>

#include "base/result.h"
#include "sys/signals.h"

namespace vellum::fuse {

class StopSignals {
 public:
  struct Callbacks {
    std::function<void(int signal)> stop;  // called for the first such signal, and each later one
    std::function<void()> report;          // SIGUSR1
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
