#include "sys/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace vellum::sys {

Result<FileMapping> FileMapping::map(FdRef file, std::uint64_t size) {
  FileMapping mapping;
  if (size == 0) return mapping;
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.raw(), 0);
  if (at == MAP_FAILED) return fail_errno();
  mapping.bytes_ = {static_cast<const std::byte*>(at), size};
  return mapping;
}

Result<FileMapping> FileMapping::copy(FdRef file, std::uint64_t size) {
  FileMapping mapping;
  if (size == 0) return mapping;
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return fail_errno();
  mapping.bytes_ = {static_cast<const std::byte*>(at), size};
  ::madvise(at, size, MADV_HUGEPAGE);  // fewer faults; where there are none, small pages do
  for (std::uint64_t done = 0; done < size;) {
    constexpr std::uint64_t kMost = std::uint64_t{1} << 30;
    const ssize_t got =
        ::pread(file.raw(), static_cast<std::byte*>(at) + done, std::min(size - done, kMost), static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno();
    if (got == 0) return fail(EIO);
    done += static_cast<std::uint64_t>(got);
  }
  if (::mprotect(at, size, PROT_READ) != 0) return fail_errno();
  return mapping;
}

Status FileMapping::detach(FdRef file) {
  if (bytes_.empty()) return {};
  FileMapping own = TRY(copy(file, bytes_.size()));
  void* from = const_cast<std::byte*>(own.bytes_.data());
  void* to = const_cast<std::byte*>(bytes_.data());
  if (::mremap(from, bytes_.size(), bytes_.size(), MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
    const Errno error(errno);
    // It may have taken away what was there before it failed.
    ::mmap(to, bytes_.size(), PROT_READ, MAP_SHARED | MAP_FIXED, file.raw(), 0);
    return fail(error);
  }
  own.bytes_ = {};  // that place is empty now
  return {};
}

FileMapping::FileMapping(FileMapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

FileMapping& FileMapping::operator=(FileMapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

FileMapping::~FileMapping() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

bool cannot_change(FdRef file) {
  struct ::statx st {};
  constexpr std::uint64_t kVerity = 0x00100000;  // STATX_ATTR_VERITY
  if (::statx(file.raw(), "", AT_EMPTY_PATH, 0, &st) == 0 && (st.stx_attributes & kVerity) != 0) return true;
  const int seals = ::fcntl(file.raw(), F_GET_SEALS);
  constexpr int kNeeded = F_SEAL_WRITE | F_SEAL_SHRINK;
  return seals >= 0 && (seals & kNeeded) == kNeeded;
}

}  // namespace vellum::sys
