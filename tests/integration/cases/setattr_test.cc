// chmod, chown, truncate, times, and the rules that take suid, sgid and capabilities away.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr const char* kHeldByOneUid = "a plain user owns one uid only";
const std::string kNetRaw("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);

enum class From { kLower, kUpper };
class EveryLayer : public ::testing::TestWithParam<From> {
 protected:
  static OverlaySpec with(Tree tree) {
    if (GetParam() == From::kLower) return {.lower = std::move(tree)};
    return {.lower = {{"other", File{}}}, .upper = std::move(tree)};
  }
};
INSTANTIATE_TEST_SUITE_P(Setattr, EveryLayer, ::testing::Values(From::kLower, From::kUpper),
                         [](const auto& param) { return param.param == From::kLower ? "Lower" : "Upper"; });

TEST_P(EveryLayer, ChmodOfEveryKind) {
  OverlayFixture fs(with({{"f", File{"x"}}, {"d/x", File{}}, {"p", Fifo{}}, {"s", Socket{}}}));
  for (const char* name : {"f", "d", "p", "s"}) {
    EXPECT_OK(::chmod((fs / name).c_str(), 0712)) << name;
    EXPECT_EQ(octal(mode_of(fs / name)), "0712") << name;
    EXPECT_EQ(octal(mode_of(fs.upper(name))), "0712") << name;
  }
  EXPECT_EQ(names_in(fs / "d"), (Names{"x"}));
}

TEST_P(EveryLayer, ChmodOfSpecialBits) {
  OverlayFixture fs(with({{"f", File{"x"}}, {"d", Dir{}}}));
  EXPECT_OK(::chmod((fs / "f").c_str(), 06755));
  EXPECT_OK(::chmod((fs / "d").c_str(), 03777));
  EXPECT_EQ(octal(mode_of(fs / "f")), "6755");
  EXPECT_EQ(octal(mode_of(fs / "d")), "3777");
}

TEST_P(EveryLayer, ChownChangesOwnerAndGroup) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs(with({{"f", File{"x"}}, {"d", Dir{}}, {"l", Symlink{"none"}}}));
  for (const char* name : {"f", "d", "l"}) {
    EXPECT_OK(::lchown((fs / name).c_str(), 11, 22)) << name;
    EXPECT_EQ(lstat_of(fs / name).st_uid, 11u) << name;
    EXPECT_EQ(lstat_of(fs.upper(name)).st_gid, 22u) << name;
  }
  EXPECT_OK(::chown((fs / "f").c_str(), static_cast<uid_t>(-1), 33));
  EXPECT_EQ(lstat_of(fs / "f").st_uid, 11u);
  EXPECT_EQ(lstat_of(fs / "f").st_gid, 33u);
}

TEST_P(EveryLayer, ChownTakesSuidAndSgidAway) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs(with({{"f", File{"x", 06755}}, {"g", File{"x", 02644}}}));
  EXPECT_OK(::chown((fs / "f").c_str(), 11, 22));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0755");
  EXPECT_EQ(octal(mode_of(fs.upper("f"))), "0755");
  EXPECT_OK(::chown((fs / "g").c_str(), 11, 22));  // sgid without x is a lock mark on ext4 and stays for root
  EXPECT_EQ(lstat_of(fs / "g").st_uid, 11u);
}

TEST_P(EveryLayer, ChownOfADirectoryKeepsItsBits) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs(with({{"d", Dir{03775}}}));
  EXPECT_OK(::chown((fs / "d").c_str(), 11, 22));
  EXPECT_EQ(octal(mode_of(fs / "d")), "3775");
}

TEST_P(EveryLayer, ChownTakesCapabilitiesAway) {
  NOT_ON(kVellumUser, "a plain user cannot give a file a capability");
  OverlayFixture fs(with({{"f", File{.content = "x", .mode = 0755, .xattrs = {{"security.capability", kNetRaw}}}}}));
  EXPECT_OK(::chown((fs / "f").c_str(), 11, 22));
  EXPECT_EQ(get_xattr(fs / "f", "security.capability"), "<ENODATA>");
}

TEST_P(EveryLayer, WriteByAnotherUserTakesSuidAndSgidAway) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs(with({{"f", File{"x", 06777}}}));
  EXPECT_EQ(as_ids(7, 7, [&] { return append_file(fs / "f", "y") < 0 ? errno : 0; }), 0);
  EXPECT_EQ(octal(mode_of(fs / "f")), "0777");
  EXPECT_EQ(octal(mode_of(fs.upper("f"))), "0777");
  EXPECT_EQ(read_file(fs / "f"), "xy");
}

