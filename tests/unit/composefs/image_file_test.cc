#include "composefs/image_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "composefs/build.h"
#include "composefs/dump.h"
#include "sys/file.h"
#include "unit/temp_dir.h"

namespace vellum::composefs {
namespace {

using ::testing::HasSubstr;
using testing::TempDir;

// In a file that anybody may write to: it is copied.
class SparseTail : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(sys::chmod(file_, "", 0666));
    ASSERT_TRUE(sys::pwrite(file_, bytes_, 0));
  }
  TempDir dir_;
  std::vector<std::byte> bytes_ = build_image(parse_dump("/ 0 40755 2 0 0 0 1.0 - - -\n").value()).value();
  sys::UniqueFd file_ = sys::open((dir_ / "image").c_str(), O_RDWR | O_CREAT, 0666).value();
};

TEST_F(SparseTail, IsNotHeldInMemory) {
  constexpr std::uint64_t kMuch = std::uint64_t{1} << 40;
  ASSERT_TRUE(sys::truncate(file_, kMuch));
  const auto held = ImageFile::hold(file_, std::nullopt);
  ASSERT_TRUE(held) << held.error();
  EXPECT_EQ((*held)->bytes().size(), bytes_.size());
}

TEST_F(SparseTail, CountsForTheDigest) {
  ASSERT_TRUE(sys::truncate(file_, bytes_.size() + 4096));
  const Digest digest = digest_of_bytes(bytes_, {}, 1);
  const auto held = ImageFile::hold(file_, digest);
  ASSERT_FALSE(held);
  EXPECT_THAT(held.error(), HasSubstr("wrong content"));
  const auto loaded = ImageFile::load(file_, std::nullopt);
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ((*loaded)->bytes().size(), bytes_.size() + 4096);
}

TEST_F(SparseTail, OfWhatIsNoImageIsNotRead) {
  constexpr std::uint64_t kMuch = std::uint64_t{1} << 40;
  ASSERT_TRUE(sys::truncate(file_, 0));
  ASSERT_TRUE(sys::truncate(file_, kMuch));
  const auto held = ImageFile::hold(file_, std::nullopt);
  ASSERT_FALSE(held);
  EXPECT_THAT(held.error(), HasSubstr("no EROFS image"));
}

}  // namespace
}  // namespace vellum::composefs
