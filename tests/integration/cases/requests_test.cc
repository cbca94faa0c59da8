// How many requests a caller waits for, by the mount's own counters: the price of an operation is mostly its messages.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

using Counts = std::map<std::string, std::uint64_t>;

constexpr const char* kStats = "system.vellum.stats";

Counts counts_of(const std::string& mount) {
  Counts counts;
  const auto stats = nlohmann::json::parse(get_xattr(mount, kStats), nullptr, false);
  EXPECT_FALSE(stats.is_discarded());
  if (stats.is_discarded()) return counts;
  for (const auto& [name, operation] : stats["operations"].items()) counts[name] = operation["count"];
  return counts;
}

// What `act` had to wait for. Nobody waits for RELEASE and FORGET.
Counts waited_for(const OverlayFixture& fs, const std::function<void()>& act) {
  static const std::set<std::string> kNobodyWaits{"FORGET", "BATCH_FORGET", "RELEASE", "RELEASEDIR"};
  const Counts before = counts_of(fs.root());
  act();
  Counts counts = counts_of(fs.root());
  for (const auto& [name, count] : before) counts[name] -= count;
  --counts["GETXATTR"];  // of counts_of() itself
  // Once in the life of a mount, which is answered so that no more come.
  for (const char* once : {"FLUSH", "OPENDIR"}) {
    if (counts[once] == 1 && !before.contains(once)) counts[once] = 0;
  }
  // With the writeback cache, which only mounts without passthrough have, the kernel writes an inode's ctime out with
  // each change of its names.
  if (!on(kVellumRoot)) counts["SETATTR"] = counts["SETATTR"] > 1 ? counts["SETATTR"] : 0;
  std::erase_if(counts, [](const auto& entry) { return entry.second == 0 || kNobodyWaits.contains(entry.first); });
  return counts;
}

Tree many_files(int count, std::string_view content = "content") {
  Tree tree;
  for (int i = 0; i < count; ++i) tree.push_back({"d/f" + std::to_string(i), File{std::string(content)}});
  return tree;
}

void stat_ok(const std::string& path) {
  struct stat st {};
  EXPECT_OK(::lstat(path.c_str(), &st));
}

void read_through(const std::string& path) {
  Fd fd(path, O_RDONLY);
  std::array<char, 100> buffer{};
  EXPECT_GT(::read(fd, buffer.data(), buffer.size()), 0);
}

void list(const std::string& dir) { names_in(dir); }

void list_and_stat(const std::string& dir) {
  for (const std::string& name : names_in(dir)) stat_ok(dir + "/" + name);
}

#define COUNTED_BY_US() NOT_ON(kAnyKernel | kPeer, "about the requests that our mount answers")

// A file's directory is known, the file is not.
struct Cold {
  OverlayFixture fs;
  explicit Cold(OverlaySpec spec) : fs(spec) { stat_ok(fs / "d"); }
};

TEST(Requests, LookupIsOneAndThenNone) {
  COUNTED_BY_US();
  Cold c({.lowers = {many_files(3), many_files(5)}});
  EXPECT_EQ(waited_for(c.fs, [&] { stat_ok(c.fs / "d/f4"); }), (Counts{{"LOOKUP", 1}}));
  EXPECT_EQ(waited_for(c.fs, [&] { stat_ok(c.fs / "d/f4"); }), Counts{});
  EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_FALSE(exists(c.fs / "d/none")); }), (Counts{{"LOOKUP", 1}}));
  EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_FALSE(exists(c.fs / "d/none")); }), Counts{});
}

TEST(Requests, WalkOfADirectoryIsAFewAndThenNone) {
  COUNTED_BY_US();
  Cold c({.lowers = {many_files(1000), many_files(1200)}});
  const Counts cold = waited_for(c.fs, [&] { list_and_stat(c.fs / "d"); });
  std::uint64_t sum = 0;
  for (const auto& [name, count] : cold) sum += count;
  EXPECT_LE(sum, 1200 / 100 + 2) << ::testing::PrintToString(cold);
  // Reading a directory makes the kernel ask once for its atime.
  EXPECT_EQ(waited_for(c.fs, [&] { list_and_stat(c.fs / "d"); }), (Counts{{"GETATTR", 1}}));
  EXPECT_EQ(waited_for(c.fs, [&] { list_and_stat(c.fs / "d"); }), Counts{});
  EXPECT_EQ(waited_for(c.fs, [&] { list(c.fs / "d"); }), Counts{});
}

TEST(Requests, ReadingASmallFileIsTwoAndThenOne) {
  COUNTED_BY_US();
  Cold c({.lower = many_files(1)});
  EXPECT_EQ(waited_for(c.fs, [&] { read_through(c.fs / "d/f0"); }), (Counts{{"LOOKUP", 1}, {"OPEN", 1}}));
  EXPECT_EQ(waited_for(c.fs, [&] { read_through(c.fs / "d/f0"); }), (Counts{{"OPEN", 1}}));
}

TEST(Requests, ReadingOnAReadOnlyMountIsTwoAndThenNone) {
  COUNTED_BY_US();
  Cold c({.lower = many_files(2), .read_only = true});
  read_through(c.fs / "d/f1");  // here the kernel learns that it need not open
  EXPECT_EQ(waited_for(c.fs, [&] { read_through(c.fs / "d/f0"); }), (Counts{{"LOOKUP", 1}, {"READ", 1}}));
  EXPECT_EQ(waited_for(c.fs, [&] { read_through(c.fs / "d/f0"); }), Counts{});
}

