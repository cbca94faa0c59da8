#include "fuse/daemon.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <string>

#include "fuse/stop_signals.h"

namespace vellum::fuse {
namespace {

struct Outcome {
  int status = -1;
  std::string errors;
};

// Runs a main() of a kind in a process of its own, and tells how it left and what it printed.
template <class Main>
Outcome run(Main main) {
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[1]);
    ::close(ends[0]);
    ::_exit(main());
  }
  ::close(ends[1]);
  Outcome outcome;
  char buffer[256];
  for (ssize_t got = 0; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    outcome.errors.append(buffer, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  return outcome;
}

TEST(DaemonTest, ParentThatIsTornAwayTellsTheChild) {
  const Outcome outcome = run([] {
    if (!StopSignals::block()) return 7;
    auto daemon = Daemon::start();
    if (daemon->is_parent()) {
      ::kill(::getpid(), SIGINT);
      return daemon->wait();
    }
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    int got = 0;
    ::sigwait(&set, &got);
    daemon->ready();  // nobody listens any more
    return 0;
  });
  EXPECT_EQ(outcome.status, 128 + SIGINT);
  EXPECT_EQ(outcome.errors, "");
}

TEST(DaemonTest, ParentReturnsZeroOnceReady) {
  const Outcome outcome = run([] {
    auto daemon = Daemon::start();
    if (daemon->is_parent()) return daemon->wait();
    daemon->ready();
    char directory[256];
    // The terminal is let go of, the working directory too, and this is a session of its own.
    const bool detached =
        ::getcwd(directory, sizeof directory) != nullptr && std::string(directory) == "/" && ::getsid(0) == ::getpid();
    return detached ? 0 : 9;
  });
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.errors, "");
}

TEST(DaemonTest, ParentPrintsTheReasonAndFails) {
  const Outcome outcome = run([] {
    auto daemon = Daemon::start();
    if (daemon->is_parent()) return daemon->wait();
    return daemon->fail("cannot mount /x: because");
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.errors, "cannot mount /x: because\n");
}

TEST(DaemonTest, ChildThatDiesIsAFailure) {
  const Outcome outcome = run([] {
    auto daemon = Daemon::start();
    if (daemon->is_parent()) return daemon->wait();
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.errors.find("signal 9"), std::string::npos) << outcome.errors;
}

TEST(DaemonTest, ForegroundFailsInPlace) {
  const Outcome outcome = run([] {
    Daemon daemon = Daemon::foreground();
    return daemon.fail("no", 3);
  });
  EXPECT_EQ(outcome.status, 3);
  EXPECT_EQ(outcome.errors, "no\n");
}

TEST(StopSignalsTest, CallBackAndEndWithTheirOwner) {
  const Outcome outcome = run([] {
    if (!StopSignals::block()) return 1;
    std::atomic<int> stops = 0, reports = 0;
    std::promise<void> stopped;
    {
      StopSignals signals({.stop =
                               [&](int signal) {
                                 stops += signal == SIGTERM ? 1 : 100;
                                 stopped.set_value();
                               },
                           .report = [&] { ++reports; }});
      ::kill(::getpid(), SIGPIPE);
      ::kill(::getpid(), SIGUSR1);
      while (reports == 0) ::usleep(1000);
      ::kill(::getpid(), SIGTERM);
      stopped.get_future().wait();
    }
    { StopSignals unused({}); }
    return stops == 1 && reports == 1 ? 0 : 2;
  });
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
}

// Sends each when the one before was answered.
int stops_and_hurries(std::initializer_list<int> signals, StopSignals::Callbacks callbacks) {
  if (!StopSignals::block()) return -1;
  std::atomic<int> stops = 0, hurries = 0, reports = 0;
  callbacks.stop = [&](int) { ++stops; };
  callbacks.hurry = [&] { hurries += 10; };
  callbacks.report = [&] { ++reports; };
  const StopSignals watcher(std::move(callbacks));
  int sent = 0;
  for (const int signal : signals) {
    ::kill(::getpid(), signal);
    // The lowest number is read first.
    for (sigset_t pending; ::sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;) ::usleep(1000);
    ::kill(::getpid(), SIGUSR1);
    while (reports <= sent) ::usleep(1000);
    ++sent;
  }
  return stops + hurries;
}

TEST(StopSignalsTest, SaidTwiceIsSaidOnce) {
  EXPECT_EQ(run([] {
              return stops_and_hurries({SIGTERM, SIGTERM, SIGHUP}, {.patience = std::chrono::hours(1)});
            }).status,
            1);
}

TEST(StopSignalsTest, SaidAgainIsAHurry) {
  EXPECT_EQ(run([] { return stops_and_hurries({SIGTERM, SIGTERM, SIGHUP}, {.patience = {}}); }).status, 21);
}

TEST(StopSignalsTest, WhatTheCallerIgnoresStaysIgnored) {
  const Outcome outcome = run([] {
    ::signal(SIGHUP, SIG_IGN);
    ::signal(SIGINT, SIG_IGN);
    return stops_and_hurries({SIGHUP, SIGINT}, {});
  });
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
}

}  // namespace
}  // namespace vellum::fuse
