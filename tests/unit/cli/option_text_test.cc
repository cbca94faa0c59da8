#include "cli/option_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vellum::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> texts(std::string_view list) {
  std::vector<std::string> result;
  for (const OptionText& option : split_options(list)) result.push_back(option.text());
  return result;
}

TEST(SplitOptions, SplitsAtCommasAndDropsEmptyParts) {
  EXPECT_THAT(texts("ro,lowerdir=/a:/b,noacl"), ElementsAre("ro", "lowerdir=/a:/b", "noacl"));
  EXPECT_THAT(texts(",,ro,,"), ElementsAre("ro"));
  EXPECT_THAT(texts(""), IsEmpty());
}

TEST(SplitOptions, TellsAnEmptyValueFromNone) {
  EXPECT_FALSE(split_options("plugins").at(0).has_value);
  EXPECT_TRUE(split_options("plugins=").at(0).has_value);
}

TEST(SplitOptions, KeepsFurtherEqualSignsInTheValue) { EXPECT_EQ(split_options("upperdir=/a=b").at(0).value, "/a=b"); }

TEST(SplitOptions, EscapedCommaBelongsToTheValueAndOtherEscapesStay) {
  EXPECT_THAT(texts(R"(lowerdir=/a\,b\:c,ro)"), ElementsAre(R"(lowerdir=/a,b\:c)", "ro"));
  EXPECT_THAT(texts(R"(upperdir=/ends\\,ro)"), ElementsAre(R"(upperdir=/ends\\)", "ro"));
  EXPECT_THAT(texts("upperdir=/lone\\"), ElementsAre("upperdir=/lone\\"));
}

TEST(SplitOptions, QuotedContextMayHoldCommas) {
  EXPECT_THAT(texts(R"(context="system_u:object_r:t:s0:c1,c2",ro)"),
              ElementsAre("context=system_u:object_r:t:s0:c1,c2", "ro"));
  EXPECT_THAT(texts(R"(upperdir="a,ro)"), ElementsAre(R"(upperdir="a)", "ro"));
}

TEST(SplitOptions, NamesAreBytes) { EXPECT_EQ(split_options("upperdir=/\xff\xfe").at(0).value, "/\xff\xfe"); }

TEST(SplitPaths, SplitsAtUnescapedColons) {
  EXPECT_THAT(split_paths("/a:/b:/c"), ElementsAre("/a", "/b", "/c"));
  EXPECT_THAT(split_paths(R"(/a\:b:/c\\:/d)"), ElementsAre("/a:b", "/c\\", "/d"));
  EXPECT_THAT(split_paths("/a::/b:"), ElementsAre("/a", "", "/b", ""));
}

TEST(Escape, ComesBackThroughAList) {
  const std::string path = R"(/a,b:c\d e)";
  const auto options = split_options("lowerdir=" + escape(path) + ":/x,ro");
  ASSERT_EQ(options.size(), 2u);
  EXPECT_EQ(split_paths(options[0].value), (std::vector<std::string>{path, "/x"}));
}

TEST(Unescape, KnowsOctalAsInFstab) {
  EXPECT_EQ(unescape(R"(/a\040b\054\072)"), "/a b,:");
  EXPECT_EQ(unescape(R"(/a\04)"), "/a04");
  EXPECT_EQ(unescape("/a\\"), "/a\\");
}

TEST(ParseU32, TakesTheWholeRangeAndNothingElse) {
  EXPECT_EQ(parse_u32("0"), 0u);
  EXPECT_EQ(parse_u32("4294967295"), 4294967295u);
  for (const char* bad : {"", "-1", "+1", " 1", "1 ", "4294967296", "0x10", "1e3", "abc"}) {
    EXPECT_FALSE(parse_u32(bad)) << bad;
  }
}

TEST(ParseSwitch, TakesZeroAndOne) {
  EXPECT_EQ(parse_switch("0"), false);
  EXPECT_EQ(parse_switch("1"), true);
  EXPECT_EQ(parse_switch("on"), true);
  for (const char* bad : {"", "2", "7", "maybe", "01"}) EXPECT_FALSE(parse_switch(bad)) << bad;
}

TEST(ParseSeconds, TakesFiniteNumbersFromZero) {
  EXPECT_EQ(parse_seconds("0"), 0.0);
  EXPECT_EQ(parse_seconds("1.5"), 1.5);
  EXPECT_EQ(parse_seconds("1e9"), 1e9);
  for (const char* bad : {"", "abc", "-1", "nan", "inf", "1s", "1e999"}) EXPECT_FALSE(parse_seconds(bad)) << bad;
}

TEST(ParseIdMap, ReadsTriples) {
  const auto map = parse_id_map("0:1000:1:1:110000:65536");
  ASSERT_TRUE(map);
  ASSERT_EQ(map->size(), 2u);
  EXPECT_EQ(map->at(1).on_disk, 1u);
  EXPECT_EQ(map->at(1).presented, 110000u);
  EXPECT_EQ(map->at(1).length, 65536u);
}

TEST(ParseIdMap, RangesMayReachTheLastId) {
  const auto whole = parse_id_map("0:0:4294967296");
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->at(0).length, std::uint64_t{1} << 32);
  EXPECT_TRUE(parse_id_map("4294967295:4294967295:1"));
  EXPECT_TRUE(parse_id_map("1:0:4294967295"));
}

TEST(ParseIdMap, RefusesWhatIsNoMap) {
  for (const char* bad :
       {"", "1:2", "1:2:3:4", "a:b:c", "0:0:0", "1:2:", ":1:2", "-1:0:1", "0:0:18446744073709551616"}) {
    EXPECT_FALSE(parse_id_map(bad)) << bad;
  }
}

TEST(ParseIdMap, RefusesRangesBeyondTheLastIdWithoutOverflow) {
  for (const char* bad : {"1:0:4294967296", "0:1:4294967296", "4294967295:0:2", "4294967296:0:1", "0:0:4294967297",
                          "0:0:18446744073709551615"}) {
    EXPECT_FALSE(parse_id_map(bad)) << bad;
  }
  EXPECT_THAT(parse_id_map("4294967295:0:2").error(), HasSubstr("4294967295:0:2"));
}

}  // namespace
}  // namespace vellum::cli
