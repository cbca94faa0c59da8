// Raw requests, well-formed or not, into a Session over the in-memory file system.
#include "fuzz/fuse_drive.h"
#include "unit/fuse/memory_fs.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vellum::fuse::testing::MemoryFs filesystem;
  vellum::fuzz::drive_requests(filesystem, std::as_bytes(std::span(data, size)));
  return 0;
}
