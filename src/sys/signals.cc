#include "sys/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

namespace vellum::sys {
namespace {

sigset_t set_of(const std::vector<int>& signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  return set;
}

}  // namespace

Status block_signals(const std::vector<int>& signals) {
  const sigset_t set = set_of(signals);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) return fail(error);
  return {};
}

bool is_ignored(int signal) {
  struct sigaction now {};
  return ::sigaction(signal, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_IGN;
}

void ignore_failing_writes() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

Result<SignalQueue> SignalQueue::create(const std::vector<int>& signals) {
  const sigset_t set = set_of(signals);
  UniqueFd queue(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!queue) return fail_errno();
  UniqueFd interrupted(::eventfd(0, EFD_CLOEXEC));
  if (!interrupted) return fail_errno();
  return SignalQueue(std::move(queue), std::move(interrupted));
}

Result<int> SignalQueue::next_unless(FdRef other) {
  while (true) {
    pollfd events[] = {{signals_.raw(), POLLIN, 0}, {other.raw(), POLLIN, 0}};
    if (::poll(events, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return fail_errno();
    }
    if (events[1].revents != 0) return 0;
    signalfd_siginfo info{};
    if (::read(signals_.raw(), &info, sizeof info) == sizeof info) return static_cast<int>(info.ssi_signo);
    if (errno != EINTR) return fail_errno();
  }
}

void SignalQueue::interrupt() {
  const std::uint64_t one = 1;
  // An eventfd takes a small number at any time.
  [[maybe_unused]] const ssize_t put = ::write(interrupted_.raw(), &one, sizeof one);
}

}  // namespace vellum::sys
