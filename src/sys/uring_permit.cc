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

}  // namespace

Result<UringPermit> UringPermit::take(const char* path) {
  UniqueFd file(::open(path, O_RDWR | O_CLOEXEC));
  if (!file) return fail_errno();
  // Whoever turned it on for a moment holds the lock: a Y seen without it might be gone before our INIT.
  for (int tries = 0; ::flock(file.raw(), LOCK_EX | LOCK_NB) != 0; ++tries) {
    constexpr int kMost = 500;
    if (errno != EWOULDBLOCK && errno != EINTR) return fail_errno();
    if (tries == kMost) return fail(EBUSY);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  char value = 0;
  if (::pread(file.raw(), &value, 1, 0) != 1) return fail(EIO);
  if (value == 'Y') return UringPermit(UniqueFd());
  if (const Status status = set(file, 'Y'); !status) return fail(status.error());
  return UringPermit(std::move(file));
}

UringPermit::~UringPermit() {
  if (changed_) ignore(set(changed_, 'N'));  // it was written before, a moment ago
}

}  // namespace vellum::sys
