// A lower file that is changed moves to the upper layer with everything it had.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/fs.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

// cap_net_raw+ep, revision 2.
const std::string kNetRaw("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
constexpr const char* kNeedsFcap = "a plain user cannot give the copy its capability";
constexpr const char* kHeldByOneUid = "a plain user owns one uid only";

// What a writer sees and what a copy-up keeps: everything but the content.
struct Kept {
  mode_t mode;
  uid_t uid;
  gid_t gid;
  friend bool operator==(const Kept&, const Kept&) = default;
};
Kept kept_of(const std::string& path) {
  auto at = lstat_of(path);
  return {at.st_mode, at.st_uid, at.st_gid};
}

TEST(CopyUp, WriteLeavesTheLowerFileAlone) {
  OverlayFixture fs({.lower = {{"d/f", File{"old"}}}});
  EXPECT_OK(append_file(fs / "d/f", "+new"));
  EXPECT_EQ(read_file(fs / "d/f"), "old+new");
  EXPECT_EQ(read_file(fs.lower("d/f")), "old");
  EXPECT_EQ(read_file(fs.upper("d/f")), "old+new");
}

TEST(CopyUp, ReadingCopiesNothing) {
  OverlayFixture fs({.lower = {{"d/f", File{"old"}}}});
  EXPECT_EQ(read_file(fs / "d/f"), "old");
  EXPECT_EQ(names_in(fs / "d"), (Names{"f"}));
  EXPECT_EQ(names_in(fs.upper()), (Names{}));
}

TEST(CopyUp, OpenForWritingCopiesEvenWhenNothingIsWritten) {
  OverlayFixture fs({.lower = {{"f", File{"old"}}}});
  EXPECT_EQ(open_errno(fs / "f", O_WRONLY), 0);
  EXPECT_EQ(read_file(fs.upper("f")), "old");
}

TEST(CopyUp, LeavesNoLitterInWorkdir) {
  OverlayFixture fs({.lower = {{"d/f", File{"old"}}, {"g", File{"old"}}}});
  EXPECT_OK(append_file(fs / "d/f", "+"));
  EXPECT_OK(::chmod((fs / "g").c_str(), 0600));
  EXPECT_OK(::unlink((fs / "g").c_str()));
  // A whiteout kept there to be linked again is no litter.
  std::string left = run("find '" + fs.work() + "' -mindepth 1 ! -path '*/work' ! -path '*/index*' ! -type c").output;
  EXPECT_EQ(left, "");
}

TEST(CopyUp, KeepsMode0444) {
  OverlayFixture fs({.lower = {{"f", File{"old", 0444}}}});
  EXPECT_OK(set_times(fs / "f", {1, 2}));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0444");
  EXPECT_EQ(octal(mode_of(fs.upper("f"))), "0444");
  EXPECT_EQ(read_file(fs.upper("f")), "old");
}

TEST(CopyUp, Mode0444RefusesItsOwnerUntilChmod) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"f", File{.content = "old", .mode = 0444, .uid = 7, .gid = 7}}}});
  EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(fs / "f", O_WRONLY); }), EACCES);
  EXPECT_FALSE(exists(fs.upper("f")));
  EXPECT_EQ(as_ids(7, 7, [&] { return ::chmod((fs / "f").c_str(), 0644) < 0 ? errno : 0; }), 0);
  EXPECT_EQ(as_ids(7, 7, [&] { return append_file(fs / "f", "+") < 0 ? errno : 0; }), 0);
  EXPECT_EQ(octal(mode_of(fs.upper("f"))), "0644");
  EXPECT_EQ(read_file(fs / "f"), "old+");
}

TEST(CopyUp, Mode0444RefusesThePlainUserToo) {
  NOT_ON(kVellumRoot | kPeer | kKernel | kAnyUserns, "the caller has CAP_DAC_OVERRIDE");
  OverlayFixture fs({.lower = {{"f", File{"old", 0444}}}});
  EXPECT_EQ(open_errno(fs / "f", O_WRONLY), EACCES);
  EXPECT_OK(::chmod((fs / "f").c_str(), 0644));
  EXPECT_OK(append_file(fs / "f", "+"));
  EXPECT_EQ(read_file(fs.upper("f")), "old+");
  EXPECT_EQ(octal(mode_of(fs.upper("f"))), "0644");
}

