#include "sys/file.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <set>

#include "unit/temp_dir.h"

namespace vellum::sys {
namespace {

using testing::exists;
using testing::read_file;
using testing::TempDir;
using testing::write_file;

class FileTest : public ::testing::Test {
 protected:
  FileTest() : root_(open(dir_.path().c_str(), O_PATH | O_DIRECTORY).value()) {
    ::mkdir((dir_ / "d").c_str(), 0755);
    ::mkdir((dir_ / "d/e").c_str(), 0755);
    write_file(dir_ / "f", "text");
    write_file(dir_ / "d/e/g", "deep");
    EXPECT_EQ(::symlink("f", (dir_ / "link").c_str()), 0);
    EXPECT_EQ(::symlink("d", (dir_ / "dirlink").c_str()), 0);
    EXPECT_EQ(::symlink("/etc", (dir_ / "out").c_str()), 0);
    EXPECT_EQ(::symlink("nowhere", (dir_ / "dangling").c_str()), 0);
  }
  UniqueFd at(const char* name) { return openat(root_, name, O_PATH).value(); }

  TempDir dir_;
  UniqueFd root_;
};

TEST_F(FileTest, OpenBeneathOpensWhatIsBeneath) {
  EXPECT_TRUE(open_beneath(root_, "f", O_RDONLY));
  EXPECT_TRUE(open_beneath(root_, "d/e/g", O_RDONLY));
  EXPECT_TRUE(open_beneath(root_, "", O_PATH | O_DIRECTORY));
  EXPECT_TRUE(open_beneath(root_, "d/../f", O_RDONLY));
  EXPECT_EQ(open_beneath(root_, "none", O_RDONLY).error(), ENOENT);
}

TEST_F(FileTest, OpenBeneathNeverLeaves) {
  const std::string escape = "d/../../" + dir_.path().substr(dir_.path().rfind('/') + 1) + "/f";
  for (const std::string& path : {std::string(".."), std::string("../"), std::string("d/../.."), escape,
                                  std::string("/etc/passwd"), std::string("/"), dir_ / "f"}) {
    EXPECT_FALSE(open_beneath(root_, path, O_PATH)) << path;
  }
}

TEST_F(FileTest, OpenBeneathFollowsNoLinkOfAnyKind) {
  for (const char* path : {"link", "dirlink/e/g", "out/passwd", "out", "dangling"}) {
    EXPECT_FALSE(open_beneath(root_, path, O_RDONLY)) << path;
  }
  auto proc = open("/proc/self", O_PATH | O_DIRECTORY);
  ASSERT_TRUE(proc);
  EXPECT_FALSE(open_beneath(*proc, "root/etc", O_PATH));
  EXPECT_FALSE(open_beneath(*proc, "cwd", O_PATH | O_DIRECTORY));
}

TEST_F(FileTest, OpenBeneathTakesPathsBeyondPathMax) {
  const std::string part(200, 'p');
  UniqueFd at = dup(root_).value();
  std::string path;
  for (int depth = 0; depth < 50; ++depth) {
    ASSERT_TRUE(mkdir(at, part.c_str(), 0755));
    at = openat(at, part.c_str(), O_PATH | O_DIRECTORY).value();
    path += part + "/";
  }
  ASSERT_TRUE(openat(at, "leaf", O_CREAT | O_WRONLY, 0600));
  ASSERT_GT(path.size(), 2U * 4096);
  EXPECT_TRUE(open_beneath(root_, path + "leaf", O_RDONLY));
  EXPECT_EQ(open_beneath(root_, path + "none", O_RDONLY).error(), ENOENT);
  ASSERT_TRUE(symlink("/", at, "out"));
  EXPECT_FALSE(open_beneath(root_, path + "out/etc", O_PATH));
  EXPECT_FALSE(open_beneath(root_, std::string(5000, 'x'), O_PATH));
}

// Each stage of a long path is beneath by itself; ".." after a cut must not climb above the root either.
TEST_F(FileTest, OpenBeneathCannotClimbInALaterStage) {
  std::string path;
  while (path.size() < 4100) path += "d/../";
  EXPECT_TRUE(open_beneath(root_, path + "f", O_RDONLY).has_value() ||
              open_beneath(root_, path + "f", O_RDONLY).error() == EXDEV);
  EXPECT_FALSE(open_beneath(root_, path + "..", O_PATH));
  EXPECT_FALSE(open_beneath(root_, path + "../../etc", O_PATH));
}

TEST_F(FileTest, OpenatFollowsNoSymlink) {
  EXPECT_EQ(openat(root_, "link", O_RDONLY).error(), ELOOP);
  EXPECT_TRUE(statx(openat(root_, "link", O_PATH).value(), "")->is_symlink());
}

TEST_F(FileTest, ReopenOpensTheObjectAgain) {
  UniqueFd path = at("f");
  auto file = reopen(path, O_RDONLY);
  ASSERT_TRUE(file);
  std::byte text[10];
  EXPECT_EQ(pread(*file, text, 0), 4U);
  ASSERT_TRUE(unlink(root_, "f"));
  EXPECT_TRUE(reopen(path, O_RDWR)) << "even when it has no name any more";
}

TEST_F(FileTest, StatxByNameAndByFd) {
  EXPECT_EQ(statx(root_, "f")->size, 4U);
  EXPECT_TRUE(statx(root_, "link")->is_symlink());
  EXPECT_EQ(statx(at("f"), "")->ino, statx(root_, "f")->ino);
  EXPECT_EQ(statx(root_, "none").error(), ENOENT);
  EXPECT_TRUE(statx(root_, "")->is_dir());
}

TEST_F(FileTest, ReadDirListsAllButDotsAndStopsWhenTold) {
  auto readable = openat(root_, ".", O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(readable);
  std::set<std::string> names;
  auto all = [&](std::string_view name, std::uint64_t ino, unsigned char) {
    EXPECT_NE(ino, 0U);
    names.emplace(name);
    return true;
  };
  ASSERT_TRUE(read_dir(*readable, all));
  EXPECT_EQ(names, (std::set<std::string>{"d", "f", "link", "dirlink", "out", "dangling"}));
  names.clear();
  ASSERT_TRUE(read_dir(*readable, all));
  EXPECT_EQ(names.size(), 6U) << "it starts anew each time";
  int calls = 0;
  ASSERT_TRUE(read_dir(*readable, [&](std::string_view, std::uint64_t, unsigned char) { return ++calls < 2; }));
  EXPECT_EQ(calls, 2);
}

TEST_F(FileTest, ReadDirOfManyEntries) {
  for (int i = 0; i < 2000; ++i) write_file(dir_ / ("d/" + std::string(200, 'n') + std::to_string(i)), "");
  auto readable = openat(root_, "d", O_RDONLY | O_DIRECTORY);
  std::size_t count = 0;
  ASSERT_TRUE(read_dir(*readable, [&](std::string_view, std::uint64_t, unsigned char) { return ++count > 0; }));
  EXPECT_EQ(count, 2001U);
}

TEST_F(FileTest, ChmodAndChownAndTimesByNameAndFd) {
  for (bool by_fd : {false, true}) {
    UniqueFd path = at("f");
    FdRef dir = by_fd ? FdRef(path) : FdRef(root_);
    const char* name = by_fd ? "" : "f";
    mode_t mode = by_fd ? 0600 : 04711;
    EXPECT_TRUE(chmod(dir, name, mode));
    EXPECT_EQ(statx(root_, "f")->mode & 07777, mode);
    EXPECT_TRUE(chown(dir, name, ~0U, ~0U));
    timespec a{.tv_sec = by_fd ? 11 : 22, .tv_nsec = 5}, m{.tv_sec = 33, .tv_nsec = UTIME_OMIT};
    EXPECT_TRUE(utimens(dir, name, a, m));
    EXPECT_EQ(statx(root_, "f")->atime.tv_sec, a.tv_sec);
    EXPECT_EQ(statx(root_, "f")->atime.tv_nsec, 5);
    EXPECT_NE(statx(root_, "f")->mtime.tv_sec, 33);
  }
}

TEST_F(FileTest, AttributesNeverGoThroughASymlink) {
  auto before = statx(root_, "f").value();
  ignore(chmod(root_, "link", 0777));
  EXPECT_EQ(statx(root_, "f")->mode, before.mode);
  timespec past{.tv_sec = 1, .tv_nsec = 0};
  EXPECT_TRUE(utimens(root_, "link", past, past));
  EXPECT_EQ(statx(root_, "link")->mtime.tv_sec, 1);
  EXPECT_NE(statx(root_, "f")->mtime.tv_sec, 1);
  if (testing::is_root()) {
    EXPECT_TRUE(chown(root_, "link", 12, 13));
    EXPECT_EQ(statx(root_, "link")->uid, 12U);
    EXPECT_EQ(statx(root_, "f")->uid, before.uid);
  }
}

TEST_F(FileTest, RenameFlags) {
  write_file(dir_ / "g", "other");
  EXPECT_EQ(rename(root_, "f", root_, "g", RENAME_NOREPLACE).error(), EEXIST);
  EXPECT_TRUE(rename(root_, "f", root_, "g", RENAME_EXCHANGE));
  EXPECT_EQ(read_file(dir_ / "f"), "other");
  EXPECT_EQ(read_file(dir_ / "g"), "text");
}

TEST_F(FileTest, LinkFdNamesANamelessFile) {
  auto file = openat(root_, ".", O_TMPFILE | O_RDWR, 0600);
  if (!file) GTEST_SKIP() << "no O_TMPFILE here";
  const std::string text = "hello";
  EXPECT_EQ(pwrite(*file, std::as_bytes(std::span(text)), 0), 5U);
  EXPECT_TRUE(link_fd(*file, root_, "named"));
  EXPECT_EQ(read_file(dir_ / "named"), "hello");
  EXPECT_EQ(link_fd(*file, root_, "named").error(), EEXIST);
}

TEST_F(FileTest, PreadStopsAtTheEnd) {
  auto file = openat(root_, "f", O_RDONLY);
  std::byte buffer[100];
  EXPECT_EQ(pread(*file, buffer, 0), 4U);
  EXPECT_EQ(pread(*file, buffer, 3), 1U);
  EXPECT_EQ(pread(*file, buffer, 4), 0U);
  EXPECT_FALSE(pread(*file, buffer, ~std::uint64_t{0}));
  EXPECT_FALSE(pwrite(*file, buffer, 0));
}

TEST_F(FileTest, AnFdClosesOnce) {
  UniqueFd a = at("f");
  int number = a.raw();
  UniqueFd b = std::move(a);
  EXPECT_FALSE(a);  // NOLINT: moved-from is empty by contract
  EXPECT_EQ(b.raw(), number);
  b = UniqueFd();
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST_F(FileTest, FdsCloseOnExec) {
  for (const UniqueFd& fd : {at("f"), openat(root_, "f", O_RDONLY).value(), open_beneath(root_, "d", O_PATH).value(),
                             dup(root_).value(), reopen(at("f"), O_RDONLY).value()}) {
    EXPECT_EQ(::fcntl(fd.raw(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  }
}

// --- Extended attributes

class XattrTest : public FileTest {
 protected:
  void SetUp() override {
    if (!setxattr(root_, "f", "user.probe", "")) GTEST_SKIP() << "no user xattrs here";
    ASSERT_TRUE(removexattr(root_, "f", "user.probe"));
  }
};

TEST_F(XattrTest, ByNameAndOnPathOnlyFds) {
  UniqueFd path = at("f");
  EXPECT_TRUE(setxattr(root_, "f", "user.a", "one"));
  EXPECT_EQ(getxattr(path, "", "user.a"), "one");
  EXPECT_TRUE(setxattr(path, "", "user.b", "two"));
  EXPECT_EQ(getxattr(root_, "f", "user.b"), "two");
  const std::string list = listxattr(path, "").value();
  EXPECT_NE(list.find(std::string("user.a\0", 7)), std::string::npos);
  EXPECT_TRUE(removexattr(path, "", "user.a"));
  EXPECT_EQ(getxattr(root_, "f", "user.a").error(), ENODATA);
  EXPECT_TRUE(unlink(root_, "f"));
  EXPECT_EQ(getxattr(path, "", "user.b"), "two") << "a nameless object still answers";
}

TEST_F(XattrTest, OnTheDirectoryItself) {
  EXPECT_TRUE(setxattr(root_, "", "user.root", "r"));
  EXPECT_EQ(testing::xattr_of(dir_.path(), "user.root"), "r");
  EXPECT_TRUE(setxattr(root_, "d", "user.d", "d"));
  EXPECT_EQ(testing::xattr_of(dir_ / "d", "user.d"), "d");
}

TEST_F(XattrTest, NeverThroughASymlink) {
  EXPECT_FALSE(setxattr(root_, "link", "user.a", "x"));  // a symlink takes no user attributes
  EXPECT_EQ(getxattr(root_, "f", "user.a").error(), ENODATA);
  EXPECT_TRUE(setxattr(root_, "f", "user.a", "x"));
  EXPECT_FALSE(getxattr(root_, "link", "user.a"));
  if (testing::is_root()) {
    EXPECT_TRUE(setxattr(root_, "link", "trusted.l", "on the link"));
    EXPECT_EQ(getxattr(root_, "link", "trusted.l"), "on the link");
    EXPECT_EQ(getxattr(root_, "f", "trusted.l").error(), ENODATA);
    EXPECT_TRUE(setxattr(root_, "dangling", "trusted.l", "y"));
  }
}

TEST_F(XattrTest, FlagsAndSizes) {
  EXPECT_EQ(setxattr(root_, "f", "user.a", "x", XATTR_REPLACE).error(), ENODATA);
  EXPECT_TRUE(setxattr(root_, "f", "user.a", "", XATTR_CREATE));
  EXPECT_EQ(setxattr(root_, "f", "user.a", "x", XATTR_CREATE).error(), EEXIST);
  EXPECT_EQ(getxattr(root_, "f", "user.a"), "");
  const std::string big(3000, 'b');  // beyond the first buffer
  EXPECT_TRUE(setxattr(root_, "f", "user.a", big));
  EXPECT_EQ(getxattr(root_, "f", "user.a"), big);
}

TEST_F(XattrTest, LongNamesOfFilesAndAttributes) {
  const std::string name(255, 'n'), attribute = "user." + std::string(250, 'a');
  write_file(dir_ / name, "");
  EXPECT_TRUE(setxattr(root_, name.c_str(), attribute.c_str(), "v"));
  EXPECT_EQ(getxattr(root_, name.c_str(), attribute.c_str()), "v");
}

}  // namespace
}  // namespace vellum::sys
