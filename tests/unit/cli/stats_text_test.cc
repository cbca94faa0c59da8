#include "cli/stats_text.h"

#include <gtest/gtest.h>

namespace vellum::cli {
namespace {

TEST(StatsText, NumbersBecomeAlignedLines) {
  EXPECT_EQ(*stats_text(R"({"transport": "dev-fuse", "open_handles": 3, "passthrough": true})"),
            "transport     dev-fuse\n"
            "open handles  3\n"
            "passthrough   yes\n");
}

TEST(StatsText, ObjectsOfLikeObjectsBecomeATable) {
  EXPECT_EQ(
      *stats_text(R"({"nodes": 1, "operations": {"LOOKUP": {"count": 12, "p50_ns": 1250}, "READ": {"count": 3}}})"),
      "nodes  1\n"
      "\n"
      "operations  count  p50 us\n"
      "LOOKUP         12     1.2\n"
      "READ            3        \n");
}

TEST(StatsText, OtherObjectsBecomeSections) {
  EXPECT_EQ(*stats_text(R"({"bytes": {"read": 1, "written": 22}})"), "\nbytes\n  read     1\n  written  22\n");
}

TEST(StatsText, RefusesWhatIsNoObject) {
  EXPECT_FALSE(stats_text(""));
  EXPECT_FALSE(stats_text("[1]"));
  EXPECT_FALSE(stats_text("{\"a\":"));
}

}  // namespace
}  // namespace vellum::cli
