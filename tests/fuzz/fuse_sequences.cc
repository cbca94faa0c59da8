// Sensible operations through Client, Session and back; in the end nothing may be left counted or open.
#include "fuzz/fuse_drive.h"
#include "unit/fuse/memory_fs.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vellum::fuse::testing::MemoryFs filesystem;
  vellum::fuzz::drive_through_client(filesystem, std::as_bytes(std::span(data, size)));
  if (filesystem.open_handles() != 0 || filesystem.counted_lookups() != 0) std::abort();
  return 0;
}
