// The kernel's own switch for FUSE over io_uring, /sys/module/fuse/parameters/enable_uring. A connection that found it
// on when it sent INIT and when it got the answer may use io_uring for good. One that found it on and then off may not,
// but the kernel takes its rings if it is on again by then, and refuses their answers when it is off: requests would
// hang. So nobody turns it off while another mount is being made:
//
// take() sees that the switch is on and, if it had to turn it on, turns it off again with the object's end. Processes
// that do so at the same time wait for each other. Killed in between, it leaves the switch on.
// keep() sees that it stays on until the object's end, if it is.
// Errors: ENOENT for a kernel without it, EACCES and EROFS where only the administrator may, EBUSY when somebody holds
// it for seconds; of keep(): EOPNOTSUPP: it is off. Threads: a plain value.
#pragma once

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

class UringPermit {
 public:
  static constexpr const char* kSwitch = "/sys/module/fuse/parameters/enable_uring";

  static Result<UringPermit> take(const char* path = kSwitch);
  static Result<UringPermit> keep(const char* path = kSwitch);
  UringPermit(UringPermit&&) noexcept = default;
  UringPermit& operator=(UringPermit&&) = delete;
  ~UringPermit();

 private:
  UringPermit(UniqueFd held, bool changed) : held_(std::move(held)), changed_(changed) {}
  UniqueFd held_;  // the switch, locked
  bool changed_;   // and to be turned off again
};

}  // namespace vellum::sys
