// A page of a mapped file that cannot be read (a disk that fails, fs-verity that finds it changed, a file that was cut
// short) is the process's end: SIGBUS. Under a guard it reads as zeros for a moment, and whoever has read anything of
// the mapping meanwhile is told that it may not have been the file's.
//
// A reader takes a mark, reads, and asks whole_since(); after `false`, what it has read must not leave its hands.
// While nothing goes wrong that costs a few loads. The next reader finds the file there again, and perhaps the disk
// has come to its senses. Installs a handler of SIGBUS for good; faults elsewhere go the way they went before.
// Threads: safe. Errors: ENOSPC: more than kMost at a time; those of the system calls. Source: sigaction(2), mmap(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/mutex.h"
#include "base/result.h"
#include "sys/fd.h"
#include "sys/mapping.h"

namespace vellum::sys {

struct GuardedRange;  // what the handler knows of a mapping

class FaultGuard {
 public:
  static constexpr std::size_t kMost = 16;

  // Over all of a mapping of `file`, which must outlive the guard.
  static Result<std::unique_ptr<FaultGuard>> create(FileMapping& mapping, FdRef file);
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;
  ~FaultGuard();

  struct Mark {
    std::uint64_t faults = 0;
    bool whole = false;
  };
  Mark mark();
  bool whole_since(const Mark& mark);
  std::uint64_t last_fault() const;  // which byte of the file could not be read

  // FileMapping::detach(), while others read.
  Status detach();

 private:
  FaultGuard(FileMapping& mapping, UniqueFd file, GuardedRange& range)
      : mapping_(mapping), file_(std::move(file)), range_(range) {}
  void restore();

  Mutex mutex_;  // of who puts other pages in the place
  FileMapping& mapping_;
  const UniqueFd file_;
  GuardedRange& range_;
  bool detached_ VELLUM_GUARDED_BY(mutex_) = false;
};

}  // namespace vellum::sys
