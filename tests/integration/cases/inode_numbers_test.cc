// (st_dev, st_ino) names one file, everywhere it is shown, for as long as the mount lives.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <stdexcept>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr const char* kNoOrigin =
    "in a user namespace kernel overlayfs cannot read its origin marks: copy-up changes the inode number once caches "
    "drop";

std::map<std::string, ino_t> listed(const std::string& dir) {
  std::map<std::string, ino_t> inodes;
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(dir.c_str()), ::closedir);
  if (stream == nullptr) throw std::runtime_error("opendir " + dir + ": " + errno_name(errno));
  while (const dirent* entry = ::readdir(stream.get())) inodes[entry->d_name] = entry->d_ino;
  inodes.erase(".");
  inodes.erase("..");
  return inodes;
}

// Layers on one device, and on two.
struct Devices {
  const char* name;
  Store lower, upper;
};
class Inodes : public ::testing::TestWithParam<Devices> {
 protected:
  static OverlaySpec spec() {
    return {.lowers = {{{"d/a", File{"a"}}, {"d/l", Symlink{"x"}}, {"f", File{"f"}}},
                       {{"d/b", File{"b"}}, {"d/s/x", File{}}, {"h1", File{"h"}}, {"h2", HardLink{"h1"}}}},
            .upper = {{"d/u", File{"u"}}, {"g", File{"g"}}},
            .kernel_options = on(kKernel) ? "xino=on" : "",
            .lower_on = GetParam().lower,
            .upper_on = GetParam().upper};
  }
};
INSTANTIATE_TEST_SUITE_P(Inodes, Inodes,
                         ::testing::Values(Devices{"OneDevice", Store::kTmpfs, Store::kTmpfs},
                                           Devices{"LowerExt4UpperXfs", Store::kExt4, Store::kXfs},
                                           Devices{"LowerXfsUpperBtrfs", Store::kXfs, Store::kBtrfs},
                                           Devices{"LowerTmpfsUpperExt4", Store::kTmpfs, Store::kExt4}),
                         [](const auto& param) { return std::string(param.param.name); });

bool spans_devices(const Devices& devices) { return devices.lower != devices.upper; }

TEST_P(Inodes, StatAndReaddirAgree) {
  if (spans_devices(GetParam())) NOT_ON(kKernelUserns, "kernel overlayfs' xino is off by default");
  if (!spans_devices(GetParam())) {
    NOT_ON(kAnyKernel,
           "kernel overlayfs lists the upper's own number for a merged directory of an upper that it did not write");
  }
  OverlayFixture fs(spec());
  for (const char* dir : {"", "d", "d/s"}) {
    for (const auto& [name, ino] : listed(fs / dir)) {
      EXPECT_EQ(ino, ino_of(std::string(fs / dir) + "/" + name)) << dir << "/" << name;
    }
  }
}

TEST_P(Inodes, DifferentFilesNeverShareANumber) {
  OverlayFixture fs(spec());
  std::map<std::pair<dev_t, ino_t>, std::string> owners;
  for (const char* path : {"", "d", "d/a", "d/l", "d/b", "d/s", "d/s/x", "d/u", "f", "g", "h1"}) {
    auto at = lstat_of(fs / path);
    auto [owner, is_new] = owners.try_emplace({at.st_dev, at.st_ino}, path);
    EXPECT_TRUE(is_new) << path << " has the number of " << owner->second;
  }
  EXPECT_EQ(ino_of(fs / "h1"), ino_of(fs / "h2"));
}

TEST_P(Inodes, AreAllOnTheMountsDevice) {
  if (spans_devices(GetParam())) NOT_ON(kKernelUserns, "kernel overlayfs' xino is off by default");
  OverlayFixture fs(spec());
  dev_t device = lstat_of(fs.root()).st_dev;
  for (const char* path : {"d", "d/a", "d/l", "d/b", "d/u", "f", "g"}) {
    EXPECT_EQ(lstat_of(fs / path).st_dev, device) << path;
  }
}

TEST_P(Inodes, CopyUpKeepsTheNumberAlsoAfterDroppingCaches) {
  NOT_ON(kKernelUserns, kNoOrigin);
  OverlayFixture fs(spec());
  std::map<std::string, ino_t> before;
  for (const char* path : {"d", "d/a", "d/b", "d/l", "f"}) before[path] = ino_of(fs / path);
  for (const auto& [path, ino] : before) {
    EXPECT_OK(set_times(fs / path, {1, 2}));
    EXPECT_EQ(ino_of(fs / path), ino) << path;
  }
  EXPECT_OK(append_file(fs / "f", "+"));
  fs.drop_caches();
  for (const auto& [path, ino] : before) EXPECT_EQ(ino_of(fs / path), ino) << path << " after dropping caches";
}

