#include "overlay/listing.h"

#include <gtest/gtest.h>

#include <string>

namespace vellum::overlay {
namespace {

TEST(LowerIndex, TheFirstOfAName) {
  LowerIndex index;
  EXPECT_TRUE(index.add("a", {.type = 8, .position = 0, .ino = 1}));
  EXPECT_FALSE(index.add("a", {.type = 4, .position = 1, .ino = 2}));
  ASSERT_NE(index.find("a"), nullptr);
  EXPECT_EQ(index.find("a")->ino, 1U);
  EXPECT_EQ(index.entries().size(), 1U);
}

TEST(LowerIndex, FindsBytesNotText) {
  LowerIndex index;
  const std::string longest(255, '\xff');
  EXPECT_TRUE(index.add(longest, {.ino = 1}));
  EXPECT_TRUE(index.add(longest.substr(1), {.ino = 2}));
  EXPECT_TRUE(index.add("a", {.ino = 3}));
  EXPECT_TRUE(index.add("A", {.ino = 4}));
  EXPECT_EQ(index.find(longest)->ino, 1U);
  EXPECT_EQ(index.find(longest.substr(1))->ino, 2U);
  EXPECT_EQ(index.find("A")->ino, 4U);
  EXPECT_EQ(index.find("b"), nullptr);
  EXPECT_EQ(index.find(""), nullptr);
  EXPECT_EQ(index.name(*index.find(longest)), longest);
}

TEST(LowerIndex, HoldsManyAndKeepsOrder) {
  LowerIndex index;
  for (int i = 0; i < 10000; ++i) {
    ASSERT_TRUE(index.add("name" + std::to_string(i), {.hidden = i % 3 == 0, .ino = static_cast<std::uint64_t>(i)}));
  }
  for (int i = 0; i < 10000; ++i) {
    const std::string name = "name" + std::to_string(i);
    const LowerEntry* entry = index.find(name);
    ASSERT_NE(entry, nullptr) << name;
    EXPECT_EQ(entry->ino, static_cast<std::uint64_t>(i));
    EXPECT_EQ(entry->hidden, i % 3 == 0);
    EXPECT_EQ(entry, &index.entries()[static_cast<std::size_t>(i)]);
  }
}

TEST(Listing, KeepsOrderAndNames) {
  Listing listing;
  listing.add(".", 1, 4);
  listing.add(std::string(255, 'x'), 2, 8);
  listing.add("z", 3, 10);
  ASSERT_EQ(listing.entries().size(), 3U);
  EXPECT_EQ(listing.name(listing.entries()[0]), ".");
  EXPECT_EQ(listing.name(listing.entries()[1]), std::string(255, 'x'));
  EXPECT_EQ(listing.name(listing.entries()[2]), "z");
  EXPECT_EQ(listing.entries()[2].ino, 3U);
  EXPECT_EQ(listing.entries()[2].type, 10);
}

}  // namespace
}  // namespace vellum::overlay
