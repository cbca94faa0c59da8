#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace vellum::bench {

Progress::Progress(std::size_t steps) : steps_(steps), terminal_(::isatty(STDERR_FILENO) == 1) {}

// A terminal's line is written over; a log gets a line every ten seconds.
void Progress::step(const std::string& what) {
  const auto now = Clock::now();
  const std::chrono::seconds wait(terminal_ ? 0 : 10);
  if (std::exchange(silent_, false) || now - shown_ >= wait) {
    shown_ = now;
    const double spent = std::chrono::duration<double>(now - started_).count();
    std::string left;
    if (done_ > 0) {
      const double seconds = spent / static_cast<double>(done_) * static_cast<double>(steps_ - std::min(done_, steps_));
      left = fmt::format(", {}:{:02} left", static_cast<int>(seconds) / 60, static_cast<int>(seconds) % 60);
    }
    const std::size_t percent = steps_ == 0 ? 100 : std::min<std::size_t>(100, 100 * done_ / steps_);
    fmt::print(stderr, "{}{:3}%{}  {}{}", terminal_ ? "\r" : "", percent, left, what, terminal_ ? "\033[K" : "\n");
    std::fflush(stderr);
  }
  ++done_;
}

void Progress::skip(std::size_t steps) { done_ += steps; }

void Progress::finish() {
  if (terminal_) fmt::print(stderr, "\r\033[K");
}

}  // namespace vellum::bench
