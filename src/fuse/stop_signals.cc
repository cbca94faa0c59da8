#include "fuse/stop_signals.h"

#include <csignal>

#include "base/log.h"
#include "sys/thread.h"

namespace vellum::fuse {

namespace {

constexpr std::initializer_list<int> kSignals = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};

}  // namespace

Status StopSignals::block() {
  sys::ignore_failing_writes();
  return sys::block_signals(kSignals);
}

StopSignals::StopSignals(Callbacks callbacks)
    : callbacks_(std::move(callbacks)), queue_(sys::SignalQueue::create(kSignals)) {
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
  while (true) {
    const auto signal = queue_->next();
    if (!signal || *signal == 0) return;
    if (*signal == SIGUSR1) {
      if (callbacks_.report) callbacks_.report();
    } else if (callbacks_.stop) {
      callbacks_.stop(*signal);
    }
  }
}

}  // namespace vellum::fuse