TEST_P(EveryLayer, TruncateByAnotherUserTakesSuidAway) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs(with({{"f", File{"xyz", 04777}}, {"g", File{"xyz", 04777}}}));
  EXPECT_EQ(as_ids(7, 7, [&] { return ::truncate((fs / "f").c_str(), 1) < 0 ? errno : 0; }), 0);
  EXPECT_EQ(octal(mode_of(fs / "f")), "0777");
  EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(fs / "g", O_WRONLY | O_TRUNC); }), 0);
  EXPECT_EQ(octal(mode_of(fs / "g")), "0777");
}

TEST_P(EveryLayer, WriteByRootKeepsSuid) {
  NOT_ON(kUnprivileged, "about a caller with CAP_FSETID in the first user namespace");
  OverlayFixture fs(with({{"f", File{"x", 06777}}}));
  EXPECT_OK(append_file(fs / "f", "y"));
  EXPECT_EQ(octal(mode_of(fs / "f")), "6777");
}

TEST_P(EveryLayer, WriteTakesCapabilitiesAwayEvenForRoot) {
  NOT_ON(kVellumUser, "a plain user cannot give a file a capability");
  OverlayFixture fs(with({{"f", File{.content = "x", .mode = 0755, .xattrs = {{"security.capability", kNetRaw}}}},
                          {"g", File{.content = "x", .mode = 0755, .xattrs = {{"security.capability", kNetRaw}}}}}));
  EXPECT_OK(append_file(fs / "f", "y"));
  EXPECT_EQ(get_xattr(fs / "f", "security.capability"), "<ENODATA>");
  EXPECT_OK(::truncate((fs / "g").c_str(), 0));
  EXPECT_EQ(get_xattr(fs / "g", "security.capability"), "<ENODATA>");
}

TEST_P(EveryLayer, OnlyTheOwnerMayChmodAndSetTimes) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs(with({{"f", File{.content = "x", .mode = 0666, .uid = 8, .gid = 8}}}));
  auto chmod = [&] { return ::chmod((fs / "f").c_str(), 0600) < 0 ? errno : 0; };
  auto chown = [&] { return ::chown((fs / "f").c_str(), 7, 7) < 0 ? errno : 0; };
  auto set = [&] { return set_times(fs / "f", {1, 2}) < 0 ? errno : 0; };
  auto touch = [&] { return ::utimensat(AT_FDCWD, (fs / "f").c_str(), nullptr, 0) < 0 ? errno : 0; };
  EXPECT_EQ(as_ids(7, 7, chmod), EPERM);
  EXPECT_EQ(as_ids(7, 7, chown), EPERM);
  EXPECT_EQ(as_ids(7, 7, set), EPERM);
  EXPECT_EQ(as_ids(7, 7, touch), 0);  // who may write may set "now"
  EXPECT_EQ(as_ids(8, 8, chmod), 0);
  EXPECT_EQ(as_ids(8, 8, set), 0);
}

TEST_P(EveryLayer, TruncateShrinksAndGrows) {
  OverlayFixture fs(with({{"f", File{"0123456789"}}}));
  EXPECT_OK(::truncate((fs / "f").c_str(), 4));
  EXPECT_EQ(read_file(fs / "f"), "0123");
  EXPECT_OK(::truncate((fs / "f").c_str(), 8));
  EXPECT_EQ(read_file(fs / "f"), std::string("0123\0\0\0\0", 8));
  EXPECT_EQ(lstat_of(fs.upper("f")).st_size, 8);
  EXPECT_ERRNO(::truncate((fs / "f").c_str(), -1), EINVAL);
}

TEST_P(EveryLayer, OpenWithTruncEmpties) {
  OverlayFixture fs(with({{"f", File{"0123456789", 0640}}}));
  EXPECT_EQ(open_errno(fs / "f", O_WRONLY | O_TRUNC), 0);
  EXPECT_EQ(lstat_of(fs / "f").st_size, 0);
  EXPECT_EQ(read_file(fs / "f"), "");
  EXPECT_EQ(octal(mode_of(fs / "f")), "0640");
}

TEST_P(EveryLayer, TruncateChangesMtimeAndCtime) {
  OverlayFixture fs(with({{"f", File{"0123456789"}}}));
  EXPECT_OK(set_times(fs / "f", {1, 2}));
  EXPECT_OK(::truncate((fs / "f").c_str(), 4));
  EXPECT_GT(lstat_of(fs / "f").st_mtim.tv_sec, 2);
}

TEST_P(EveryLayer, TruncateOfADirectoryIsEisdir) {
  OverlayFixture fs(with({{"d/x", File{}}}));
  EXPECT_ERRNO(::truncate((fs / "d").c_str(), 0), EISDIR);
  EXPECT_EQ(open_errno(fs / "d", O_WRONLY), EISDIR);
}

