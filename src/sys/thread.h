// Waking a thread that sleeps in a system call: the call returns EINTR.
// Threads: safe; the thread that is woken must not have ended (its owner knows).
#pragma once

#include <pthread.h>

namespace vellum::sys {

// Prepares the calling thread to be woken (the signal used is SIGURG, which nothing here needs otherwise).
void allow_wake();
pthread_t this_thread();
void wake(pthread_t thread);
void name_this_thread(const char* name);  // at most 15 bytes are kept

}  // namespace vellum::sys
