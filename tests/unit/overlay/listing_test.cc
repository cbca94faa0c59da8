#include "overlay/listing.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

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

std::vector<std::string> names_after(const Listing& listing, std::uint64_t cookie) {
  std::vector<std::string> names;
  for (std::size_t at = listing.after(cookie); at < listing.entries().size(); ++at) {
    names.emplace_back(listing.name(listing.entries()[at]));
  }
  return names;
}

TEST(Listing, NamesKeepTheirCookies) {
  using Names = std::vector<std::string>;
  Listing first;
  for (const char* name : {"a", "b", "c", "d"}) first.add(name, 1, 8);
  EXPECT_EQ(names_after(first, 0), (Names{"a", "b", "c", "d"}));
  EXPECT_EQ(names_after(first, first.cookie(1)), (Names{"c", "d"}));
  EXPECT_EQ(names_after(first, 100), Names{});

  // Somebody read up to "b". Then "b" goes, "e" comes, and the layers list in another order.
  Listing second;
  for (const char* name : {"e", "d", "c", "a"}) second.add(name, 2, 8);
  second.follow(first);
  EXPECT_EQ(names_after(second, 0), (Names{"a", "c", "d", "e"}));
  EXPECT_EQ(names_after(second, first.cookie(1)), (Names{"c", "d", "e"}));
  EXPECT_EQ(second.entries()[0].ino, 2U);

  // "b" is back: a new entry, behind everything.
  Listing third;
  for (const char* name : {"b", "c", "d"}) third.add(name, 3, 8);
  third.follow(second);
  EXPECT_EQ(names_after(third, 0), (Names{"c", "d", "b"}));
  EXPECT_EQ(names_after(third, second.cookie(3)), (Names{"b"}));

  Listing empty;
  empty.follow(third);
  EXPECT_EQ(names_after(empty, 0), Names{});
  Listing anew;
  anew.add("x", 1, 8);
  anew.follow(empty);
  EXPECT_EQ(names_after(anew, 0), Names{"x"});
}

}  // namespace
}  // namespace vellum::overlay
