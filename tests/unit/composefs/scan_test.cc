#include "composefs/scan.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <regex>
#include <thread>

#include "base/scope.h"
#include "composefs/build.h"
#include "composefs/check.h"
#include "composefs/diff.h"
#include "composefs/dump.h"
#include "composefs/load.h"
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

// Also with the same size and the time set back: nothing that is read while it changes gets into a tree.
TEST(Scan, FilesThatChangeAreRefused) {
  const TempDir dir;
  fs::create_directory(dir.path() + "/s");
  const std::string path = dir.path() + "/s/f", size(3u << 20, 'a');
  write(path, size);
  std::atomic<bool> stop = false;
  std::jthread changes([&] {
    const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    for (char c = 'b'; !stop; ++c) EXPECT_EQ(::pwrite(file, &c, 1, 1 << 20), 1);
    ::close(file);
  });
  int refused = 0;
  for (int i = 0; i < 20; ++i) {
    const auto tree = scan(dir.path() + "/s");
    if (!tree) {
      EXPECT_NE(tree.error().find("EBUSY"), std::string::npos) << tree.error();
      ++refused;
    }
  }
  stop = true;
  EXPECT_GT(refused, 0);
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

TEST(Store, KeepsToTheLimitOfOpenFiles) {
  const Source source;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const auto restore = on_exit([&] { ::setrlimit(RLIMIT_NOFILE, &before); });
  const sys::UniqueFd next = *sys::open("/", O_PATH);
  const rlimit tight{.rlim_cur = static_cast<rlim_t>(next.raw()) + 64, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  {
    auto store = Store::open(source.store());
    ASSERT_TRUE(store);
    const auto tree = scan(source.path(), {.threads = 8, .store = &*store});
    EXPECT_TRUE(tree) << tree.error();
  }
  // One writer, and fewer left than it was thought: what it holds open goes to the store early.
  auto store = Store::open(source.path() + "/other");
  ASSERT_TRUE(store);
  StoreWriter writer(*store);
  std::vector<sys::UniqueFd> others;
  for (std::uint8_t i = 0; i < 40; ++i) {
    const std::vector<std::byte> content(100, std::byte{i});
    EXPECT_TRUE(writer.add(content, digest_of_bytes(content)));
    if (i != 10) continue;
    while (auto other = sys::open("/", O_PATH)) others.push_back(std::move(*other));
  }
  EXPECT_TRUE(writer.flush());
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

// What has no digest has not been looked into, so it is not well.
TEST(Check, WithoutADigestNothingIsWell) {
  const TempDir dir;
  write(dir.path() + "/object", "abcde");
  const auto tree = parse_dump("/ 0 40755 2 0 0 0 0.0 - - -\n/f 5 100644 1 0 0 0 0.0 object - -\n");
  ASSERT_TRUE(tree) << tree.error();
  std::vector<sys::UniqueFd> directories;
  directories.push_back(*sys::open(dir.path().c_str(), O_PATH | O_DIRECTORY));
  const CheckCounts counts = check_objects(*tree, directories, {});
  EXPECT_EQ(counts.objects, 1u);
  EXPECT_EQ(counts.bad, 1u);
  EXPECT_EQ(counts.unchecked, 1u);
}

// We make no such images. This one is made with the value under another name of the same length, which is then mended.
TEST(Check, KnowsTheSha512DigestsOfImagesThatOthersMade) {
  const TempDir dir;
  const std::string content = "abcde";
  const Digest digest = digest_of_bytes(std::as_bytes(std::span(content)), {.hash = Hash::kSha512, .block_bits = 12});
  const auto image_dump = parse_dump(
      "/ 0 40755 2 0 0 0 0.0 - - -\n/f 5 100644 1 0 0 0 0.0 object - - user.overlay?metacopy=\\x00\\x44\\x00\\x02" +
      std::regex_replace(digest.hex(), std::regex(".."), "\\x$&") + "\n");
  ASSERT_TRUE(image_dump) << image_dump.error();
  auto bytes = build_image(*image_dump).value();
  const std::string_view wrong = "overlay?metacopy";
  const auto name = std::ranges::search(bytes, std::as_bytes(std::span(wrong)));
  ASSERT_FALSE(name.empty());
  *(name.begin() + 7) = std::byte{'.'};
  *(name.begin() - 3) = std::byte{erofs::kXattrTrusted};  // before it: length, prefix, 2 bytes of the value's length
  const auto image = erofs::Image::open(bytes, {});
  ASSERT_TRUE(image) << image.error();
  const auto tree = load_tree(*image, {});
  ASSERT_TRUE(tree) << tree.error();
  std::vector<sys::UniqueFd> directories;
  directories.push_back(*sys::open(dir.path().c_str(), O_PATH | O_DIRECTORY));
  write(dir.path() + "/object", content);
  EXPECT_EQ(check_objects(*tree, directories, {}).bad, 0u);
  write(dir.path() + "/object", "abcdX");
  std::vector<Fault> faults;
  check_objects(*tree, directories, {.bad = [&](const BadObject& bad) { faults.push_back(bad.fault); }});
  EXPECT_EQ(faults, (std::vector{Fault::kDigest}));
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
