// New entries of every kind, in directories that lie in upper, in lower, or in both.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr const char* kNoOrigin =
    "in a user namespace kernel overlayfs cannot read its origin marks: copy-up changes the inode number";
constexpr const char* kHeldByOneUid = "a plain user owns one uid only";

// A directory in lower only, in upper only, in both, and the root.
const Tree kLower{{"low/f", File{}}, {"both/f", File{}}};
const Tree kUpper{{"up/f", File{}}, {"both/g", File{}}};
class EveryDirectory : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Create, EveryDirectory, ::testing::Values("low/new", "up/new", "both/new", "new"));

TEST_P(EveryDirectory, TakesAFile) {
  OverlayFixture fs({.lower = kLower, .upper = kUpper});
  EXPECT_OK(create_file(fs / GetParam(), "content", 0640));
  EXPECT_EQ(read_file(fs.upper(GetParam())), "content");
  EXPECT_EQ(octal(mode_of(fs / GetParam())), "0640");
  EXPECT_ERRNO(create_file(fs / GetParam(), ""), EEXIST);
}

TEST_P(EveryDirectory, TakesADirectory) {
  OverlayFixture fs({.lower = kLower, .upper = kUpper});
  EXPECT_OK(::mkdir((fs / GetParam()).c_str(), 0750));
  EXPECT_EQ(octal(mode_of(fs / GetParam())), "0750");
  EXPECT_OK(create_file((fs / GetParam()) + "/x", "x"));
  EXPECT_EQ(names_in(fs / GetParam()), (Names{"x"}));
  EXPECT_ERRNO(::mkdir((fs / GetParam()).c_str(), 0755), EEXIST);
}

TEST_P(EveryDirectory, TakesASymlink) {
  OverlayFixture fs({.lower = kLower, .upper = kUpper});
  EXPECT_OK(::symlink("../some/where", (fs / GetParam()).c_str()));
  EXPECT_EQ(link_target(fs / GetParam()), "../some/where");
  EXPECT_EQ(link_target(fs.upper(GetParam())), "../some/where");
}

TEST_P(EveryDirectory, TakesAHardLinkOfALowerFile) {
  OverlayFixture fs({.lower = kLower, .upper = kUpper});
  EXPECT_OK(::link((fs / "low/f").c_str(), (fs / GetParam()).c_str()));
  EXPECT_EQ(lstat_of(fs / "low/f").st_nlink, 2u);
  EXPECT_OK(append_file(fs / GetParam(), "both"));
  EXPECT_EQ(read_file(fs / "low/f"), "both");
  NOT_ON(kKernelUserns, kNoOrigin);
  EXPECT_EQ(ino_of(fs / GetParam()), ino_of(fs / "low/f"));
}

TEST(Create, MknodOfFifoSocketAndRegularFile) {
  OverlayFixture fs({.lower = kLower});
  EXPECT_OK(::mknod((fs / "low/p").c_str(), S_IFIFO | 0640, 0));
  EXPECT_OK(::mknod((fs / "low/s").c_str(), S_IFSOCK | 0600, 0));
  EXPECT_OK(::mknod((fs / "low/r").c_str(), S_IFREG | 0604, 0));
  EXPECT_EQ(lstat_of(fs / "low/p").st_mode, static_cast<mode_t>(S_IFIFO | 0640));
  EXPECT_EQ(lstat_of(fs / "low/s").st_mode, static_cast<mode_t>(S_IFSOCK | 0600));
  EXPECT_EQ(lstat_of(fs / "low/r").st_mode, static_cast<mode_t>(S_IFREG | 0604));
}

TEST(Create, MknodOfDevices) {
  NOT_ON(kUnprivileged, "device nodes cannot be made without CAP_MKNOD in the first user namespace");
  OverlayFixture fs({.lower = kLower});
  EXPECT_OK(::mknod((fs / "c").c_str(), S_IFCHR | 0620, makedev(1, 3)));
  EXPECT_OK(::mknod((fs / "b").c_str(), S_IFBLK | 0600, makedev(7, 300)));
  EXPECT_EQ(lstat_of(fs / "c").st_rdev, makedev(1, 3));
  EXPECT_EQ(lstat_of(fs / "b").st_rdev, makedev(7, 300));
  EXPECT_EQ(lstat_of(fs.upper("b")).st_rdev, makedev(7, 300));
}

TEST(Create, MknodOfAWhiteoutDeviceIsRefused) {
  OverlayFixture fs({.lower = kLower});
  EXPECT_ERRNO(::mknod((fs / "low/f2").c_str(), S_IFCHR | 0600, makedev(0, 0)), EPERM);
  EXPECT_FALSE(exists(fs / "low/f2"));
}

TEST(Create, DevicesAreRefusedToThoseWhoMayNot) {
  NOT_ON(kVellumRoot | kPeer | kKernel, "root may");
  OverlayFixture fs({.lower = kLower});
  EXPECT_ERRNO(::mknod((fs / "c").c_str(), S_IFCHR | 0600, makedev(1, 3)), EPERM);
  EXPECT_FALSE(exists(fs / "c"));
}

