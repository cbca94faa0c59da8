// An image of any bytes: whatever it says, reading it ends, stays inside of it, and answers with data or an errno.
// The superblock's fixed parts are put right, or hardly any input would come past them.
#include <cstring>
#include <span>
#include <vector>

#include "fuzz/image_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vellum;
  constexpr std::size_t kMost = 256 << 10;
  if (size < erofs::kFirstInodeOffset || size > kMost) return 0;
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), data, size);
  erofs::SuperBlock super;
  std::memcpy(&super, data + erofs::kSuperBlockOffset, sizeof super);
  super.magic = erofs::kSuperMagic;
  if (super.block_bits < 9 || super.block_bits > 16) super.block_bits = erofs::kBlockBits;
  bytes.resize((size + (1U << super.block_bits) - 1) >> super.block_bits << super.block_bits);
  super.blocks = static_cast<std::uint32_t>(bytes.size() >> super.block_bits);
  std::memcpy(bytes.data() + erofs::kSuperBlockOffset, &super, sizeof super);
  const auto image = erofs::Image::open(bytes, {.report = nullptr, .check_checksum = false});
  if (!image) return 0;
  vellum::testing::walk_image(*image, 512);
  for (const auto rule :
       {composefs::XattrRule::kMetadata, composefs::XattrRule::kStandalone, composefs::XattrRule::kAsStored})
    vellum::testing::walk_image_fs(*image, rule);
  return 0;
}
