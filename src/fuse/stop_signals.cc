#include "fuse/stop_signals.h"

#include <csignal>
#include <optional>
#include <vector>

#include "base/log.h"
#include "sys/thread.h"

namespace vellum::fuse {

namespace {

// A blocked signal could be read even where it is ignored.
std::vector<int> not_ignored() {
  std::vector<int> signals = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
  std::erase_if(signals, sys::is_ignored);
  return signals;
}

}  // namespace

Status StopSignals::block() {
  sys::ignore_failing_writes();
  return sys::block_signals(not_ignored());
}

StopSignals::StopSignals(Callbacks callbacks)
    : callbacks_(std::move(callbacks)), queue_(sys::SignalQueue::create(not_ignored())) {
  if (!queue_) {
    log::warning("signals will not unmount: {}", queue_.error().message());
    return;
  }
  watcher_ = std::thread([this] { watch(); });
}

StopSignals::~StopSignals() {
  if (!watcher_.joinable()) return;
  queue_->interrupt();
  watcher_.join();
}

void StopSignals::watch() {
  sys::name_this_thread("signals");
  std::optional<std::chrono::steady_clock::time_point> stopped;
  while (true) {
    const auto signal = queue_->next();
    if (!signal || *signal == 0) return;
    if (*signal == SIGUSR1) {
      if (callbacks_.report) callbacks_.report();
    } else if (!stopped) {
      stopped = std::chrono::steady_clock::now();
      if (callbacks_.stop) callbacks_.stop(*signal);
    } else if (std::chrono::steady_clock::now() - *stopped >= callbacks_.patience) {
      if (callbacks_.hurry) callbacks_.hurry();
    }
  }
}

}  // namespace vellum::fuse
