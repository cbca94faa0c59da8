// Signals as something to wait for. block_signals() must run before the first thread is made (threads inherit).
// Threads: a SignalQueue is read by one thread; interrupt() may be called by any.
#pragma once

#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

Status block_signals(const std::vector<int>& signals);
bool is_ignored(int signal);  // as the caller set it: nohup(1), or a shell for what it puts in the background
// SIGPIPE and SIGXFSZ (a file size limit inherited from a shell): the write fails instead.
void ignore_failing_writes();

class SignalQueue {
 public:
  static Result<SignalQueue> create(const std::vector<int>& signals);
  // Waits for the next signal; 0 once interrupt() was called.
  Result<int> next() { return next_unless(interrupted_); }
  // Waits for the next signal, or until there is something to be read from `other`: 0.
  Result<int> next_unless(FdRef other);
  void interrupt();

 private:
  SignalQueue(UniqueFd signals, UniqueFd interrupted)
      : signals_(std::move(signals)), interrupted_(std::move(interrupted)) {}
  UniqueFd signals_, interrupted_;
};

}  // namespace vellum::sys
