// Going to the background without lying: the parent returns only when the child said it is ready, or failed.
//
//   Daemon daemon = TRY(Daemon::start());        // forks; before any thread is made
//   if (daemon.is_parent()) return daemon.wait(); // 0, or 1 after printing the child's message
//   ... prepare; errors still go to the terminal ...
//   daemon.ready();                               // or: return daemon.fail("cannot ...");
//
// With Daemon::foreground() the same code runs without a fork.
// Threads: ready() and fail() may be called by any thread; the first of them counts.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::fuse {

class Daemon {
 public:
  static Result<Daemon> start();
  static Daemon foreground();
  Daemon(Daemon&&) noexcept;
  Daemon& operator=(Daemon&&) = delete;

  bool is_parent() const { return child_ > 0; }
  // In the parent: waits for the child's word. The exit status: 0, or what fail() was given, or 1 if the child
  // died without a word (which is told on stderr). Told by SIGINT, SIGTERM or SIGHUP to stop waiting, it sends the
  // child SIGTERM, and the status is 128 + that signal's number.
  int wait();

  // In the child: the service is usable. Lets go of the terminal and the working directory.
  void ready();
  // In the child: it never will be. The message is printed (by the parent, or here in the foreground).
  // Returns the exit status to leave with.
  int fail(std::string_view message, int status = 1);

 private:
  Daemon() = default;
  pid_t child_ = 0;
  sys::UniqueFd word_;  // the parent's read end, or the child's write end
  bool background_ = false;
  std::atomic<bool> said_{false};
};

}  // namespace vellum::fuse
