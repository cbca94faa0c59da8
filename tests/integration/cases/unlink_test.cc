// unlink and rmdir, and files that live on after their name has gone.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr const char* kLowerLinkCount =
    "kernel overlayfs reports the lower file's link count (1) for an open lower file whose name is gone";

TEST(Unlink, WrongKindsGetTheirErrnos) {
  OverlayFixture fs({.lower = {{"d/f", File{}}, {"l", Symlink{"d"}}}});
  EXPECT_ERRNO(::unlink((fs / "d").c_str()), EISDIR);
  EXPECT_ERRNO(::rmdir((fs / "d/f").c_str()), ENOTDIR);
  EXPECT_ERRNO(::rmdir((fs / "l").c_str()), ENOTDIR);
  EXPECT_ERRNO(::unlink((fs / "none").c_str()), ENOENT);
  EXPECT_ERRNO(::rmdir((fs / "none").c_str()), ENOENT);
  EXPECT_OK(::unlink((fs / "l").c_str()));
  EXPECT_TRUE(exists(fs / "d/f"));
}

TEST(Unlink, EveryKindOfLowerEntry) {
  OverlayFixture fs({.lower = {{"f", File{}}, {"l", Symlink{"x"}}, {"p", Fifo{}}, {"s", Socket{}}, {"e", Dir{}}}});
  for (const char* name : {"f", "l", "p", "s"}) EXPECT_OK(::unlink((fs / name).c_str())) << name;
  EXPECT_OK(::rmdir((fs / "e").c_str()));
  EXPECT_EQ(names_in(fs.root()), (Names{}));
  fs.remount();
  EXPECT_EQ(names_in(fs.root()), (Names{}));
}

TEST(Unlink, SameNameCanBeMadeAgainManyTimes) {
  OverlayFixture fs({.lower = {{"d/f", File{"0"}}}});
  for (int i = 0; i < 20; ++i) {
    EXPECT_OK(::unlink((fs / "d/f").c_str()));
    EXPECT_OK(create_file(fs / "d/f", std::to_string(i)));
    EXPECT_EQ(read_file(fs / "d/f"), std::to_string(i));
  }
  EXPECT_EQ(names_in(fs.upper("d")), (Names{"f"}));
}

TEST(Unlink, StickyDirectoryProtectsOthersFiles) {
  NOT_ON(kVellumUser, "a plain user owns one uid only");
  OverlayFixture fs({.lower = {{"t", Dir{01777}}, {"t/f", File{.content = "x", .mode = 0666, .uid = 8, .gid = 8}}}});
  EXPECT_EQ(as_ids(7, 7, [&] { return ::unlink((fs / "t/f").c_str()) < 0 ? errno : 0; }), EPERM);
  EXPECT_EQ(as_ids(8, 8, [&] { return ::unlink((fs / "t/f").c_str()) < 0 ? errno : 0; }), 0);
}

TEST(Rmdir, OfANonEmptyDirectoryIsEnotempty) {
  OverlayFixture fs({.lower = {{"low/f", File{}}, {"both", Dir{}}}, .upper = {{"up/f", File{}}, {"both/f", File{}}}});
  EXPECT_ERRNO(::rmdir((fs / "low").c_str()), ENOTEMPTY);
  EXPECT_ERRNO(::rmdir((fs / "up").c_str()), ENOTEMPTY);
  EXPECT_ERRNO(::rmdir((fs / "both").c_str()), ENOTEMPTY);
  EXPECT_EQ(names_in(fs / "low"), (Names{"f"}));
}

TEST(Rmdir, OfAnUpperOnlyDirectoryLeavesNothing) {
  OverlayFixture fs({.lower = {{"d/f", File{}}}});
  EXPECT_OK(::mkdir((fs / "d/new").c_str(), 0755));
  EXPECT_OK(::rmdir((fs / "d/new").c_str()));
  EXPECT_EQ(names_in(fs.upper("d")), (Names{}));
}

TEST(Rmdir, OfAMergedEmptyDirectoryLeavesAWhiteout) {
  OverlayFixture fs({.lower = {{"d", Dir{}}}, .upper = {{"d", Dir{}}}});
  EXPECT_OK(::rmdir((fs / "d").c_str()));
  EXPECT_TRUE(is_whiteout(fs.upper(), "d"));
  EXPECT_FALSE(exists(fs / "d"));
}

TEST(Rmdir, RemovesWholeTrees) {
  OverlayFixture fs({.lowers = {{{"d/a/b/c", File{}}, {"d/x", Symlink{"y"}}}, {{"d/a/q", File{}}, {"d/z/w", File{}}}},
                     .upper = {{"d/a/u", File{}}, {"d/n/m", File{}}}});
  EXPECT_EQ(run("rm -r '" + (fs / "d") + "'").output, "");
  EXPECT_EQ(names_in(fs.root()), (Names{}));
  EXPECT_EQ(names_in(fs.upper()).size(), 1u);
}

TEST(Rmdir, OfTheMountpointIsEbusy) {
  OverlayFixture fs({.lower = {}});
  EXPECT_ERRNO(::rmdir(fs.root().c_str()), EBUSY);
}

TEST(Rmdir, OfAnOpenDirectoryLeavesAnEmptyOne) {
  OverlayFixture fs({.lower = {{"d", Dir{}}}});
  Fd dir(fs / "d", O_RDONLY | O_DIRECTORY);
  EXPECT_OK(::rmdir((fs / "d").c_str()));
  EXPECT_TRUE(S_ISDIR(fstat_of(dir).st_mode));
  EXPECT_ERRNO(::openat(dir, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), ENOENT);
}

