// A read lease on a file: for as long as it is held, nobody opens the file to write to it, or cuts it short by its
// name. (By way of an overlay above it, truncate(2) can.)
//
// Who wants to waits in open(2) or truncate(2) until the lease is given back, which SIGIO asks this process for (block
// it before the first thread is made), or until /proc/sys/fs/lease-break-time (45 s) is over. Only on file systems that
// nobody else changes: no network, FUSE or overlay.
// Threads: plain value. Source: fcntl(2), F_SETLEASE.
#pragma once

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

class ReadLease {
 public:
  // EAGAIN: it is open for writing. EACCES: it is another's file. EOPNOTSUPP: not on that file system, nor without a
  // name.
  static Result<ReadLease> take(FdRef file);
  FdRef file() const { return file_; }
  // ETIMEDOUT: it was taken away before, and what the file holds now may be anything.
  Status give_back();

 private:
  explicit ReadLease(UniqueFd file) : file_(std::move(file)) {}
  UniqueFd file_;  // closing it would give the lease back, too
};

}  // namespace vellum::sys
