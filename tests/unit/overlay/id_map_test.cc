#include "overlay/id_map.h"

#include <gtest/gtest.h>

namespace vellum::overlay {
namespace {

constexpr std::uint32_t kLast = 0xffffffffU;

TEST(IdMap, WithoutRangesIsTheIdentity) {
  IdMap map;
  EXPECT_TRUE(map.trivial());
  for (std::uint32_t id : {0U, 1000U, IdMap::kOverflow, kLast}) {
    EXPECT_EQ(map.present(id), id);
    EXPECT_EQ(map.store(id), id);
  }
}

TEST(IdMap, EdgesOfRanges) {
  IdMap map({{.on_disk = 100000, .presented = 0, .length = 65536}, {.on_disk = 0, .presented = 70000, .length = 1}},
            {});
  struct Case {
    std::uint32_t on_disk, presented;
  };
  for (auto [on_disk, presented] : {Case{100000, 0}, Case{165535, 65535}, Case{0, 70000}}) {
    EXPECT_EQ(map.present(on_disk), presented);
    EXPECT_EQ(map.store(presented), on_disk);
  }
  for (std::uint32_t outside : {1U, 99999U, 165536U, kLast}) EXPECT_EQ(map.present(outside), IdMap::kOverflow);
  for (std::uint32_t outside : {65536U, 69999U, 70001U, kLast}) EXPECT_EQ(map.store(outside), std::nullopt);
}

TEST(IdMap, RangesMayEndAtTheLastId) {
  IdMap whole({{.on_disk = 0, .presented = 0, .length = 1ULL << 32}}, {});
  EXPECT_EQ(whole.present(kLast), kLast);
  EXPECT_EQ(whole.store(kLast), kLast);
  EXPECT_EQ(whole.present(0), 0U);

  IdMap top({{.on_disk = kLast - 9, .presented = 10, .length = 10}}, {});
  EXPECT_EQ(top.present(kLast), 19U);
  EXPECT_EQ(top.store(19), kLast);
  EXPECT_EQ(top.store(20), std::nullopt);
  EXPECT_EQ(top.present(0), IdMap::kOverflow);  // no wrapping around

  IdMap up({{.on_disk = 10, .presented = kLast - 9, .length = 10}}, {});
  EXPECT_EQ(up.present(19), kLast);
  EXPECT_EQ(up.store(kLast), 19U);
}

TEST(IdMap, AnEmptyRangeMapsNothing) {
  IdMap map({{.on_disk = 5, .presented = 5, .length = 0}}, {});
  EXPECT_EQ(map.present(5), IdMap::kOverflow);
  EXPECT_EQ(map.store(5), std::nullopt);
}

TEST(IdMap, SquashPresentsOneAndStoresByRange) {
  IdMap map({{.on_disk = 1000, .presented = 0, .length = 10}}, 42);
  EXPECT_TRUE(map.squashes());
  EXPECT_FALSE(map.trivial());
  for (std::uint32_t id : {0U, 1000U, 5U, kLast}) EXPECT_EQ(map.present(id), 42U);
  EXPECT_EQ(map.store(3), 1003U);
  EXPECT_EQ(map.store(10), std::nullopt);
}

TEST(IdMap, FirstRangeWins) {
  IdMap map({{.on_disk = 0, .presented = 100, .length = 10}, {.on_disk = 5, .presented = 500, .length = 10}}, {});
  EXPECT_EQ(map.present(5), 105U);
  EXPECT_EQ(map.present(12), 507U);
}

}  // namespace
}  // namespace vellum::overlay
