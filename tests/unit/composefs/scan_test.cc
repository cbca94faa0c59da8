#include "composefs/scan.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "composefs/build.h"
#include "composefs/check.h"
#include "composefs/diff.h"
#include "sys/file.h"
#include "unit/temp_dir.h"

namespace vellum::composefs {
namespace {

using vellum::testing::TempDir;

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

std::string digest_of(const fs::path& path, ScanOptions options) {
  const auto tree = scan(path, options);
  if (!tree) return tree.error();
  const auto image = build_image(*tree);
  return image ? digest_of_bytes(*image).hex() : image.error().message();
}

struct Source {
  Source() {
    fs::create_directories(dir.path() + "/s/sub/deep");
    for (int i = 0; i < 300; ++i)
      write(dir.path() + "/s/sub/f" + std::to_string(i), std::string(static_cast<std::size_t>(i), 'a'));
    write(dir.path() + "/s/big", std::string((16u << 20) + 5, 'b'));
    write(dir.path() + "/s/middle", std::string((1u << 20) + 5, 'm'));
    fs::create_symlink("big", dir.path() + "/s/link");
    fs::create_hard_link(dir.path() + "/s/middle", dir.path() + "/s/sub/other");
  }
  std::string path() const { return dir.path() + "/s"; }
  std::string store() const { return dir.path() + "/store/here"; }
  TempDir dir;
};

TEST(Scan, ThreadsMakeNoDifference) {
  const Source source;
  const std::string one = digest_of(source.path(), {.threads = 1});
  EXPECT_EQ(one.size(), 64u);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(digest_of(source.path(), {.threads = 4}), one);
}

TEST(Scan, HardLinksOnlyWhenAsked) {
  const Source source;
  const auto links = [&](bool wanted) {
    const auto tree = scan(source.path(), {.hard_links = wanted});
    EXPECT_TRUE(tree);
    int count = 0;
    for (std::uint32_t i = 0; i < tree->size(); ++i) count += (*tree)[NodeId{i}].link != kNoNode;
    return count;
  };
  EXPECT_EQ(links(false), 0);
  EXPECT_EQ(links(true), 1);
}

TEST(Scan, SaysWhichPathIsWrong) {
  EXPECT_EQ(scan("/does/not/exist").error(), "error accessing /does/not/exist: No such file or directory (ENOENT)");
  EXPECT_FALSE(scan("/etc/passwd"));
  EXPECT_FALSE(scan("/", {.skip_xattrs = true, .user_xattrs = true}));
}

TEST(Store, HoldsEachObjectOnceUnderItsDigest) {
  const Source source;
  auto store = Store::open(source.store());
  ASSERT_TRUE(store);
  const auto tree = scan(source.path(), {.threads = 3, .store = &*store});
  ASSERT_TRUE(tree) << tree.error();
  std::size_t objects = 0;
  for (const auto& entry : fs::recursive_directory_iterator(source.store())) {
    if (!entry.is_regular_file()) continue;
    ++objects;
    const auto file = sys::open(entry.path().c_str(), O_RDONLY);
    const std::string name = entry.path().parent_path().filename().string() + "/" + entry.path().filename().string();
    EXPECT_EQ(measure_digest(*file)->object_path(), name);
    EXPECT_EQ(sys::statx(*file, "")->mode & 07777, 0644u);
  }
  EXPECT_EQ(objects, 300u - 65 + 2);
  EXPECT_TRUE(scan(source.path(), {.store = &*store}));  // all are there
}

TEST(Store, RefusesContentThatIsNotWhatItIsSaidToBe) {
  const Source source;
  auto store = Store::open(source.store());
  ASSERT_TRUE(store);
  StoreWriter writer(*store);
  const auto file = sys::open((source.path() + "/middle").c_str(), O_RDONLY);
  const Digest wrong = digest_of_bytes({});
  EXPECT_EQ(writer.add(*file, (1u << 20) + 5, wrong).error(), EBUSY);
  EXPECT_TRUE(writer.flush());
  EXPECT_FALSE(store->has(wrong));
  EXPECT_TRUE(fs::is_empty(source.store()));
}

TEST(Check, FindsMissingTruncatedAndAltered) {
  const Source source;
  auto store = Store::open(source.store());
  const auto tree = scan(source.path(), {.store = &*store});
  ASSERT_TRUE(tree);
  std::vector<sys::UniqueFd> directories;
  directories.push_back(*sys::open(source.store().c_str(), O_PATH | O_DIRECTORY));
  EXPECT_EQ(check_objects(*tree, directories, {}).bad, 0u);
  std::vector<fs::path> objects;
  for (const auto& entry : fs::recursive_directory_iterator(source.store()))
    if (entry.is_regular_file() && fs::file_size(entry) < 400) objects.push_back(entry.path());
  fs::remove(objects[0]);
  fs::resize_file(objects[1], 3);
  const auto size = fs::file_size(objects[2]);
  write(objects[2], std::string(size, 'X'));
  std::vector<Fault> faults;
  const CheckCounts counts = check_objects(
      *tree, directories, {.threads = 3, .bad = [&](const BadObject& bad) { faults.push_back(bad.fault); }});
  EXPECT_EQ(counts.bad, 3u);
  std::ranges::sort(faults);
  EXPECT_EQ(faults, (std::vector{Fault::kMissing, Fault::kSize, Fault::kDigest}));
}

TEST(Diff, TellsWhatChanged) {
  const Source source;
  const auto before = scan(source.path());
  write(source.path() + "/sub/f70", std::string(70, 'c'));
  fs::remove(source.path() + "/sub/f71");
  fs::create_directory(source.path() + "/new");
  write(source.path() + "/new/x", "x");
  ::chmod((source.path() + "/sub/deep").c_str(), 0700);
  const auto after = scan(source.path());
  std::vector<std::string> lines;
  diff(*before, *after, [&](Change change, std::string_view path, std::string_view what) {
    if (what == "time") return;
    lines.push_back(std::string(1, "+-~"[static_cast<int>(change)]).append(path).append(" ").append(what));
  });
  EXPECT_EQ(lines, (std::vector<std::string>{"+/new ", "+/new/x ", "~/sub/deep mode", "~/sub/f70 time, content",
                                             "-/sub/f71 "}));
}

}  // namespace
}  // namespace vellum::composefs
