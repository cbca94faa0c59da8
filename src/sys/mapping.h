// Files as memory. A mapped file whose owner cuts it short kills who reads on (SIGBUS), and one that is written to
// changes under the reader's eyes: map only what cannot_change(), or under a lease (lease.h), else take a copy.
// Threads: safe. Errors: as of the system calls. Source: mmap(2), fcntl(2) F_GET_SEALS, fsverity.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

class FileMapping {
 public:
  FileMapping() = default;
  static Result<FileMapping> map(FdRef file, std::uint64_t size);  // read only, from its first byte
  // The same bytes in memory of this process's own, read only from then on. EIO: the file was cut short meanwhile.
  static Result<FileMapping> copy(FdRef file, std::uint64_t size);
  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping&& other) noexcept;
  ~FileMapping();
  // A mapping becomes a copy, in place: who reads it meanwhile sees the same bytes.
  Status detach(FdRef file);
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

// Protected by fs-verity, or a memfd sealed against writing and shrinking.
bool cannot_change(FdRef file);

}  // namespace vellum::sys