TEST_P(EveryLayer, UtimeNowAndOmit) {
  OverlayFixture fs(with({{"f", File{"x"}}}));
  EXPECT_OK(set_times(fs / "f", {100, 200}));
  std::array<timespec, 2> only_mtime{{{0, UTIME_OMIT}, {300, 5}}};
  EXPECT_OK(::utimensat(AT_FDCWD, (fs / "f").c_str(), only_mtime.data(), 0));
  EXPECT_EQ(lstat_of(fs / "f").st_atim.tv_sec, 100);
  EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_sec, 300);
  EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_nsec, 5);
  std::array<timespec, 2> atime_now{{{0, UTIME_NOW}, {0, UTIME_OMIT}}};
  EXPECT_OK(::utimensat(AT_FDCWD, (fs / "f").c_str(), atime_now.data(), 0));
  EXPECT_GT(lstat_of(fs / "f").st_atim.tv_sec, 1000);
  EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_sec, 300);
  std::array<timespec, 2> mtime_now{{{7, 0}, {0, UTIME_NOW}}};
  EXPECT_OK(::utimensat(AT_FDCWD, (fs / "f").c_str(), mtime_now.data(), 0));
  EXPECT_EQ(lstat_of(fs / "f").st_atim.tv_sec, 7);
  EXPECT_GT(lstat_of(fs / "f").st_mtim.tv_sec, 1000);
  fs.remount();
  EXPECT_EQ(lstat_of(fs / "f").st_atim.tv_sec, 7);
}

TEST_P(EveryLayer, TimesOfSymlinksAndDirectories) {
  OverlayFixture fs(with({{"l", Symlink{"none"}}, {"d/x", File{}}}));
  EXPECT_OK(set_times(fs / "l", {100, 200}));
  EXPECT_OK(set_times(fs / "d", {300, 400}));
  EXPECT_EQ(lstat_of(fs / "l").st_mtim.tv_sec, 200);
  EXPECT_EQ(lstat_of(fs / "d").st_mtim.tv_sec, 400);
  EXPECT_EQ(lstat_of(fs.upper("d")).st_mtim.tv_sec, 400);
}

TEST_P(EveryLayer, TimesBefore1970AndFarAhead) {
  OverlayFixture fs(with({{"f", File{"x"}}}));
  EXPECT_OK(set_times(fs / "f", {-5, -1}));
  EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_sec, -1);
  EXPECT_OK(set_times(fs / "f", {5'000'000'000, 6'000'000'000}));
  EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_sec, 6'000'000'000);
}

TEST_P(EveryLayer, ChangesThroughADescriptor) {
  OverlayFixture fs(with({{"f", File{"0123456789"}}}));
  Fd fd(fs / "f", O_RDWR);
  EXPECT_OK(::fchmod(fd, 0601));
  EXPECT_OK(::ftruncate(fd, 3));
  std::array<timespec, 2> times{{{5, 0}, {6, 0}}};
  EXPECT_OK(::futimens(fd, times.data()));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0601");
  EXPECT_EQ(fstat_of(fd).st_size, 3);
  EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_sec, 6);
  EXPECT_EQ(read_file(fs.upper("f")), "012");
}

TEST_P(EveryLayer, ChangeOfARootAttribute) {
  OverlayFixture fs(with({{"f", File{}}}));
  EXPECT_OK(::chmod(fs.root().c_str(), 0751));
  EXPECT_EQ(octal(mode_of(fs.root())), "0751");
  EXPECT_EQ(octal(mode_of(fs.upper())), "0751");
}

TEST(Setattr, CtimeChangesWithEveryChange) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  auto before = lstat_of(fs / "f").st_ctim;
  ::usleep(20'000);
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  auto after = lstat_of(fs / "f").st_ctim;
  EXPECT_TRUE(after.tv_sec > before.tv_sec || after.tv_nsec > before.tv_nsec);
}

TEST(Setattr, EveryStatOfACopiedUpTreeIsTheSameUntilSomethingChanges) {
  // Any test on this machine may drop them at any time.
  NOT_ON(kKernelUserns,
         "in a user namespace kernel overlayfs cannot read its origin marks: copy-up changes the inode number once "
         "caches drop");
  OverlayFixture fs({.lower = {{"d/a", File{"a"}}, {"d/b", File{"b"}}, {"d/s/c", File{"c"}}},
                     .kernel_options = on(kKernel) ? "xino=on" : ""});
  EXPECT_OK(::chmod((fs / "d/a").c_str(), 0600));
  EXPECT_OK(append_file(fs / "d/s/c", "+"));
  auto stat_all = [&] {
    return run("cd '" + fs.root() + "' && find . | sort | xargs stat -c '%n %i %s %Y %Z %h %a'").output;
  };
  std::string first = stat_all();
  EXPECT_EQ(names_in(fs / "d"), (Names{"a", "b", "s"}));
  EXPECT_EQ(stat_all(), first);
  Ran tar = run("cd '" + fs.root() + "' && tar cf /dev/zero . && tar cf - . | cat >/dev/null");
  EXPECT_EQ(tar.output, "");
  EXPECT_EQ(stat_all(), first);
  fs.drop_caches();
  EXPECT_EQ(stat_all(), first);
}

}  // namespace
}  // namespace vellum::test
