// std::mutex and std::shared_mutex with Clang's thread-safety annotations (checked with clang-19 in CI).
// SharedMutex favours readers as glibc's rwlock does. Neither is recursive.
#pragma once

#include <mutex>
#include <shared_mutex>

#if defined(__clang__)
#define VELLUM_TSA(x) __attribute__((x))
#else
#define VELLUM_TSA(x)
#endif
#define CAPABILITY(x) VELLUM_TSA(capability(x))
#define SCOPED_CAPABILITY VELLUM_TSA(scoped_lockable)
#define GUARDED_BY(x) VELLUM_TSA(guarded_by(x))
#define PT_GUARDED_BY(x) VELLUM_TSA(pt_guarded_by(x))
#define REQUIRES(...) VELLUM_TSA(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...) VELLUM_TSA(requires_shared_capability(__VA_ARGS__))
#define ACQUIRE(...) VELLUM_TSA(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...) VELLUM_TSA(acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...) VELLUM_TSA(release_capability(__VA_ARGS__))
#define RELEASE_SHARED(...) VELLUM_TSA(release_shared_capability(__VA_ARGS__))
#define RELEASE_GENERIC(...) VELLUM_TSA(release_generic_capability(__VA_ARGS__))
#define EXCLUDES(...) VELLUM_TSA(locks_excluded(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS VELLUM_TSA(no_thread_safety_analysis)

namespace vellum {

class CAPABILITY("mutex") Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class CAPABILITY("mutex") SharedMutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }
  void lock_shared() ACQUIRE_SHARED() { mutex_.lock_shared(); }
  void unlock_shared() RELEASE_SHARED() { mutex_.unlock_shared(); }

 private:
  std::shared_mutex mutex_;
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class SCOPED_CAPABILITY WriteLock {
 public:
  explicit WriteLock(SharedMutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~WriteLock() RELEASE() { mutex_.unlock(); }
  WriteLock(const WriteLock&) = delete;
  WriteLock& operator=(const WriteLock&) = delete;

 private:
  SharedMutex& mutex_;
};

class SCOPED_CAPABILITY ReadLock {
 public:
  explicit ReadLock(SharedMutex& mutex) ACQUIRE_SHARED(mutex) : mutex_(mutex) { mutex_.lock_shared(); }
  ~ReadLock() RELEASE_GENERIC() { mutex_.unlock_shared(); }
  ReadLock(const ReadLock&) = delete;
  ReadLock& operator=(const ReadLock&) = delete;

 private:
  SharedMutex& mutex_;
};

}  // namespace vellum