TEST(CopyUp, FileOfMode0000StaysSo) {
  NOT_ON(kVellumUser, "a plain user cannot read a lower file of mode 0000, and a lower layer is never changed");
  OverlayFixture fs({.lower = {{"f", File{"secret", 0000}}}});
  EXPECT_OK(set_times(fs / "f", {1, 2}));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0000");
  EXPECT_EQ(octal(mode_of(fs.upper("f"))), "0000");
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  EXPECT_EQ(read_file(fs / "f"), "secret");
}

TEST(CopyUp, EmptyFile) {
  OverlayFixture fs({.lower = {{"f", File{""}}}});
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  EXPECT_EQ(lstat_of(fs.upper("f")).st_size, 0);
  EXPECT_OK(append_file(fs / "f", "x"));
  EXPECT_EQ(read_file(fs / "f"), "x");
}

TEST(CopyUp, KeepsOwnerAndGroup) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"f", File{.content = "x", .mode = 0640, .uid = 12, .gid = 34}}}});
  EXPECT_OK(append_file(fs / "f", "y"));
  auto at = lstat_of(fs.upper("f"));
  EXPECT_EQ(at.st_uid, 12u);
  EXPECT_EQ(at.st_gid, 34u);
  EXPECT_EQ(octal(at.st_mode & 07777), "0640");
}

TEST(CopyUp, ForeignLowerFileThatThePlainUserMayWriteIsEpermAndStaysWhole) {
  NOT_ON(kVellumRoot | kPeer | kKernel | kAnyUserns, "about a user who cannot give files away");
  // The copy could not belong to whom the lower file belongs.
  OverlayFixture fs({.lower = {{"f", File{.content = "x", .mode = 0666, .uid = 0, .gid = 0}}}});
  EXPECT_ERRNO(append_file(fs / "f", "y"), EPERM);
  EXPECT_EQ(read_file(fs / "f"), "x");
  EXPECT_EQ(names_in(fs.upper()), (Names{}));
}

