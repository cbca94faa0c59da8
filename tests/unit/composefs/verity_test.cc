#include "composefs/verity.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "sys/file.h"
#include "unit/temp_dir.h"

namespace vellum::composefs {
namespace {

using vellum::testing::TempDir;

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::uint32_t state = 1;
  for (std::byte& each : bytes) {
    state = state * 1664525 + 1013904223;
    each = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

TEST(Verity, EmptyFileAsTheKernelSays) {
  EXPECT_EQ(digest_of_bytes({}).hex(), "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95");
}

// Each way of feeding the same bytes gives the same digest, at every edge of the tree.
TEST(Verity, PiecesAndThreadsMakeNoDifference) {
  for (const VerityFormat format : {VerityFormat{}, VerityFormat{Hash::kSha512, 12}, VerityFormat{Hash::kSha256, 16},
                                    VerityFormat{Hash::kSha512, 10}}) {
    const std::size_t block = format.block_size(), run = block * format.hashes_per_block();
    std::vector<std::size_t> sizes = {1, block - 1, block, block + 1, 2 * block};
    if (run < (1u << 20)) sizes.insert(sizes.end(), {run - 1, run, run + 1, 3 * run, 5 * run + 17});
    for (const std::size_t size : sizes) {
      const std::vector<std::byte> bytes = pattern(size);
      const Digest whole = digest_of_bytes(bytes, format);
      EXPECT_EQ(whole.size, format.digest_size());
      EXPECT_EQ(digest_of_bytes(bytes, format, 3), whole) << size;
      Digester digester(format);
      for (int round = 0; round < 2; ++round) {  // finish() starts anew
        for (std::size_t at = 0; at < size; at += 1001)
          digester.update(std::span(bytes).subspan(at, std::min<std::size_t>(1001, size - at)));
        EXPECT_EQ(digester.finish(), whole) << size;
      }
    }
  }
}

TEST(Verity, FilesAndWhatTheyHoldAgree) {
  const TempDir dir;
  const std::vector<std::byte> bytes = pattern(1300000);
  const std::string path = dir.path() + "/f";
  std::ofstream(path, std::ios::binary)
      .write(static_cast<const char*>(static_cast<const void*>(bytes.data())),
             static_cast<std::streamsize>(bytes.size()));
  const auto file = sys::open(path.c_str(), O_RDONLY);
  ASSERT_TRUE(file);
  for (const unsigned threads : {1u, 4u})
    EXPECT_EQ(*compute_digest(*file, bytes.size(), {}, threads), digest_of_bytes(bytes));
  EXPECT_EQ(*measure_digest(*file), digest_of_bytes(bytes));
  EXPECT_EQ(compute_digest(*file, bytes.size() + 1).error(), EBUSY);
  EXPECT_EQ(compute_digest(*file, bytes.size(), {.hash = Hash::kSha256, .block_bits = 20}).error(), EINVAL);
}

TEST(Verity, DigestsAsText) {
  const Digest digest = digest_of_bytes({});
  EXPECT_EQ(parse_digest(digest.hex()), digest);
  EXPECT_EQ(digest.object_path().substr(0, 5), "3d/24");
  for (const char* text : {"", "3d", "zz", "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af9",
                           "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af9x"})
    EXPECT_FALSE(parse_digest(text)) << text;
}

}  // namespace
}  // namespace vellum::composefs