TEST(Create, UmaskTakesBitsAway) {
  OverlayFixture fs({.lower = kLower});
  mode_t old = ::umask(077);
  EXPECT_OK(create_file(fs / "f", "", 0666));
  EXPECT_OK(::mkdir((fs / "d").c_str(), 0777));
  EXPECT_OK(::mknod((fs / "p").c_str(), S_IFIFO | 0666, 0));
  ::umask(0);
  EXPECT_OK(create_file(fs / "f0", "", 0666));
  EXPECT_OK(::mkdir((fs / "d0").c_str(), 01777));
  ::umask(old);
  EXPECT_EQ(octal(mode_of(fs / "f")), "0600");
  EXPECT_EQ(octal(mode_of(fs / "d")), "0700");
  EXPECT_EQ(octal(mode_of(fs / "p")), "0600");
  EXPECT_EQ(octal(mode_of(fs / "f0")), "0666");
  EXPECT_EQ(octal(mode_of(fs / "d0")), "1777");
  EXPECT_EQ(octal(mode_of(fs.upper("d0"))), "1777");
}

TEST(Create, BelongsToItsMaker) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"d", Dir{0777}}}});
  EXPECT_EQ(as_ids(7, 8, [&] { return create_file(fs / "d/f", "") < 0 ? errno : 0; }), 0);
  EXPECT_EQ(as_ids(7, 8, [&] { return ::mkdir((fs / "d/d").c_str(), 0755) < 0 ? errno : 0; }), 0);
  EXPECT_EQ(as_ids(7, 8, [&] { return ::symlink("x", (fs / "d/l").c_str()) < 0 ? errno : 0; }), 0);
  EXPECT_EQ(as_ids(7, 8, [&] { return ::mknod((fs / "d/p").c_str(), S_IFIFO | 0600, 0) < 0 ? errno : 0; }), 0);
  for (const char* name : {"d/f", "d/d", "d/l", "d/p"}) {
    EXPECT_EQ(lstat_of(fs / name).st_uid, 7u) << name;
    EXPECT_EQ(lstat_of(fs / name).st_gid, 8u) << name;
    EXPECT_EQ(lstat_of(fs.upper(name)).st_uid, 7u) << name;
  }
}

TEST(Create, SetgidDirectoryGivesItsGroup) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"d", Dir{.mode = 02777, .uid = 0, .gid = 99}}}});
  EXPECT_EQ(as_ids(7, 8, [&] { return create_file(fs / "d/f", "") < 0 ? errno : 0; }), 0);
  EXPECT_EQ(as_ids(7, 8, [&] { return ::mkdir((fs / "d/d").c_str(), 0755) < 0 ? errno : 0; }), 0);
  EXPECT_EQ(lstat_of(fs / "d/f").st_gid, 99u);
  EXPECT_EQ(lstat_of(fs / "d/d").st_gid, 99u);
  EXPECT_EQ(octal(mode_of(fs / "d/d")), "2755");
  EXPECT_EQ(lstat_of(fs / "d/f").st_uid, 7u);
}

TEST(Create, ReadOnlyModeFileCanBeWrittenThroughItsFirstDescriptor) {
  OverlayFixture fs({.lower = kLower});
  Fd fd(fs / "f", O_RDWR | O_CREAT | O_EXCL, 0444);
  EXPECT_EQ(::write(fd, "x", 1), 1);
  EXPECT_EQ(read_file(fs / "f"), "x");
  EXPECT_EQ(octal(mode_of(fs / "f")), "0444");
}

TEST(Create, OpenCreatOfAnExistingLowerFileKeepsIt) {
  OverlayFixture fs({.lower = {{"f", File{"old", 0604}}}});
  {
    Fd fd(fs / "f", O_RDWR | O_CREAT, 0777);
    EXPECT_EQ(read_fd(fd), "old");
  }
  EXPECT_EQ(octal(mode_of(fs / "f")), "0604");
}

TEST(Create, ChangesTheParentsTimes) {
  OverlayFixture fs({.lower = kLower});
  EXPECT_OK(set_times(fs / "low", {1, 2}));
  EXPECT_OK(create_file(fs / "low/new", ""));
  EXPECT_GT(lstat_of(fs / "low").st_mtim.tv_sec, 2);
}

TEST(Create, NamesOverFilesInThePathAreEnotdir) {
  OverlayFixture fs({.lower = kLower});
  EXPECT_ERRNO(create_file(fs / "low/f/x", ""), ENOTDIR);
  EXPECT_ERRNO(create_file(fs / "none/x", ""), ENOENT);
  EXPECT_ERRNO(::mkdir((fs / "low/f/x").c_str(), 0755), ENOTDIR);
}

