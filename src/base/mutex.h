// Mutexes with Clang's thread-safety annotations (checked with clang-19 in CI). None is recursive, not even for
// readers: a writer that waits for a SharedMutex holds new readers back, so that steady lookups cannot starve a
// rename (std::shared_mutex on glibc would let them).
#pragma once

#include <pthread.h>

#include <mutex>

#if defined(__clang__)
#define VELLUM_TSA(x) __attribute__((x))
#else
#define VELLUM_TSA(x)
#endif
#define VELLUM_CAPABILITY(x) VELLUM_TSA(capability(x))
#define VELLUM_SCOPED_CAPABILITY VELLUM_TSA(scoped_lockable)
#define VELLUM_GUARDED_BY(x) VELLUM_TSA(guarded_by(x))
#define VELLUM_PT_GUARDED_BY(x) VELLUM_TSA(pt_guarded_by(x))
#define VELLUM_REQUIRES(...) VELLUM_TSA(requires_capability(__VA_ARGS__))
#define VELLUM_REQUIRES_SHARED(...) VELLUM_TSA(requires_shared_capability(__VA_ARGS__))
#define VELLUM_ACQUIRE(...) VELLUM_TSA(acquire_capability(__VA_ARGS__))
#define VELLUM_ACQUIRE_SHARED(...) VELLUM_TSA(acquire_shared_capability(__VA_ARGS__))
#define VELLUM_RELEASE(...) VELLUM_TSA(release_capability(__VA_ARGS__))
#define VELLUM_RELEASE_SHARED(...) VELLUM_TSA(release_shared_capability(__VA_ARGS__))
#define VELLUM_RELEASE_GENERIC(...) VELLUM_TSA(release_generic_capability(__VA_ARGS__))
#define VELLUM_EXCLUDES(...) VELLUM_TSA(locks_excluded(__VA_ARGS__))
#define VELLUM_NO_THREAD_SAFETY_ANALYSIS VELLUM_TSA(no_thread_safety_analysis)

namespace vellum {

class VELLUM_CAPABILITY("mutex") Mutex {
 public:
  void lock() VELLUM_ACQUIRE() { mutex_.lock(); }
  void unlock() VELLUM_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class VELLUM_CAPABILITY("mutex") SharedMutex {
 public:
  SharedMutex() = default;
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;
  ~SharedMutex() { ::pthread_rwlock_destroy(&lock_); }

  void lock() VELLUM_ACQUIRE() { ::pthread_rwlock_wrlock(&lock_); }
  void unlock() VELLUM_RELEASE() { ::pthread_rwlock_unlock(&lock_); }
  void lock_shared() VELLUM_ACQUIRE_SHARED() { ::pthread_rwlock_rdlock(&lock_); }
  void unlock_shared() VELLUM_RELEASE_SHARED() { ::pthread_rwlock_unlock(&lock_); }

 private:
  pthread_rwlock_t lock_ = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
};

class VELLUM_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) VELLUM_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() VELLUM_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class VELLUM_SCOPED_CAPABILITY WriteLock {
 public:
  explicit WriteLock(SharedMutex& mutex) VELLUM_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~WriteLock() VELLUM_RELEASE() { mutex_.unlock(); }
  WriteLock(const WriteLock&) = delete;
  WriteLock& operator=(const WriteLock&) = delete;

 private:
  SharedMutex& mutex_;
};

class VELLUM_SCOPED_CAPABILITY ReadLock {
 public:
  explicit ReadLock(SharedMutex& mutex) VELLUM_ACQUIRE_SHARED(mutex) : mutex_(mutex) { mutex_.lock_shared(); }
  ~ReadLock() VELLUM_RELEASE_GENERIC() { mutex_.unlock_shared(); }
  ReadLock(const ReadLock&) = delete;
  ReadLock& operator=(const ReadLock&) = delete;

 private:
  SharedMutex& mutex_;
};

}  // namespace vellum
