// A line on stderr with the percentage done and the time that is left. Threads: one.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace vellum::bench {

class Progress {
 public:
  explicit Progress(std::size_t steps);
  void step(const std::string& what);  // begins one
  void skip(std::size_t steps);        // which somebody else has made
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  std::size_t steps_;
  std::size_t done_ = 0;
  bool silent_ = true;
  bool terminal_;
  Clock::time_point started_ = Clock::now();
  Clock::time_point shown_{};
};

}  // namespace vellum::bench
