#include "sys/verity.h"

#include <linux/fsverity.h>
#include <sys/ioctl.h>

#include <cstring>

namespace vellum::sys {

Result<VerityMeasure> measure_verity(FdRef file) {
  VerityMeasure found;
  alignas(fsverity_digest) std::array<std::uint8_t, sizeof(fsverity_digest) + sizeof found.digest> buffer{};
  fsverity_digest head{};
  head.digest_size = sizeof found.digest;
  std::memcpy(buffer.data(), &head, sizeof head);
  if (::ioctl(file.raw(), FS_IOC_MEASURE_VERITY, buffer.data()) < 0) return fail_errno();
  std::memcpy(&head, buffer.data(), sizeof head);
  if (head.digest_size > sizeof found.digest) return fail(EOVERFLOW);
  found.algorithm = head.digest_algorithm;
  found.size = head.digest_size;
  std::memcpy(found.digest.data(), buffer.data() + sizeof head, head.digest_size);
  return found;
}

Status enable_verity(FdRef file, std::uint32_t algorithm, std::uint32_t block_size) {
  fsverity_enable_arg argument{};
  argument.version = 1;
  argument.hash_algorithm = algorithm;
  argument.block_size = block_size;
  if (::ioctl(file.raw(), FS_IOC_ENABLE_VERITY, &argument) < 0) return fail_errno();
  return {};
}

}  // namespace vellum::sys
