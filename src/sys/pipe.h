// A pipe as a place for pages on their way between two files, without a copy in this process: splice(2).
// No call waits for room or for bytes in the pipe; receiving from a FUSE device waits for a request.
// Threads: a plain value, for one thread. Errors: as of splice(2), read(2), write(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

class Pipe {
 public:
  // Asks for room for so many pages. Plain users may get less (fs.pipe-max-size, fs.pipe-user-pages-soft): pages()
  // tells.
  static Result<Pipe> create(std::size_t pages);

  // How many pieces, each of a page or less, it can hold.
  std::size_t pages() const { return pages_; }
  // Asks for more room. It must be empty.
  void grow(std::size_t pages);

  // Bytes of our own, in and out.
  Result<std::size_t> write(std::span<const std::byte> bytes);
  Result<std::size_t> read(std::span<std::byte> out);

  // At most so many bytes. Fewer at the end of the file, or when the pipe is full or empty.
  Result<std::size_t> fill_from(FdRef file, std::uint64_t offset, std::size_t size);
  Result<std::size_t> empty_into(FdRef file, std::uint64_t offset, std::size_t size);

  // The same with a FUSE device, which takes and gives whole messages; see read_request and write_message in
  // fuse_device.h. A request that has no room in the pipe is answered EIO by the kernel.
  Result<std::size_t> receive_request(FdRef device, std::size_t most);
  Status send_message(FdRef device, std::size_t size);

 private:
  UniqueFd out_, in_;
  std::size_t pages_ = 0;
};

}  // namespace vellum::sys
