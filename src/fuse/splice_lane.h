// Long READs and WRITEs past our memory: pages go from a file into a pipe and from there to the kernel, or the other
// way. It saves one of two copies. Short ones are cheaper to copy than to splice.
//
// Belongs to one worker that serves /dev/fuse. Nothing is opened before the first long request.
// Threads: the worker's own. Errors: every failure leaves the request to be served as usual.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "fuse/channel.h"
#include "sys/fd.h"
#include "sys/pipe.h"

namespace vellum::fuse {

class SpliceLane {
 public:
  // The least that pays (docs/performance.md).
  static constexpr std::size_t kLeast = 64 << 10;

  // `max_write`: the most data in one message.
  SpliceLane(sys::FdRef device, std::size_t max_write) : device_(device), max_write_(max_write) {}

  // READ: puts a reply with the bytes of the file into the pipe; returns how many bytes. It is then sent or dropped.
  Result<std::size_t> load(std::uint64_t unique, sys::FdRef file, std::uint64_t offset, std::size_t size);
  bool is_loaded() const { return loaded_ > 0; }
  Status send();

  // WRITEs come in runs: whether the next request is to be received here. True until one was, because a request that is
  // no long WRITE costs a system call more.
  bool expects_data() const { return expects_data_; }
  void expect_data(bool expected);
  // As Channel::receive(). The data of a long WRITE stays behind: its place in the buffer is left as it was.
  Result<RequestBytes> receive(std::span<std::byte> buffer);
  bool holds_data() const { return held_ > 0; }
  // Where the data goes: into a file, or else to its place in the buffer. What a file does not take goes there, too.
  // An error of the second means that some of it is gone.
  Result<std::size_t> unload(sys::FdRef file, std::uint64_t offset);
  Status unload_to_buffer();

  // After each request: nothing of it stays in the pipe.
  void settle() {
    if (held_ > 0 || loaded_ > 0) drop();
  }
  // Requests cannot be received here: the channel's own way from now on.
  void give_up();

 private:
  bool open(std::size_t pages);
  void drop();

  sys::FdRef device_;
  std::size_t max_write_;
  std::optional<sys::Pipe> pipe_;
  std::size_t refused_ = SIZE_MAX;  // there is no pipe of so many pages for us
  bool spent_ = false;              // what was held, or a part of it, went into a file
  bool expects_data_ = false;
  std::size_t loaded_ = 0;      // bytes of a reply in the pipe
  std::size_t held_ = 0;        // bytes of a request in the pipe
  std::span<std::byte> place_;  // of these in the buffer
};

}  // namespace vellum::fuse