TEST(Requests, CreatingAndWriting) {
  COUNTED_BY_US();
  Cold c({.lower = many_files(1), .upper = {{"d", Dir{}}}});
  // The kernel asks for a file's capabilities before the first write; nothing but ENOSYS for the whole mount would
  // keep it from that.
  Counts expected{{"LOOKUP", 1}, {"CREATE", 1}, {"GETXATTR", 1}};
  if (!on(kVellumRoot)) expected["WRITE"] = 1;  // without passthrough, when it is closed
  EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_OK(create_file(c.fs / "d/new", std::string(4096, 'x'))); }), expected);

  Fd fd(c.fs / "d/new", O_WRONLY);
  EXPECT_EQ(::write(fd, "y", 1), 1);
  const Counts got = waited_for(c.fs, [&] {
    for (int i = 0; i < 100; ++i) EXPECT_EQ(::write(fd, "y", 1), 1);
  });
  EXPECT_EQ(got, Counts{});
}

TEST(Requests, ChangesOfNames) {
  COUNTED_BY_US();
  const auto path = [](const Cold& c, const char* name) { return c.fs / "d/" + name; };
  {
    Cold c({.lower = many_files(1), .upper = {{"d", Dir{}}}});
    EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_OK(::mkdir(path(c, "new").c_str(), 0755)); }),
              (Counts{{"LOOKUP", 1}, {"MKDIR", 1}}));
  }
  {
    Cold c({.lower = many_files(1), .upper = {{"d", Dir{}}}});
    EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_OK(::symlink("to", path(c, "new").c_str())); }),
              (Counts{{"LOOKUP", 1}, {"SYMLINK", 1}}));
  }
  {
    Cold c({.lower = many_files(1), .upper = {{"d", Dir{}}}});
    EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_OK(::rename(path(c, "f0").c_str(), path(c, "to").c_str())); }),
              (Counts{{"LOOKUP", 2}, {"RENAME", 1}}));
  }
  {
    Cold c({.lower = many_files(1), .upper = {{"d", Dir{}}}});
    EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_OK(::unlink(path(c, "f0").c_str())); }),
              (Counts{{"LOOKUP", 1}, {"UNLINK", 1}}));
  }
  {
    Cold c({.upper = {{"d/known", File{"x"}}}});
    stat_ok(c.fs / "d/known");
    EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_OK(::unlink(path(c, "known").c_str())); }), (Counts{{"UNLINK", 1}}));
  }
  {
    Cold c({.lower = many_files(1), .upper = {{"d", Dir{}}}});
    EXPECT_EQ(waited_for(c.fs, [&] { EXPECT_OK(::chmod(path(c, "f0").c_str(), 0600)); }),
              on(kVellumRoot) ? (Counts{{"LOOKUP", 1}, {"SETATTR", 1}}) : (Counts{{"LOOKUP", 1}}));
  }
}

TEST(Requests, SyncingWhatIsInMemoryIsOneAndThenNone) {
  COUNTED_BY_US();
  for (const char* options : {"", "volatile", "fsync=0", "handles=1"}) {
    OverlayFixture fs({.upper = {{"f", File{"x"}}}, .vellum_options = options, .upper_on = Store::kTmpfs});
    Fd file(fs / "f", O_RDONLY);
    Fd dir(fs.root(), O_RDONLY | O_DIRECTORY);
    EXPECT_OK(::fsync(file));
    EXPECT_OK(::fsync(dir));
    const Counts got = waited_for(fs, [&] {
      for (int i = 0; i < 10; ++i) EXPECT_OK(::fsync(file));
      for (int i = 0; i < 10; ++i) EXPECT_OK(::fsync(dir));
    });
    EXPECT_EQ(got, options == std::string("handles=1") ? (Counts{{"FSYNC", 10}, {"FSYNCDIR", 10}}) : Counts{})
        << options;
  }
}

// The kernel's answer for one file is its answer for all, so on a disk each is passed on.
TEST(Requests, SyncingOnADiskIsOneEach) {
  COUNTED_BY_US();
  if (default_upper_store() != Store::kExt4) return;  // a run of its own
  OverlayFixture fs({.upper = {{"f", File{"x"}}}});
  Fd file(fs / "f", O_RDONLY);
  EXPECT_EQ(waited_for(fs,
                       [&] {
                         for (int i = 0; i < 10; ++i) EXPECT_OK(::fsync(file));
                       }),
            (Counts{{"FSYNC", 10}}));
}

TEST(Requests, HandlesAreUsedWhenAskedFor) {
  COUNTED_BY_US();
  Cold c({.lower = many_files(1), .read_only = true, .options = {}, .vellum_options = "handles=1"});
  read_through(c.fs / "d/f0");
  EXPECT_EQ(waited_for(c.fs, [&] { read_through(c.fs / "d/f0"); }), (Counts{{"OPEN", 1}}));
  list(c.fs / "d");
  list(c.fs / "d");  // now the kernel has the names, and the atime
  EXPECT_EQ(waited_for(c.fs, [&] { list(c.fs / "d"); }), (Counts{{"OPENDIR", 1}}));
}

}  // namespace
}  // namespace vellum::test
