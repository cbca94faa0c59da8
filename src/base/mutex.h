// Mutexes with Clang's thread-safety annotations (checked with clang-19 in CI). None is recursive, not even for
// readers: a writer that waits for a SharedMutex holds new readers back, so that steady lookups cannot starve a
// rename (std::shared_mutex on glibc would let them). A SharedMutex is four bytes, because every node of a mount has
// one.
#pragma once

#include <atomic>
#include <cstdint>
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

  void lock() VELLUM_ACQUIRE() {
    std::uint32_t seen = state_.load(std::memory_order_relaxed);
    for (;;) {
      if ((seen & ~kWriterWaits) == 0) {
        // Whoever else waits to write says so again.
        if (state_.compare_exchange_weak(seen, kWriter, std::memory_order_acquire, std::memory_order_relaxed)) return;
      } else if ((seen & kWriterWaits) != 0 ||
                 state_.compare_exchange_weak(seen, seen | kWriterWaits, std::memory_order_relaxed)) {
        state_.wait(seen | kWriterWaits, std::memory_order_relaxed);
        seen = state_.load(std::memory_order_relaxed);
      }
    }
  }
  void unlock() VELLUM_RELEASE() {
    // Sequentially consistent, here and below: notify looks for waiters, and must not do so before this is seen.
    state_.exchange(0, std::memory_order_seq_cst);
    state_.notify_all();
  }
  void lock_shared() VELLUM_ACQUIRE_SHARED() {
    std::uint32_t seen = state_.load(std::memory_order_relaxed);
    for (;;) {
      if ((seen & (kWriter | kWriterWaits)) != 0) {
        state_.wait(seen, std::memory_order_relaxed);
        seen = state_.load(std::memory_order_relaxed);
      } else if (state_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire, std::memory_order_relaxed)) {
        return;
      }
    }
  }
  void unlock_shared() VELLUM_RELEASE_SHARED() {
    // The last reader lets the writer in.
    if (state_.fetch_sub(1, std::memory_order_seq_cst) == (kWriterWaits | 1)) state_.notify_all();
  }

 private:
  static constexpr std::uint32_t kWriter = 1U << 31;
  static constexpr std::uint32_t kWriterWaits = 1U << 30;
  std::atomic<std::uint32_t> state_{0};  // and the number of readers
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
