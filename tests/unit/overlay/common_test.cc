// What overlays of one process have in common, and what they must not.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "unit/overlay/overlay_fixture.h"

namespace vellum::overlay::testing {
namespace {

constexpr const char* kLocal = "/dev/shm";  // a tmpfs, whatever /tmp is
using Names = std::set<std::string>;

Spec first_of(const std::shared_ptr<Common>& common) {
  Spec spec{.lowers = {{{"d/a", File{"a"}}, {"file", File{"lower"}}}, {{"d/b", File{"b"}}, {"d/c", File{"c"}}}}};
  spec.options.common = common;
  spec.base = kLocal;
  return spec;
}

Spec another_on(const OverlayFixture& first, const std::shared_ptr<Common>& common) {
  Spec spec;
  spec.options.lower_dirs = {first.lower(), first.lower({}, 1)};
  spec.options.common = common;
  spec.base = kLocal;
  return spec;
}

std::size_t descriptors_of(const std::string& path) {
  std::size_t count = 0;
  for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(fd, gone) == path) ++count;
  }
  return count;
}

TEST(Common, OneDescriptorForALowerFile) {
  const auto common = std::make_shared<Common>();
  OverlayFixture one(first_of(common)), other(another_on(one, common));
  const auto mine = one.open("file", O_RDONLY), again = one.open("file", O_RDONLY),
             theirs = other.open("file", O_RDONLY);
  ASSERT_TRUE(mine && again && theirs);
  EXPECT_EQ(descriptors_of(one.lower("file")), 1U);
  ASSERT_TRUE(one.write("file", "mine now"));
  EXPECT_EQ(one.read_handle(one.node("file"), *mine), "mine now");
  EXPECT_EQ(other.read_handle(other.node("file"), *theirs), "lower");
  EXPECT_EQ(one.read("file"), "mine now");
  EXPECT_EQ(other.read("file"), "lower");
  one.engine().release(one.node("file"), *mine);
  one.engine().release(one.node("file"), *again);
  EXPECT_EQ(other.read_handle(other.node("file"), *theirs), "lower");
  other.engine().release(other.node("file"), *theirs);
  EXPECT_EQ(descriptors_of(one.lower("file")), 0U);
  EXPECT_EQ(common->files.live(), 0U);
}

class CommonNames : public ::testing::Test {
 protected:
  // Times that are older than what a change would show in.
  static void settle() { std::this_thread::sleep_for(std::chrono::milliseconds(2100)); }
  const std::shared_ptr<Common> common_ = std::make_shared<Common>();
  OverlayFixture first_{first_of(common_)};
};

TEST_F(CommonNames, OneIndexForEqualDirectories) {
  const auto list = [](OverlayFixture& fs) { EXPECT_EQ(fs.names("d"), (Names{"a", "b", "c"})); };
  settle();
  list(first_);
  EXPECT_EQ(common_->indexes.live(), 1U);
  OverlayFixture other(another_on(first_, common_));
  ASSERT_TRUE(other.unlink("d/b"));
  EXPECT_EQ(other.names("d"), (Names{"a", "c"}));
  list(first_);
  EXPECT_EQ(common_->indexes.live(), 1U);

  Spec with_other_rights = another_on(first_, common_);
  with_other_rights.options.rights = "1000:1000:";
  OverlayFixture stranger(std::move(with_other_rights));
  list(stranger);
  EXPECT_EQ(common_->indexes.live(), 2U);

  Spec upside_down = another_on(first_, common_);
  std::swap(upside_down.options.lower_dirs[0], upside_down.options.lower_dirs[1]);
  OverlayFixture reversed(std::move(upside_down));
  list(reversed);
  EXPECT_EQ(reversed.read("d/b"), "b");
  EXPECT_EQ(common_->indexes.live(), 3U);
}

TEST_F(CommonNames, NoneWhereAttributesOfFilesMakeWhiteouts) {
  ASSERT_TRUE(set_xattr(first_.lower("d"), "user.overlay.opaque", "x"));
  write_file(first_.lower("d/c"), "");
  settle();
  OverlayFixture before(another_on(first_, common_));
  EXPECT_EQ(before.names("d"), (Names{"a", "b", "c"}));
  ASSERT_TRUE(set_xattr(first_.lower("d/c"), "user.overlay.whiteout", ""));
  OverlayFixture after(another_on(first_, common_));
  EXPECT_EQ(after.names("d"), (Names{"a", "b"}));
  EXPECT_EQ(common_->indexes.live(), 0U);
}

TEST_F(CommonNames, NotWhatWasReadBeforeAChange) {
  settle();
  EXPECT_EQ(first_.names("d"), (Names{"a", "b", "c"}));
  write_file(first_.lower("d/new", 1), "new");
  OverlayFixture after(another_on(first_, common_));
  EXPECT_EQ(after.names("d"), (Names{"a", "b", "c", "new"}));
  EXPECT_EQ(after.read("d/new"), "new");
  // Too young: another change might have the same time.
  EXPECT_EQ(common_->indexes.live(), 1U);
}

}  // namespace
}  // namespace vellum::overlay::testing