TEST(Link, OfAFileInUpperCountsLinks) {
  OverlayFixture fs({.upper = {{"a", File{"x"}}, {"d", Dir{}}}});
  EXPECT_OK(::link((fs / "a").c_str(), (fs / "d/b").c_str()));
  EXPECT_EQ(lstat_of(fs / "a").st_nlink, 2u);
  EXPECT_EQ(ino_of(fs / "a"), ino_of(fs / "d/b"));
  EXPECT_OK(::unlink((fs / "a").c_str()));
  EXPECT_EQ(lstat_of(fs / "d/b").st_nlink, 1u);
  EXPECT_EQ(read_file(fs / "d/b"), "x");
}

TEST(Link, OfASymlinkLinksTheSymlink) {
  OverlayFixture fs({.lower = {{"l", Symlink{"t"}}}});
  EXPECT_OK(::link((fs / "l").c_str(), (fs / "l2").c_str()));
  EXPECT_EQ(link_target(fs / "l2"), "t");
  NOT_ON(kKernelUserns, kNoOrigin);
  EXPECT_EQ(ino_of(fs / "l"), ino_of(fs / "l2"));
}

TEST(Link, OfADirectoryIsEperm) {
  OverlayFixture fs({.lower = kLower});
  EXPECT_ERRNO(::link((fs / "low").c_str(), (fs / "x").c_str()), EPERM);
}

TEST(Link, OntoAnExistingNameIsEexist) {
  OverlayFixture fs({.lower = {{"a", File{"a"}}, {"b", File{"b"}}}});
  EXPECT_ERRNO(::link((fs / "a").c_str(), (fs / "b").c_str()), EEXIST);
  EXPECT_EQ(read_file(fs / "b"), "b");
  EXPECT_FALSE(exists(fs.upper("b")));
}

TEST(Link, OfADeletedOpenFileIsEnoent) {
  OverlayFixture fs({.lower = {{"a", File{"a"}}}});
  Fd fd(fs / "a", O_RDONLY);
  EXPECT_OK(::unlink((fs / "a").c_str()));
  std::string through = "/proc/self/fd/" + std::to_string(static_cast<int>(fd));
  EXPECT_ERRNO(::linkat(AT_FDCWD, through.c_str(), AT_FDCWD, (fs / "b").c_str(), AT_SYMLINK_FOLLOW), ENOENT);
  EXPECT_FALSE(exists(fs / "b"));
}

TEST(Link, OfALowerFileThroughItsDescriptor) {
  OverlayFixture fs({.lower = {{"a", File{"a"}}}});
  Fd fd(fs / "a", O_RDONLY);
  std::string through = "/proc/self/fd/" + std::to_string(static_cast<int>(fd));
  EXPECT_OK(::linkat(AT_FDCWD, through.c_str(), AT_FDCWD, (fs / "b").c_str(), AT_SYMLINK_FOLLOW));
  EXPECT_EQ(read_file(fs / "b"), "a");
  NOT_ON(kKernelUserns, kNoOrigin);
  EXPECT_EQ(ino_of(fs / "a"), ino_of(fs / "b"));
}

constexpr const char* kPeerTmpfile = "the peer has no O_TMPFILE";

TEST(Tmpfile, HasNoNameUntilLinked) {
  NOT_ON(kPeer, kPeerTmpfile);
  OverlayFixture fs({.lower = kLower});
  Fd fd(fs / "low", O_RDWR | O_TMPFILE, 0640);
  EXPECT_EQ(::write(fd, "temp", 4), 4);
  EXPECT_EQ(read_fd(fd), "temp");
  EXPECT_EQ(names_in(fs / "low"), (Names{"f"}));
  EXPECT_EQ(fstat_of(fd).st_nlink, 0u);
  std::string through = "/proc/self/fd/" + std::to_string(static_cast<int>(fd));
  EXPECT_OK(::linkat(AT_FDCWD, through.c_str(), AT_FDCWD, (fs / "low/named").c_str(), AT_SYMLINK_FOLLOW));
  EXPECT_EQ(names_in(fs / "low"), (Names{"f", "named"}));
  EXPECT_EQ(read_file(fs / "low/named"), "temp");
  EXPECT_EQ(octal(mode_of(fs / "low/named")), "0640");
  EXPECT_EQ(fstat_of(fd).st_nlink, 1u);
}

TEST(Tmpfile, VanishesWhenClosed) {
  NOT_ON(kPeer, kPeerTmpfile);
  OverlayFixture fs({.lower = kLower});
  {
    Fd fd(fs / "low", O_WRONLY | O_TMPFILE, 0600);
    EXPECT_EQ(::write(fd, "temp", 4), 4);
  }
  EXPECT_EQ(names_in(fs.upper("low")), (Names{}));
}

TEST(Tmpfile, ExclCannotBeLinked) {
  NOT_ON(kPeer, kPeerTmpfile);
  OverlayFixture fs({.lower = kLower});
  Fd fd(fs / "low", O_WRONLY | O_TMPFILE | O_EXCL, 0600);
  std::string through = "/proc/self/fd/" + std::to_string(static_cast<int>(fd));
  EXPECT_ERRNO(::linkat(AT_FDCWD, through.c_str(), AT_FDCWD, (fs / "low/n").c_str(), AT_SYMLINK_FOLLOW), ENOENT);
}

}  // namespace
}  // namespace vellum::test