TEST(CopyUp, MetadataChangeKeepsTimes) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}, {"g", File{"x"}}}});
  struct stat before = lstat_of(fs.lower("f"));
  fs.unmount();
  EXPECT_OK(set_times(fs.lower("f"), {1'000'000'000, 1'100'000'000}));
  fs.mount();
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  struct stat at = lstat_of(fs / "f");
  EXPECT_EQ(at.st_mtim.tv_sec, 1'100'000'000);
  EXPECT_EQ(at.st_atim.tv_sec, 1'000'000'000);
  EXPECT_EQ(lstat_of(fs.upper("f")).st_mtim.tv_sec, 1'100'000'000);
  EXPECT_EQ(at.st_size, before.st_size);
}

TEST(CopyUp, OpenForWritingAloneKeepsMtime) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  fs.unmount();
  EXPECT_OK(set_times(fs.lower("f"), {1'000'000'000, 1'100'000'000}));
  fs.mount();
  EXPECT_EQ(open_errno(fs / "f", O_RDWR), 0);
  EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_sec, 1'100'000'000);
}

TEST(CopyUp, KeepsTheParentsMtime) {
  OverlayFixture fs({.lower = {{"d/sub/f", File{"x"}}}});
  fs.unmount();
  EXPECT_OK(set_times(fs.lower("d/sub"), {1'000'000'000, 1'100'000'000}));
  EXPECT_OK(set_times(fs.lower("d"), {1'000'000'001, 1'100'000'001}));
  EXPECT_OK(set_times(fs.upper(), {1'000'000'002, 1'100'000'002}));
  fs.mount();
  EXPECT_OK(append_file(fs / "d/sub/f", "y"));
  EXPECT_EQ(lstat_of(fs / "d/sub").st_mtim.tv_sec, 1'100'000'000);
  EXPECT_EQ(lstat_of(fs / "d").st_mtim.tv_sec, 1'100'000'001);
  EXPECT_EQ(lstat_of(fs.root()).st_mtim.tv_sec, 1'100'000'002);
  fs.remount();
  EXPECT_EQ(lstat_of(fs / "d/sub").st_mtim.tv_sec, 1'100'000'000);
}

TEST(CopyUp, ParentsAreMadeWithTheirModesAndOnlyThose) {
  OverlayFixture fs({.lower = {{"a", Dir{0711}}, {"a/b", Dir{02750}}, {"a/b/f", File{"x"}}, {"a/other/g", File{}}}});
  EXPECT_OK(append_file(fs / "a/b/f", "y"));
  EXPECT_EQ(octal(mode_of(fs.upper("a"))), "0711");
  EXPECT_EQ(octal(mode_of(fs.upper("a/b"))), "2750");
  EXPECT_EQ(names_in(fs.upper("a")), (Names{"b"}));
  EXPECT_EQ(names_in(fs / "a"), (Names{"b", "other"}));
}

TEST(CopyUp, KeepsXattrs) {
  OverlayFixture fs(
      {.lower = {{"f", File{.content = "x", .xattrs = {{"user.a", "1"}, {"user.b", std::string(3000, 'v')}}}},
                 {"d", Dir{.xattrs = {{"user.d", "2"}}}}}});
  EXPECT_OK(append_file(fs / "f", "y"));
  EXPECT_OK(::chmod((fs / "d").c_str(), 0700));
  EXPECT_EQ(get_xattr(fs.upper("f"), "user.a"), "1");
  EXPECT_EQ(get_xattr(fs.upper("f"), "user.b"), std::string(3000, 'v'));
  EXPECT_EQ(get_xattr(fs.upper("d"), "user.d"), "2");
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{"user.a", "user.b"}));
}

TEST(CopyUp, KeepsAcl) {
  OverlayFixture fs({.lower = {{"f", File{"x", 0640}}, {"d", Dir{}}}});
  fs.unmount();
  EXPECT_OK(set_acl(fs.lower("f"), "u::rw-,u:7:r--,g::r--,m::r--,o::---"));
  EXPECT_OK(set_acl(fs.lower("d"), "u::rwx,u:7:rwx,g::r-x,m::rwx,o::---", true));
  fs.mount();
  EXPECT_OK(append_file(fs / "f", "y"));
  EXPECT_OK(create_file(fs / "d/new", ""));
  EXPECT_EQ(get_acl(fs.upper("f")), get_acl(fs.lower("f")));
  EXPECT_EQ(get_acl(fs.upper("d"), true), get_acl(fs.lower("d"), true));
  EXPECT_EQ(get_acl(fs / "f"), get_acl(fs.lower("f")));
}

TEST(CopyUp, KeepsCapabilityOnChmod) {
  NOT_ON(kVellumUser, kNeedsFcap);
  OverlayFixture fs(
      {.lower = {{"f", File{.content = "x", .mode = 0755, .xattrs = {{"security.capability", kNetRaw}}}}}});
  EXPECT_OK(::chmod((fs / "f").c_str(), 0700));
  EXPECT_EQ(get_xattr(fs / "f", "security.capability"), kNetRaw);
  EXPECT_EQ(get_xattr(fs.upper("f"), "security.capability"), kNetRaw);
}

TEST(CopyUp, WriteTakesCapabilityAway) {
  OverlayFixture fs(
      {.lower = {{"f", File{.content = "x", .mode = 0755, .xattrs = {{"security.capability", kNetRaw}}}}}});
  EXPECT_OK(append_file(fs / "f", "y"));
  EXPECT_EQ(get_xattr(fs / "f", "security.capability"), "<ENODATA>");
  EXPECT_EQ(get_xattr(fs.upper("f"), "security.capability"), "<ENODATA>");
}

TEST(CopyUp, KeepsSetuidOnMetadataChange) {
  OverlayFixture fs({.lower = {{"f", File{"x", 06755}}, {"d", Dir{03777}}}});
  EXPECT_OK(set_times(fs / "f", {1, 2}));
  EXPECT_OK(set_times(fs / "d", {1, 2}));
  EXPECT_EQ(octal(mode_of(fs.upper("f"))), "6755");
  EXPECT_EQ(octal(mode_of(fs.upper("d"))), "3777");
}

TEST(CopyUp, KeepsHolesOfASparseFile) {
  OverlayFixture fs({.lower = {{"f", File{""}}}});
  fs.unmount();
  {
    Fd fd(fs.lower("f"), O_WRONLY);
    EXPECT_EQ(::pwrite(fd, "head", 4, 1 << 20), 4);
    EXPECT_EQ(::pwrite(fd, "tail", 4, 64 << 20), 4);
    EXPECT_OK(::ftruncate(fd, 128 << 20));
  }
  fs.mount();
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  auto at = lstat_of(fs.upper("f"));
  EXPECT_EQ(at.st_size, 128 << 20);
  EXPECT_LT(at.st_blocks * 512, 8 << 20);  // the kernel copies in chunks of 1 MiB
  Fd fd(fs / "f", O_RDONLY);
  std::string got(4, '\0');
  EXPECT_EQ(::pread(fd, got.data(), 4, 64 << 20), 4);
  EXPECT_EQ(got, "tail");
  EXPECT_EQ(::pread(fd, got.data(), 4, (64 << 20) - 4), 4);
  EXPECT_EQ(got, std::string(4, '\0'));
}

TEST(CopyUp, SparseFileOfOneTiBWithTwoExtents) {
  OverlayFixture fs({.lower = {{"f", File{""}}}});
  fs.unmount();
  constexpr off_t kSize = off_t{1} << 40;
  {
    Fd fd(fs.lower("f"), O_WRONLY);
    EXPECT_OK(::ftruncate(fd, kSize));
    EXPECT_EQ(::pwrite(fd, "one", 3, 4096), 3);
    EXPECT_EQ(::pwrite(fd, "two", 3, kSize / 2), 3);
  }
  fs.mount();
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  auto at = lstat_of(fs.upper("f"));
  EXPECT_EQ(at.st_size, kSize);
  EXPECT_LT(at.st_blocks * 512, 8 << 20);
  Fd fd(fs / "f", O_RDONLY);
  std::string got(3, '\0');
  EXPECT_EQ(::pread(fd, got.data(), 3, kSize / 2), 3);
  EXPECT_EQ(got, "two");
}

TEST(CopyUp, OpenWithTruncCopiesNoData) {
  OverlayFixture fs({.lower = {{"f", File{"", 0644}}}});
  fs.unmount();
  EXPECT_OK(::truncate(fs.lower("f").c_str(), off_t{10} << 30));
  fs.mount();
  EXPECT_EQ(open_errno(fs / "f", O_WRONLY | O_TRUNC), 0);
  EXPECT_EQ(lstat_of(fs / "f").st_size, 0);
  EXPECT_EQ(lstat_of(fs.upper("f")).st_size, 0);
  EXPECT_EQ(lstat_of(fs.lower("f")).st_size, off_t{10} << 30);
}

TEST(CopyUp, KeepsEveryByteOfALargeFile) {
  std::string content;
  for (int i = 0; content.size() < (5u << 20) + 123; ++i) content += std::to_string(i) + ",";
  OverlayFixture fs({.lower = {{"f", File{content}}}});
  EXPECT_OK(append_file(fs / "f", "end"));
  EXPECT_EQ(read_file(fs / "f") == content + "end", true);
  EXPECT_EQ(read_file(fs.upper("f")) == content + "end", true);
}

class ReflinkStore : public ::testing::TestWithParam<Store> {};

TEST_P(ReflinkStore, CopyUpSharesExtents) {
  std::string content(8 << 20, 'x');
  OverlayFixture fs({.lower = {{"f", File{content}}}, .lower_on = GetParam(), .upper_on = GetParam()});
  EXPECT_OK(::syncfs(Fd(fs.lower("f"), O_RDONLY)));  // to have extents
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  EXPECT_EQ(read_file(fs.upper("f")) == content, true);
  // A shared extent is flagged 0x2000 (FIEMAP_EXTENT_SHARED).
  EXPECT_NE(run("filefrag -v '" + fs.upper("f") + "'").output.find("shared"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(CopyUp, ReflinkStore, ::testing::Values(Store::kXfs, Store::kBtrfs),
                         [](const auto& param) { return param.param == Store::kXfs ? "Xfs" : "Btrfs"; });

TEST(CopyUp, HardLinkedLowerFileStaysOneInode) {
  NOT_ON(kKernelUserns, "hard links of lower files are kept with index=on only, which user namespaces lack");
  OverlayFixture fs({.lower = {{"a", File{"old"}}, {"d/b", HardLink{"a"}}}, .kernel_options = "index=on"});
  ino_t ino = ino_of(fs / "a");
  EXPECT_EQ(ino_of(fs / "d/b"), ino);
  EXPECT_OK(append_file(fs / "a", "+new"));
  EXPECT_EQ(read_file(fs / "a"), "old+new");
  EXPECT_EQ(read_file(fs / "d/b"), "old+new");
  EXPECT_EQ(ino_of(fs / "a"), ino);
  EXPECT_EQ(ino_of(fs / "d/b"), ino);
  EXPECT_EQ(lstat_of(fs / "a").st_nlink, 2u);
  EXPECT_EQ(lstat_of(fs / "d/b").st_nlink, 2u);
}

TEST(CopyUp, HardLinkedLowerFileWrittenThroughBothNames) {
  NOT_ON(kKernelUserns, "hard links of lower files are kept with index=on only, which user namespaces lack");
  OverlayFixture fs(
      {.lower = {{"a", File{"0"}}, {"b", HardLink{"a"}}, {"c", HardLink{"a"}}}, .kernel_options = "index=on"});
  EXPECT_OK(append_file(fs / "a", "1"));
  EXPECT_OK(append_file(fs / "b", "2"));
  EXPECT_EQ(read_file(fs / "c"), "012");
  EXPECT_OK(::unlink((fs / "a").c_str()));
  EXPECT_EQ(lstat_of(fs / "b").st_nlink, 2u);
  EXPECT_EQ(read_file(fs / "b"), "012");
}

// Takes the room of the file system that `dir` is on, but for `left` bytes. The file that has it; to be unlinked.
std::string fill_store(const std::string& dir, std::size_t left) {
  const std::string path = dir + "/filler";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  EXPECT_GE(fd, 0);
  off_t at = 0;
  for (off_t step = 64 << 20; step >= 4096; step /= 2) {
    while (::fallocate(fd, 0, at, step) == 0) at += step;
  }
  EXPECT_EQ(::ftruncate(fd, std::max<off_t>(at - static_cast<off_t>(left), 0)), 0);
  ::close(fd);
  return path;
}

TEST(CopyUp, AFullDiskAtTheStartChangesNoFormat) {
  NOT_ON(kAnyKernel, "kernel overlayfs refuses the mount");
  NOT_ON(kPeer, "the peer fails otherwise");
  OverlayFixture fs({.lower = {{"d/old", File{}}, {"gone", File{}}}, .upper_on = Store::kExt4});
  fs.unmount();
  const std::string filler = fill_store(fs.work(), 0);
  fs.mount();
  EXPECT_OK(::unlink(filler.c_str()));
  EXPECT_OK(::unlink((fs / "gone").c_str()));
  EXPECT_EQ(run("rm -r '" + (fs / "d") + "'").output, "");
  EXPECT_OK(::mkdir((fs / "d").c_str(), 0755));
  EXPECT_EQ(names_in(fs.upper("d")), (Names{}));
  EXPECT_EQ(names_in(fs.upper()), (Names{"d", "gone"}));
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
}

// As ostree checkouts, cp -al and deduplicators leave them: a name in each of two layers, and one inode.
TEST(CopyUp, HardLinksBetweenLayersAreFilesOfTheirOwn) {
  NOT_ON(kPeer, "the peer takes them for one file");
  OverlayFixture fs({.lowers = {{{"a", File{"1"}}}, {{"y", File{"2"}}, {"z", File{"3"}}}}, .upper_on = Store::kTmpfs});
  fs.unmount();
  ASSERT_OK(::link(fs.lower("a", 0).c_str(), fs.lower("b", 1).c_str()));
  ASSERT_OK(::link(fs.lower("y", 1).c_str(), fs.upper("x").c_str()));
  ASSERT_OK(::link(fs.lower("z", 1).c_str(), fs.upper("w").c_str()));
  fs.mount();
  for (const char* name : {"a", "b", "y", "x", "w", "z"}) EXPECT_EQ(run("cat '" + (fs / name) + "'").status, 0) << name;
  EXPECT_OK(::unlink((fs / "a").c_str()));
  EXPECT_EQ(read_file(fs / "b"), "1");
  EXPECT_OK(append_file(fs / "b", "+"));
  EXPECT_EQ(read_file(fs / "b"), "1+");
  // In upper: written where it is, whichever name was seen first. In lower: never.
  EXPECT_OK(append_file(fs / "x", "+"));
  EXPECT_OK(append_file(fs / "z", "+"));
  fs.unmount();
  EXPECT_EQ(read_file(fs.upper("x")), "2+");
  EXPECT_EQ(read_file(fs.upper("z")), "3+");
  EXPECT_EQ(read_file(fs.upper("w")), "3");
  EXPECT_EQ(read_file(fs.lower("z", 1)), "3");
  EXPECT_FALSE(exists(fs.upper("y")));
  fs.mount();
}

TEST(CopyUp, DataOfAMetacopyFileThatDoesNotFitChangesNothing) {
  NOT_ON(kVellumUser, "a plain user cannot fill the store");
  NOT_ON(kAnyKernel, "kernel overlayfs loses the time, and has no metacopy in user namespaces");
  NOT_ON(kPeer, "the peer has no metacopy");
  const std::string content(8 << 20, 'x');
  OverlayFixture fs({.lower = {{"f", File{content, 0755}}}, .options = "metacopy=on", .upper_on = Store::kExt4});
  EXPECT_OK(::chmod((fs / "f").c_str(), 0750));
  EXPECT_OK(set_times(fs / "f", {1, 2}));
  const std::string filler = fill_store(fs.work(), 1 << 20);
  EXPECT_EQ(open_errno(fs / "f", O_RDWR), ENOSPC);
  EXPECT_EQ(lstat_of(fs / "f").st_size, static_cast<off_t>(content.size()));
  EXPECT_ERRNO(::truncate((fs / "f").c_str(), 6 << 20), ENOSPC);
  EXPECT_OK(::unlink(filler.c_str()));
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(lstat_of(fs / "f").st_size, static_cast<off_t>(content.size()));
    EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_sec, 2);
    EXPECT_EQ(octal(mode_of(fs / "f")), "0750");
    EXPECT_EQ(read_file(fs / "f") == content, true);
    fs.remount();
  }
}

TEST(CopyUp, ProtectedLowerFilesStay) {
  NOT_ON(kUnprivileged, "chattr is root's");
  for (const char flag : {'i', 'a'}) {
    OverlayFixture fs({.lower = {{"f", File{"old"}}, {"g", File{}}, {"d/x", File{}}}, .lower_on = Store::kExt4});
    fs.unmount();
    const auto set = [&](char sign) {
      EXPECT_EQ(run(std::string("chattr ") + sign + flag + " " + fs.lower("f") + " " + fs.lower("d")).output, "");
    };
    set('+');
    fs.mount();
    EXPECT_EQ(open_errno(fs / "f", O_RDWR), EPERM);
    EXPECT_ERRNO(::chmod((fs / "f").c_str(), 0600), EPERM);
    EXPECT_ERRNO(::unlink((fs / "f").c_str()), EPERM);
    EXPECT_ERRNO(::rename((fs / "f").c_str(), (fs / "h").c_str()), EPERM);
    EXPECT_ERRNO(::rename((fs / "g").c_str(), (fs / "f").c_str()), EPERM);
    EXPECT_ERRNO(::unlink((fs / "d/x").c_str()), EPERM);
    EXPECT_EQ(read_file(fs / "f"), "old");
    fs.unmount();
    set('-');
    fs.mount();
  }
}

TEST(CopyUp, Symlink) {
  OverlayFixture fs({.lower = {{"d/l", vellum::test::Symlink{"t/../x"}}}});
  auto before = lstat_of(fs / "d/l");
  EXPECT_OK(set_times(fs / "d/l", {1, 2}));
  EXPECT_EQ(link_target(fs.upper("d/l")), "t/../x");
  EXPECT_EQ(lstat_of(fs / "d/l").st_mtim.tv_sec, 2);
  EXPECT_EQ(lstat_of(fs / "d/l").st_mode, before.st_mode);
}

TEST(CopyUp, FifoAndSocket) {
  OverlayFixture fs({.lower = {{"p", Fifo{0620}}, {"s", Socket{0700}}}});
  EXPECT_OK(set_times(fs / "p", {1, 2}));
  EXPECT_OK(::chmod((fs / "s").c_str(), 0711));
  EXPECT_TRUE(S_ISFIFO(lstat_of(fs.upper("p")).st_mode));
  EXPECT_EQ(octal(mode_of(fs.upper("p"))), "0620");
  EXPECT_TRUE(S_ISSOCK(lstat_of(fs.upper("s")).st_mode));
  EXPECT_EQ(octal(mode_of(fs / "s")), "0711");
}

TEST(CopyUp, Device) {
  NOT_ON(kUnprivileged, "device nodes cannot be made without CAP_MKNOD in the first user namespace");
  OverlayFixture fs({.lower = {{"null", vellum::test::Device{S_IFCHR | 0666, 1, 3}},
                               {"blk", vellum::test::Device{S_IFBLK | 0600, 7, 250}}}});
  EXPECT_OK(::chmod((fs / "null").c_str(), 0600));
  EXPECT_OK(set_times(fs / "blk", {1, 2}));
  EXPECT_EQ(lstat_of(fs.upper("null")).st_rdev, lstat_of(fs.lower("null")).st_rdev);
  EXPECT_EQ(lstat_of(fs.upper("null")).st_mode, static_cast<mode_t>(S_IFCHR | 0600));
  EXPECT_EQ(lstat_of(fs.upper("blk")).st_mode, static_cast<mode_t>(S_IFBLK | 0600));
  EXPECT_EQ(kept_of(fs / "blk"), kept_of(fs.lower("blk")));
}

TEST(CopyUp, DeviceOpensForWritingWithoutCopyUp) {
  NOT_ON(kUnprivileged, "device nodes cannot be made without CAP_MKNOD in the first user namespace");
  OverlayFixture fs(
      {.lower = {{"null", vellum::test::Device{S_IFCHR | 0666, 1, 3}}, {"p", Fifo{}}}, .vellum_options = "dev"});
  EXPECT_EQ(open_errno(fs / "null", O_WRONLY), 0);
  EXPECT_EQ(open_errno(fs / "p", O_RDWR | O_NONBLOCK), 0);
  EXPECT_EQ(read_file(fs / "null"), "");
}

TEST(CopyUp, DirectoryCopiesTheOneDirectory) {
  OverlayFixture fs({.lower = {{"d/a", File{"a"}}, {"d/s/b", File{"b"}}}});
  EXPECT_OK(::chmod((fs / "d").c_str(), 0700));
  EXPECT_EQ(names_in(fs.upper("d")), (Names{}));
  EXPECT_EQ(names_in(fs / "d"), (Names{"a", "s"}));
  EXPECT_EQ(octal(mode_of(fs.lower("d"))), "0755");
}

TEST(CopyUp, TakesTheTopmostOfTheLowers) {
  OverlayFixture fs({.lowers = {{{"f", File{"1"}}}, {{"f", File{"22"}}}}});
  EXPECT_OK(append_file(fs / "f", "+"));
  EXPECT_EQ(read_file(fs.upper("f")), "1+");
}

TEST(CopyUp, NewOpensSeeTheWritersBytesWhileAReaderHoldsTheLowerFile) {
  OverlayFixture fs({.lower = {{"f", File{"old"}}}});
  Fd reader(fs / "f", O_RDONLY);
  EXPECT_EQ(read_fd(reader), "old");
  Fd writer(fs / "f", O_WRONLY);
  EXPECT_EQ(::pwrite(writer, "new", 3, 0), 3);
  EXPECT_EQ(read_file(fs / "f"), "new");
  Fd second(fs / "f", O_RDONLY);
  EXPECT_EQ(read_fd(second), "new");
}

TEST(CopyUp, RefusedByThePermissionOfAnAncestorLeavesNoTrace) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"d", Dir{.mode = 0755, .uid = 0, .gid = 0}}, {"d/f", File{"x", 0644}}}});
  EXPECT_EQ(as_ids(7, 7, [&] { return append_file(fs / "d/f", "y") < 0 ? errno : 0; }), EACCES);
  EXPECT_EQ(as_ids(7, 7, [&] { return ::chmod((fs / "d/f").c_str(), 0777) < 0 ? errno : 0; }), EPERM);
  EXPECT_EQ(as_ids(7, 7, [&] { return ::unlink((fs / "d/f").c_str()) < 0 ? errno : 0; }), EACCES);
  EXPECT_EQ(names_in(fs.upper()), (Names{}));
}

TEST(CopyUp, ByAnotherUserWorksThoughTheUpperIsNotHis) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"d", Dir{.mode = 0755, .uid = 7, .gid = 7}},
                               {"d/f", File{.content = "x", .mode = 0600, .uid = 7, .gid = 7}}}});
  EXPECT_EQ(as_ids(7, 7, [&] { return append_file(fs / "d/f", "y") < 0 ? errno : 0; }), 0);
  EXPECT_EQ(as_ids(7, 7, [&] { return create_file(fs / "d/new", "n") < 0 ? errno : 0; }), 0);
  EXPECT_EQ(read_file(fs.upper("d/f")), "xy");
  EXPECT_EQ(lstat_of(fs.upper("d/f")).st_uid, 7u);
  EXPECT_EQ(lstat_of(fs.upper("d/new")).st_uid, 7u);
  EXPECT_EQ(lstat_of(fs.upper("d")).st_uid, 7u);
}

}  // namespace
}  // namespace vellum::test
