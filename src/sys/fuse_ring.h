// An io_uring on which one thread takes FUSE requests and answers them, instead of read(2) and write(2) on /dev/fuse.
//
// It holds one entry: memory for one request and its reply, given to the kernel for one of its queues (there is one per
// possible CPU). The entry is registered once; after that commit_and_fetch() hands over the reply and asks for the next
// request in one step. Commands go to the kernel with the next wait() or flush().
// The ring starts disabled: enable() is called by the thread that makes every call from then on, but for pending().
// Errors: those of io_uring_setup(2): ENOSYS, EPERM (kernel.io_uring_disabled), ENOMEM, EMFILE.
// Source: facts of Linux include/uapi/linux/fuse.h (protocol 7.42) and fs/fuse/dev_uring.c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

class FuseRing {
 public:
  static Result<FuseRing> create(FdRef device);

  FuseRing(FuseRing&&) noexcept;
  FuseRing& operator=(FuseRing&&) noexcept;
  ~FuseRing();  // any thread, once the ring's own one has ended

  Status enable();
  // The memory belongs to the kernel until wait() says that a request is there, and must outlive the ring.
  Status register_entry(std::uint16_t queue, std::span<std::byte> header, std::span<std::byte> payload);
  Status commit_and_fetch(std::uint16_t queue, std::uint64_t commit_id);
  // Sleeps until the last command is done. Success: a request is in the memory. EINTR: a signal came, wait again.
  // Otherwise what the kernel said of the command; ENOTCONN and ECONNABORTED: the connection has ended.
  Status wait();
  Status flush();
  // Whether wait() would not sleep. Any thread.
  bool pending() const;

 private:
  struct State;
  explicit FuseRing(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace vellum::sys
