// The kernel's own switch for FUSE over io_uring, /sys/module/fuse/parameters/enable_uring. It is asked at INIT only: a
// connection that was allowed to use io_uring keeps it.
//
// take() sees that the switch is on and, if it had to turn it on, turns it off again with the object's end. Processes
// that do so at the same time wait for each other. Killed in between, it leaves the switch on.
// Errors: ENOENT for a kernel without it, EACCES and EROFS where only the administrator may, EBUSY when somebody holds
// it for seconds. Threads: a plain value.
#pragma once

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

class UringPermit {
 public:
  static constexpr const char* kSwitch = "/sys/module/fuse/parameters/enable_uring";

  static Result<UringPermit> take(const char* path = kSwitch);
  UringPermit(UringPermit&&) noexcept = default;
  UringPermit& operator=(UringPermit&&) = delete;
  ~UringPermit();

 private:
  explicit UringPermit(UniqueFd changed) : changed_(std::move(changed)) {}
  UniqueFd changed_;  // the switch, held, if it is to be turned off again
};

}  // namespace vellum::sys