TEST_P(Inodes, CopyUpKeepsTheNumberThatReaddirShows) {
  if (spans_devices(GetParam())) NOT_ON(kKernelUserns, "kernel overlayfs' xino is off by default");
  OverlayFixture fs(spec());
  EXPECT_OK(append_file(fs / "d/a", "+"));
  EXPECT_OK(::chmod((fs / "d/s").c_str(), 0700));
  fs.drop_caches();
  for (const auto& [name, ino] : listed(fs / "d")) EXPECT_EQ(ino, ino_of(fs / "d/" + name)) << name;
}

TEST_P(Inodes, SurviveDroppingCaches) {
  if (spans_devices(GetParam())) NOT_ON(kKernelUserns, "kernel overlayfs' xino is off by default");
  OverlayFixture fs(spec());
  auto numbers = [&] { return run("cd '" + fs.root() + "' && find . | sort | xargs stat -c '%n %i %d %h'").output; };
  std::string first = numbers();
  fs.drop_caches();
  EXPECT_EQ(numbers(), first);
  EXPECT_EQ(numbers(), first);
}

TEST_P(Inodes, RenameKeepsTheNumber) {
  OverlayFixture fs(spec());
  ino_t low = ino_of(fs / "f"), up = ino_of(fs / "g");
  EXPECT_OK(::rename((fs / "f").c_str(), (fs / "d/f2").c_str()));
  EXPECT_OK(::rename((fs / "g").c_str(), (fs / "d/g2").c_str()));
  EXPECT_EQ(ino_of(fs / "d/f2"), low);
  EXPECT_EQ(ino_of(fs / "d/g2"), up);
}

TEST_P(Inodes, XinoOnGivesTheSameNumbersAfterARemount) {
  OverlaySpec with_xino = spec();
  with_xino.vellum_options = "xino=on";
  OverlayFixture fs(with_xino);
  auto numbers = [&] { return run("cd '" + fs.root() + "' && find . | sort | xargs stat -c '%n %i'").output; };
  std::string first = numbers();
  fs.remount();
  EXPECT_EQ(numbers(), first);
}

TEST(InodeNumbers, MadeFilesAgreeToo) {
  OverlayFixture fs({.lower = {{"d/f", File{}}}, .kernel_options = on(kKernel) ? "xino=on" : ""});
  EXPECT_OK(create_file(fs / "d/new", ""));
  EXPECT_OK(::mkdir((fs / "d/dir").c_str(), 0755));
  EXPECT_OK(::symlink("x", (fs / "d/sym").c_str()));
  EXPECT_OK(::mkfifo((fs / "d/fifo").c_str(), 0644));
  for (const auto& [name, ino] : listed(fs / "d")) EXPECT_EQ(ino, ino_of(fs / "d/" + name)) << name;
}

TEST(InodeNumbers, Ino32GivesNumbersThatFit) {
  NOT_ON(kAnyKernel, "kernel overlayfs has no ino32_t");
  OverlayFixture fs(
      {.lower = {{"d/f", File{}}}, .options = "ino32_t", .lower_on = Store::kExt4, .upper_on = Store::kXfs});
  for (const char* path : {"", "d", "d/f"}) EXPECT_LT(ino_of(fs / path), ino_t{1} << 32) << path;
}

TEST(InodeNumbers, StaticNlinkIsOneForDirectories) {
  NOT_ON(kAnyKernel, "kernel overlayfs has no static_nlink");
  OverlayFixture fs({.lower = {{"d/s/f", File{}}, {"d/t/f", File{}}}, .options = "static_nlink"});
  EXPECT_EQ(lstat_of(fs / "d").st_nlink, 1u);
}

TEST(InodeNumbers, DuCountsAHardLinkOnce) {
  OverlayFixture fs({.lower = {{"a", File{std::string(1 << 20, 'x')}}, {"b", HardLink{"a"}}}});
  EXPECT_EQ(run("du -sb --apparent-size '" + fs.root() + "'/a '" + fs.root() + "'/b | wc -l").output, "1\n");
}

}  // namespace
}  // namespace vellum::test
