// The kernel's switch for FUSE over io_uring, set as a test needs it and put back with the object's end. It counts at
// the moment of mounting only. Held with a lock, so that tests in other processes (and mounts with io_uring=1) wait.
// Prerequisite: root, and a kernel with FUSE over io_uring (Linux 6.14). Without, the test fails.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>

#include "sys/uring_permit.h"

namespace vellum::fuse::testing {

class UringSwitch {
 public:
  explicit UringSwitch(bool on) : file_(::open(sys::UringPermit::kSwitch, O_RDWR | O_CLOEXEC)) {
    if (file_ < 0 || ::flock(file_, LOCK_EX) != 0 || ::pread(file_, &before_, 1, 0) != 1 ||
        ::pwrite(file_, on ? "Y" : "N", 1, 0) != 1)
      ADD_FAILURE() << sys::UringPermit::kSwitch << ": " << std::strerror(errno);
  }
  ~UringSwitch() {
    if (before_ != 0 && ::pwrite(file_, &before_, 1, 0) != 1) ADD_FAILURE() << sys::UringPermit::kSwitch;
    if (file_ >= 0) ::close(file_);
  }
  UringSwitch(const UringSwitch&) = delete;
  UringSwitch& operator=(const UringSwitch&) = delete;

 private:
  int file_;
  char before_ = 0;
};

}  // namespace vellum::fuse::testing
