#include "views/markers.h"

#include <gtest/gtest.h>

namespace vellum::views {
namespace {

using namespace std::string_literals;
using Layers = std::vector<std::string>;

TEST(Markers, AreReadFromAnEnvironment) {
  const auto markers = parse_markers("HOME=/x\0WRAPPER_LOWER=/a:/b\0WRAPPER_UPPER=/c\0WRAPPER_WORK=/w\0"s, "WRAPPER");
  ASSERT_TRUE(markers);
  EXPECT_EQ(markers->lowers, (Layers{"/a", "/b"}));
  EXPECT_EQ(markers->upper, "/c");
  EXPECT_EQ(markers->work, "/w");
}

TEST(Markers, AreNotThere) {
  for (const std::string& environment :
       {""s, "HOME=/x\0"s, "WRAPPER_UPPER=\0WRAPPER_LOWER=\0"s, "WRAPPER_WORK=/w\0"s, "XWRAPPER_UPPER=/c\0"s,
        "WRAPPER_UPPERS=/c\0"s, "OTHER=WRAPPER_UPPER=/c\0"s, "WRAPPER_UPPER"s, "\0\0\0"s}) {
    EXPECT_FALSE(parse_markers(environment, "WRAPPER")) << environment;
  }
}

TEST(Markers, TheFirstOfANameCounts) {
  const auto markers = parse_markers("W_UPPER=/first\0W_UPPER=/second\0"s, "W");
  ASSERT_TRUE(markers);
  EXPECT_EQ(markers->upper, "/first");
}

TEST(Markers, LastVariableNeedsNoEnd) {
  const auto markers = parse_markers("W_UPPER=/c", "W");
  ASSERT_TRUE(markers);
  EXPECT_EQ(markers->upper, "/c");
}

TEST(Markers, LongerThanAnExecveTakesAreNotKept) {
  const auto markers = parse_markers("W_UPPER=/c" + std::string(1, '\0') + "W_LOWER=" + std::string(200'000, ':'), "W");
  ASSERT_TRUE(markers);
  EXPECT_TRUE(markers->too_long);
  EXPECT_FALSE(parse_markers("OTHER=" + std::string(200'000, ':'), "W"));
}

TEST(Markers, ATitleIsNoEnvironment) {
  EXPECT_TRUE(is_environment(""));
  EXPECT_TRUE(is_environment("A=b"));
  EXPECT_TRUE(is_environment(std::string("A=\0title", 8)));
  EXPECT_FALSE(is_environment(std::string("my title\0A=b", 12)));
  EXPECT_FALSE(is_environment(std::string(100, '\0')));
}

TEST(Layers, SplitAtColonsThatAreNotEscaped) {
  EXPECT_EQ(split_layers("/a:/b\\:c:/d\\\\"), (Layers{"/a", "/b:c", "/d\\"}));
  EXPECT_EQ(split_layers("::/a::"), (Layers{"/a"}));
  EXPECT_EQ(split_layers("/a\\"), (Layers{"/a\\"}));
  EXPECT_EQ(split_layers(""), Layers{});
}

TEST(Layers, JoinIsTheInverse) {
  const Layers layers = {"/a:b", "/c\\d", "/e"};
  EXPECT_EQ(split_layers(join_layers(layers)), layers);
}

}  // namespace
}  // namespace vellum::views
