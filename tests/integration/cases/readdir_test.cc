// Listings, also while entries come and go.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

using Stream = std::unique_ptr<DIR, int (*)(DIR*)>;
Stream open_stream(const std::string& path) {
  Stream stream(::opendir(path.c_str()), ::closedir);
  if (stream == nullptr) throw std::runtime_error("opendir " + path + ": " + errno_name(errno));
  return stream;
}

std::string padded(int number) {
  std::string digits = std::to_string(number);
  return std::string(6 - digits.size(), '0') + digits;
}

TEST(Readdir, HasDotAndDotDot) {
  OverlayFixture fs({.lower = {{"d/s/f", File{}}}, .kernel_options = on(kKernel) ? "xino=on" : ""});
  Stream stream = open_stream(fs / "d/s");
  std::map<std::string, ino_t> seen;
  while (const dirent* entry = ::readdir(stream.get())) seen[entry->d_name] = entry->d_ino;
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen["."], ino_of(fs / "d/s"));
  EXPECT_TRUE(seen.contains(".."));
}

TEST(Readdir, TellsTypes) {
  OverlayFixture fs({.lower = {{"f", File{}}, {"d", Dir{}}, {"l", Symlink{"x"}}, {"p", Fifo{}}, {"s", Socket{}}}});
  std::map<std::string, unsigned char> seen;
  Stream stream = open_stream(fs.root());
  while (const dirent* entry = ::readdir(stream.get())) seen[entry->d_name] = entry->d_type;
  EXPECT_EQ(seen["f"], DT_REG);
  EXPECT_EQ(seen["d"], DT_DIR);
  EXPECT_EQ(seen["l"], DT_LNK);
  EXPECT_EQ(seen["p"], DT_FIFO);
  EXPECT_EQ(seen["s"], DT_SOCK);
}

TEST(Readdir, SeekdirReturnsToEveryPlace) {
  Tree lower, upper;
  for (int i = 0; i < 300; ++i) (i % 2 == 0 ? lower : upper).emplace_back("d/" + padded(i), File{});
  OverlayFixture fs({.lower = lower, .upper = upper});
  Stream stream = open_stream(fs / "d");
  std::vector<std::pair<long, std::string>> places;
  for (;;) {
    long place = ::telldir(stream.get());
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    places.emplace_back(place, entry->d_name);
  }
  ASSERT_EQ(places.size(), 302u);
  for (std::size_t i = places.size(); i-- > 0;) {
    ::seekdir(stream.get(), places[i].first);
    const dirent* entry = ::readdir(stream.get());
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->d_name, places[i].second);
  }
}

TEST(Readdir, RewinddirSeesWhatHasChanged) {
  OverlayFixture fs({.lower = {{"d/a", File{}}, {"d/b", File{}}}});
  Stream stream = open_stream(fs / "d");
  auto all = [&] {
    Names names;
    while (const dirent* entry = ::readdir(stream.get())) names.emplace_back(entry->d_name);
    std::sort(names.begin(), names.end());
    return names;
  };
  EXPECT_EQ(all(), (Names{".", "..", "a", "b"}));
  EXPECT_OK(create_file(fs / "d/c", ""));
  EXPECT_OK(::unlink((fs / "d/a").c_str()));
  ::rewinddir(stream.get());
  EXPECT_EQ(all(), (Names{".", "..", "b", "c"}));
}

enum class Where { kLower, kUpper, kMerged };
class ChangingDirectory : public ::testing::TestWithParam<Where> {};
INSTANTIATE_TEST_SUITE_P(Readdir, ChangingDirectory, ::testing::Values(Where::kLower, Where::kUpper, Where::kMerged),
                         [](const auto& param) {
                           return param.param == Where::kLower   ? "Lower"
                                  : param.param == Where::kUpper ? "Upper"
                                                                 : "Merged";
                         });

