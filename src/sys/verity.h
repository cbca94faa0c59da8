// fs-verity of the kernel: its digest of a file, and switching it on. Threads: safe.
// Errors: ENOTTY, EOPNOTSUPP: neither kernel nor file system has it. ENODATA: not switched on for this file.
#pragma once

#include <array>
#include <cstdint>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

inline constexpr std::uint32_t kVeritySha256 = 1;  // FS_VERITY_HASH_ALG_*
inline constexpr std::uint32_t kVeritySha512 = 2;

struct VerityMeasure {
  std::uint32_t algorithm = 0;
  std::uint32_t size = 0;
  std::array<std::uint8_t, 64> digest{};
};

// FS_IOC_MEASURE_VERITY. The digest says nothing of the block size that it was made with.
Result<VerityMeasure> measure_verity(FdRef file);
// FS_IOC_ENABLE_VERITY, no salt, no signature. The fd is open for reading, and no fd of the file for writing (ETXTBSY).
Status enable_verity(FdRef file, std::uint32_t algorithm, std::uint32_t block_size);

}  // namespace vellum::sys
