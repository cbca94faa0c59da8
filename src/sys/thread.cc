#include "sys/thread.h"

#include <csignal>
#include <cstring>

namespace vellum::sys {

void allow_wake() {
  // Without SA_RESTART, so that the call that sleeps returns.
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    return ::sigaction(SIGURG, &action, nullptr) == 0;
  }();
  static_cast<void>(installed);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGURG);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

pthread_t this_thread() { return ::pthread_self(); }

void wake(pthread_t thread) { ::pthread_kill(thread, SIGURG); }

void name_this_thread(const char* name) {
  char kept[16] = {};
  std::strncpy(kept, name, sizeof kept - 1);
  ::pthread_setname_np(::pthread_self(), kept);
}

}  // namespace vellum::sys