// Entries that stay from before the listing begins to its end are seen exactly once, whatever else comes and goes.
TEST_P(ChangingDirectory, ShowsEveryEntryThatStayedExactlyOnce) {
  constexpr int kStay = 4000, kChange = 10'000;
  Tree lower, upper;
  for (int i = 0; i < kStay; ++i) {
    bool in_lower = GetParam() == Where::kLower || (GetParam() == Where::kMerged && i % 2 == 0);
    (in_lower ? lower : upper).emplace_back("d/stay" + padded(i), File{});
  }
  if (GetParam() == Where::kMerged) {
    lower.emplace_back("d/first", File{});
    upper.emplace_back("d/first", File{});
  }
  OverlayFixture fs({.lower = lower, .upper = upper});
  Stream stream = open_stream(fs / "d");
  std::map<std::string, int> seen;
  int changed = 0;
  auto change_some = [&] {
    for (int i = 0; i < 250 && changed < kChange; ++i, ++changed) {
      EXPECT_OK(create_file(fs / ("d/new" + padded(changed)), ""));
      if (changed < 100) continue;
      EXPECT_OK(::unlink((fs / ("d/new" + padded(changed - 100))).c_str()));
    }
  };
  int read = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    ++seen[entry->d_name];
    if (++read % 100 == 0) change_some();
  }
  int once = 0;
  for (const auto& [name, times] : seen) {
    EXPECT_EQ(times, 1) << name;
    if (name.starts_with("stay")) ++once;
  }
  EXPECT_EQ(once, kStay);
  EXPECT_GE(changed, 9'000);
}

TEST_P(ChangingDirectory, CanBeEmptiedWhileItIsListed) {
  constexpr int kFiles = 3000;
  Tree lower, upper;
  for (int i = 0; i < kFiles; ++i) {
    bool in_lower = GetParam() == Where::kLower || (GetParam() == Where::kMerged && i % 2 == 0);
    (in_lower ? lower : upper).emplace_back("d/" + padded(i), File{});
  }
  OverlayFixture fs({.lower = lower, .upper = upper});
  Stream stream = open_stream(fs / "d");
  std::set<std::string> removed;
  while (const dirent* entry = ::readdir(stream.get())) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    EXPECT_OK(::unlink((fs / ("d/" + name)).c_str())) << name;
    removed.insert(name);
  }
  EXPECT_EQ(removed.size(), static_cast<std::size_t>(kFiles));
  EXPECT_OK(::rmdir((fs / "d").c_str()));
}

TEST(Readdir, HundredThousandEntries) {
  constexpr int kHalf = 50'000;
  OverlayFixture fs({.lower = {{"d", Dir{}}}, .upper = {{"d", Dir{}}}});
  fs.unmount();
  for (int i = 0; i < kHalf; ++i) EXPECT_OK(create_file(fs.lower("d/l" + padded(i)), ""));
  for (int i = 0; i < kHalf; ++i) EXPECT_OK(create_file(fs.upper("d/u" + padded(i)), ""));
  fs.mount();
  std::size_t first = names_in(fs / "d").size();
  EXPECT_EQ(first, 2u * kHalf);
  EXPECT_EQ(names_in(fs / "d").size(), first);
  EXPECT_TRUE(exists(fs / "d/l049999"));
  EXPECT_TRUE(exists(fs / "d/u049999"));
  EXPECT_FALSE(exists(fs / "d/u050000"));
}

TEST(Readdir, EmptyDirectoryHasOnlyDots) {
  OverlayFixture fs({.lower = {{"d", Dir{}}}});
  Stream stream = open_stream(fs / "d");
  int count = 0;
  while (::readdir(stream.get()) != nullptr) ++count;
  EXPECT_EQ(count, 2);
}

TEST(Readdir, CachedListingFollowsEveryChange) {
  OverlayFixture fs({.lower = {{"d/a", File{}}}, .upper = {{"d/b", File{}}}});
  Names expected{"a", "b"};
  EXPECT_EQ(names_in(fs / "d"), expected);
  EXPECT_OK(create_file(fs / "d/c", ""));
  EXPECT_EQ(names_in(fs / "d"), (Names{"a", "b", "c"}));
  EXPECT_OK(::rename((fs / "d/a").c_str(), (fs / "d/z").c_str()));
  EXPECT_EQ(names_in(fs / "d"), (Names{"b", "c", "z"}));
  EXPECT_OK(::unlink((fs / "d/b").c_str()));
  EXPECT_EQ(names_in(fs / "d"), (Names{"c", "z"}));
  EXPECT_OK(::mkdir((fs / "d/m").c_str(), 0755));
  EXPECT_OK(::symlink("x", (fs / "d/l").c_str()));
  EXPECT_OK(::link((fs / "d/c").c_str(), (fs / "d/h").c_str()));
  EXPECT_EQ(names_in(fs / "d"), (Names{"c", "h", "l", "m", "z"}));
  EXPECT_OK(::rmdir((fs / "d/m").c_str()));
  EXPECT_EQ(names_in(fs / "d"), (Names{"c", "h", "l", "z"}));
}

}  // namespace
}  // namespace vellum::test
