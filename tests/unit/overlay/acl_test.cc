#include "overlay/acl.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace vellum::overlay {
namespace {

struct Rule {
  std::uint16_t tag, perm;
  std::uint32_t id = 0xffffffffU;
};
constexpr std::uint16_t kUserObj = 1, kUser = 2, kGroupObj = 4, kGroup = 8, kMask = 16, kOther = 32;

std::string acl(const std::vector<Rule>& rules, std::uint32_t version = 2) {
  std::string bytes(reinterpret_cast<const char*>(&version), 4);
  for (const Rule& rule : rules) {
    bytes.append(reinterpret_cast<const char*>(&rule.tag), 2);
    bytes.append(reinterpret_cast<const char*>(&rule.perm), 2);
    bytes.append(reinterpret_cast<const char*>(&rule.id), 4);
  }
  return bytes;
}

TEST(InheritAcl, MinimalDefaultBecomesMode) {
  auto got = inherit_acl(acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}}), 0666);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->mode, 0640U);  // 0666 & 0750, and no umask
  EXPECT_EQ(got->access, "");   // the mode says it all
}

TEST(InheritAcl, MaskTakesTheGroupBits) {
  auto got = inherit_acl(acl({{kUserObj, 7}, {kUser, 7, 1000}, {kGroupObj, 7}, {kMask, 6}, {kOther, 4}}), 0755);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->mode, 0744U);
  EXPECT_EQ(got->access, acl({{kUserObj, 7}, {kUser, 7, 1000}, {kGroupObj, 7}, {kMask, 4}, {kOther, 4}}));
}

TEST(InheritAcl, KeepsSetuidSetgidSticky) {
  auto got = inherit_acl(acl({{kUserObj, 7}, {kGroupObj, 7}, {kOther, 7}}), 06755 | 01000);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->mode, 07755U);
}

TEST(InheritAcl, WithoutOneOfTheThreeIsInvalid) {
  EXPECT_EQ(inherit_acl(acl({{kGroupObj, 7}, {kOther, 7}}), 0644).error(), EINVAL);
  EXPECT_EQ(inherit_acl(acl({{kUserObj, 7}, {kOther, 7}}), 0644).error(), EINVAL);
  EXPECT_EQ(inherit_acl(acl({{kUserObj, 7}, {kGroupObj, 7}}), 0644).error(), EINVAL);
  EXPECT_EQ(inherit_acl(acl({}), 0644).error(), EINVAL);
}

TEST(Acl, MalformedBytesAreErrorsNotCrashes) {
  const std::string good = acl({{kUserObj, 7}, {kGroupObj, 7}, {kOther, 7}});
  auto same = [](std::uint32_t id) { return std::optional(id); };
  for (std::size_t length = 0; length < good.size(); ++length) {
    if (length >= 4 && (length - 4) % 8 == 0) continue;
    EXPECT_FALSE(inherit_acl(good.substr(0, length), 0644)) << length;
    EXPECT_FALSE(map_acl_ids(good.substr(0, length), same, same)) << length;
  }
  EXPECT_FALSE(inherit_acl(acl({{kUserObj, 7}, {kGroupObj, 7}, {kOther, 7}}, 1), 0644));
  EXPECT_FALSE(map_acl_ids(acl({}, 3), same, same));
}

TEST(MapAclIds, OnlyNamedUsersAndGroupsChange) {
  auto user = [](std::uint32_t id) { return std::optional(id + 100); };
  auto group = [](std::uint32_t id) { return std::optional(id + 7000); };
  auto got = map_acl_ids(acl({{kUserObj, 7}, {kUser, 7, 1}, {kGroupObj, 7}, {kGroup, 5, 1}, {kMask, 7}, {kOther, 0}}),
                         user, group);
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, acl({{kUserObj, 7}, {kUser, 7, 101}, {kGroupObj, 7}, {kGroup, 5, 7001}, {kMask, 7}, {kOther, 0}}));
}

TEST(MapAclIds, AnIdThatCannotBeMappedIsInvalid) {
  auto none = [](std::uint32_t) { return std::optional<std::uint32_t>(); };
  auto same = [](std::uint32_t id) { return std::optional(id); };
  EXPECT_EQ(map_acl_ids(acl({{kUser, 7, 1}}), none, same).error(), EINVAL);
  EXPECT_EQ(map_acl_ids(acl({{kGroup, 7, 1}}), same, none).error(), EINVAL);
  EXPECT_TRUE(map_acl_ids(acl({{kUserObj, 7}}), none, none));
}

}  // namespace
}  // namespace vellum::overlay
