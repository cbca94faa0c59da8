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

// Anybody who may read the file can hold the lock: nobody waits for ever.
Status lock(FdRef file, int how, std::chrono::milliseconds most) {
  constexpr std::chrono::milliseconds kStep(10);
  for (std::chrono::milliseconds waited(0); ::flock(file.raw(), how | LOCK_NB) != 0; waited += kStep) {
    if (errno != EWOULDBLOCK && errno != EINTR) return fail_errno();
    if (waited >= most) return fail(EBUSY);
    std::this_thread::sleep_for(kStep);
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
  TRY(lock(file, LOCK_EX, std::chrono::seconds(5)));
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
  TRY(lock(file, LOCK_SH, std::chrono::seconds(1)));
  if (!TRY(is_on(file))) return fail(EOPNOTSUPP);
  return UringPermit(std::move(file), false);
}

UringPermit::~UringPermit() {
  if (held_ && changed_) ignore(set(held_, 'N'));  // it was written before, a moment ago
}

}  // namespace vellum::sys
