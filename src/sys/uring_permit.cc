#include "sys/uring_permit.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace vellum::sys {
namespace {

Status set(FdRef file, char value) {
  if (::pwrite(file.raw(), &value, 1, 0) != 1) return fail_errno();
  return {};
}

Status lock(FdRef file, int how) {
  for (int tries = 0; ::flock(file.raw(), how | LOCK_NB) != 0; ++tries) {
    constexpr int kMost = 500;
    if (errno != EWOULDBLOCK && errno != EINTR) return fail_errno();
    if (tries == kMost) return fail(EBUSY);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return {};
}

Result<bool> is_on(FdRef file) {
  char value = 0;
  if (::pread(file.raw(), &value, 1, 0) != 1) return fail(EIO);
  return value == 'Y';
}

}  // namespace

Result<UringPermit> UringPermit::take(const char* path) {
  UniqueFd file(::open(path, O_RDWR | O_CLOEXEC));
  if (!file) return fail_errno();
  // Whoever turned it on for a moment holds the lock: a Y seen without it might be gone before our INIT.
  TRY(lock(file, LOCK_EX));
  if (TRY(is_on(file))) {
    // Nobody but the administrator turns that off.
    return UringPermit(UniqueFd(), false);
  }
  TRY(set(file, 'Y'));
  return UringPermit(std::move(file), true);
}

Result<UringPermit> UringPermit::keep(const char* path) {
  UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno();
  // Most often it is off, and then whoever is turning it on need not be waited for.
  if (!TRY(is_on(file))) return fail(EOPNOTSUPP);
  TRY(lock(file, LOCK_SH));
  if (!TRY(is_on(file))) return fail(EOPNOTSUPP);
  return UringPermit(std::move(file), false);
}

UringPermit::~UringPermit() {
  if (held_ && changed_) ignore(set(held_, 'N'));  // it was written before, a moment ago
}

}  // namespace vellum::sys