// A file whose only name is gone, from lower (copied up before, or not) or upper.
struct Origin {
  const char* name;
  bool in_upper, opened_for_writing;
};
class OpenUnlinked : public ::testing::TestWithParam<Origin> {
 protected:
  OpenUnlinked()
      : fs_(GetParam().in_upper ? OverlaySpec{.lower = {{"other", File{}}}, .upper = {{"f", File{"content"}}}}
                                : OverlaySpec{.lower = {{"f", File{"content"}}}}),
        fd_(fs_ / "f", GetParam().opened_for_writing ? O_RDWR : O_RDONLY) {
    EXPECT_OK(::unlink((fs_ / "f").c_str()));
  }
  OverlayFixture fs_;
  Fd fd_;
};
INSTANTIATE_TEST_SUITE_P(Unlink, OpenUnlinked,
                         ::testing::Values(Origin{"LowerReadOnly", false, false}, Origin{"LowerReadWrite", false, true},
                                           Origin{"UpperReadOnly", true, false}, Origin{"UpperReadWrite", true, true}),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(OpenUnlinked, CanBeStatedAndRead) {
  EXPECT_EQ(fstat_of(fd_).st_size, 7);
  EXPECT_EQ(read_fd(fd_), "content");
  if (!GetParam().in_upper && !GetParam().opened_for_writing) NOT_ON(kAnyKernel, kLowerLinkCount);
  EXPECT_EQ(fstat_of(fd_).st_nlink, 0u);
}

TEST_P(OpenUnlinked, LeavesNoLitter) {
  Names expected;
  if (GetParam().in_upper) expected.push_back("other");
  EXPECT_EQ(names_in(fs_.root()), expected);
  EXPECT_EQ(run("find '" + fs_.upper() + "' -name '.fuse_hidden*'").output, "");
}

TEST_P(OpenUnlinked, CanBeWrittenAndTruncated) {
  if (!GetParam().opened_for_writing) return;
  EXPECT_EQ(::pwrite(fd_, "CON", 3, 0), 3);
  EXPECT_EQ(read_fd(fd_), "CONtent");
  EXPECT_OK(::ftruncate(fd_, 2));
  EXPECT_EQ(fstat_of(fd_).st_size, 2);
  EXPECT_EQ(read_fd(fd_), "CO");
  EXPECT_OK(::fsync(fd_));
}

TEST_P(OpenUnlinked, CanBeChangedThroughTheDescriptor) {
  if (!GetParam().in_upper && !GetParam().opened_for_writing) {
    NOT_ON(kAnyKernel, "kernel overlayfs gives EEXIST to fchmod on an open lower file whose name is gone");
  }
  EXPECT_OK(::fchmod(fd_, 0600));
  EXPECT_EQ(octal(fstat_of(fd_).st_mode & 07777), "0600");
  EXPECT_OK(::fsetxattr(fd_, "user.x", "1", 1, 0));
  char value = 0;
  EXPECT_EQ(::fgetxattr(fd_, "user.x", &value, 1), 1);
  std::array<timespec, 2> times{{{5, 0}, {6, 0}}};
  EXPECT_OK(::futimens(fd_, times.data()));
  EXPECT_EQ(fstat_of(fd_).st_mtim.tv_sec, 6);
}

TEST_P(OpenUnlinked, ANewFileOfTheSameNameIsAnother) {
  ino_t old = fstat_of(fd_).st_ino;
  EXPECT_OK(create_file(fs_ / "f", "other"));
  EXPECT_EQ(read_fd(fd_), "content");
  EXPECT_EQ(read_file(fs_ / "f"), "other");
  EXPECT_NE(ino_of(fs_ / "f"), old);
}

TEST(OpenRenamed, DescriptorFollowsTheFile) {
  OverlayFixture fs({.lower = {{"a", File{"content"}}, {"d", Dir{}}}});
  Fd fd(fs / "a", O_RDWR);
  EXPECT_OK(::rename((fs / "a").c_str(), (fs / "d/b").c_str()));
  EXPECT_EQ(::pwrite(fd, "C", 1, 0), 1);
  EXPECT_EQ(read_file(fs / "d/b"), "Content");
  EXPECT_OK(::fchmod(fd, 0600));
  EXPECT_EQ(octal(mode_of(fs / "d/b")), "0600");
  EXPECT_EQ(fstat_of(fd).st_ino, ino_of(fs / "d/b"));
}

TEST(OpenRenamed, ReplacedFileKeepsItsContentForItsReader) {
  OverlayFixture fs({.lower = {{"a", File{"new"}}, {"b", File{"old"}}}});
  Fd fd(fs / "b", O_RDONLY);
  EXPECT_OK(::rename((fs / "a").c_str(), (fs / "b").c_str()));
  EXPECT_EQ(read_fd(fd), "old");
  EXPECT_EQ(read_file(fs / "b"), "new");
  NOT_ON(kAnyKernel, kLowerLinkCount);
  EXPECT_EQ(fstat_of(fd).st_nlink, 0u);
}

TEST(OpenRenamed, WorkingDirectoryFollowsARenamedUpperDirectory) {
  OverlayFixture fs({.upper = {{"a/b/f", File{"x"}}}});
  Fd dir(fs / "a/b", O_RDONLY | O_DIRECTORY);
  EXPECT_OK(::rename((fs / "a").c_str(), (fs / "z").c_str()));
  Fd file(::openat(dir, "f", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(read_fd(file), "x");
  Fd made(::openat(dir, "g", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  EXPECT_GE(static_cast<int>(made), 0);
  EXPECT_TRUE(exists(fs / "z/b/g"));
}

}  // namespace
}  // namespace vellum::test
