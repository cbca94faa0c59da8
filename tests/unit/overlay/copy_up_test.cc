// When something of a lower layer is changed: what arrives in upper, and that it stays one object for the caller.
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "unit/overlay/overlay_fixture.h"

namespace vellum::overlay::testing {
namespace {

using namespace std::string_literals;

TEST(CopyUp, CopiesOnceAndLeavesLowerAlone) {
  for (bool wire : {false, true}) {
    OverlayFixture fs({.lower = {{"a/b/f", File{"old text", 0640}}}, .through_wire = wire});
    EXPECT_TRUE(fs.write("a/b/f", "NEW", O_RDWR));
    EXPECT_EQ(fs.read("a/b/f"), "NEW text");
    EXPECT_EQ(read_file(fs.upper("a/b/f")), "NEW text");
    EXPECT_EQ(read_file(fs.lower("a/b/f")), "old text");
    EXPECT_EQ(lstat_of(fs.upper("a/b/f")).st_mode & 07777, 0640U);
    EXPECT_EQ(fs.litter(), std::set<std::string>{});
  }
}

TEST(CopyUp, KeepsHolesAndMode0444) {
  OverlayFixture fs({.lower = {{"f", File{"head", 0444}}}});
  constexpr off_t kSize = 64 << 20;
  const std::string path = fs.lower("f");
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kSize / 2);
    file << "middle";
  }
  ASSERT_EQ(::truncate(path.c_str(), kSize), 0);
  ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
  EXPECT_TRUE(fs.write("f", "HEAD", O_RDWR));
  struct stat st = lstat_of(fs.upper("f"));
  EXPECT_EQ(st.st_size, kSize);
  EXPECT_LT(st.st_blocks * 512, kSize / 16) << "the holes were filled";
  EXPECT_EQ(st.st_mode & 07777, 0444U);
  EXPECT_EQ(fs.read("f")->substr(kSize / 2, 7), std::string("middle\0", 7));
}

TEST(CopyUp, DataBehindAHole) {
  OverlayFixture fs({.lower = {{"f", File{"head"}}}});
  const std::string big = std::string(1 << 20, '\0') + "tail" + std::string(3 << 20, 'x') + "end";
  write_file(fs.lower("f"), big);
  EXPECT_TRUE(fs.set("f", {.mode = 0600}));
  EXPECT_EQ(read_file(fs.upper("f")), big);
}

TEST(CopyUp, KeepsOwnerTimesAndXattrs) {
  OverlayFixture fs({.lower = {{"d", Dir{01751}}, {"d/f", File{"x", 04711, {{"user.note", "kept"}}}}}});
  const timespec times[2] = {{.tv_sec = 1111, .tv_nsec = 22}, {.tv_sec = 3333, .tv_nsec = 44}};
  ASSERT_EQ(::utimensat(AT_FDCWD, fs.lower("d/f").c_str(), times, 0), 0);
  ASSERT_EQ(::utimensat(AT_FDCWD, fs.lower("d").c_str(), times, 0), 0);
  if (is_root()) {
    ASSERT_EQ(::chown(fs.lower("d/f").c_str(), 123, 456), 0);
    ASSERT_EQ(::chmod(fs.lower("d/f").c_str(), 04711), 0);
  }
  ASSERT_TRUE(fs.fs().setxattr(fs.caller, fs.node("d/f"), "user.other", {}, {}));
  struct stat file = lstat_of(fs.upper("d/f"));
  EXPECT_EQ(file.st_mode & 07777, 04711U);
  EXPECT_EQ(file.st_mtim.tv_sec, 3333);
  EXPECT_EQ(file.st_mtim.tv_nsec, 44);
  EXPECT_EQ(file.st_atim.tv_sec, 1111);
  EXPECT_EQ(xattr_of(fs.upper("d/f"), "user.note"), "kept");
  if (is_root()) {
    EXPECT_EQ(file.st_uid, 123U);
    EXPECT_EQ(file.st_gid, 456U);
  }
  struct stat dir = lstat_of(fs.upper("d"));
  EXPECT_EQ(dir.st_mode & 07777, 01751U);
  EXPECT_EQ(dir.st_mtim.tv_sec, 3333) << "a copied-up child is no change of its directory";
}

TEST(CopyUp, TheLayersMarksStayBelow) {
  OverlayFixture fs(
      {.lower = {{"d", Dir{0755, {{"user.overlay.opaque", "y"}, {"user.overlay.overlay.opaque", "y"}}}}}});
  EXPECT_TRUE(fs.set("d", {.mode = 0700}));
  EXPECT_EQ(xattr_of(fs.upper("d"), "user.overlay.opaque"), std::nullopt);
  EXPECT_EQ(xattr_of(fs.upper("d"), "user.overlay.overlay.opaque"), "y") << "a caller's own one goes along";
}

TEST(CopyUp, EveryKindOfObject) {
  OverlayFixture fs({.lower = {{"link", Symlink{"some/where"}},
                               {"pipe", Special{S_IFIFO | 0640}},
                               {"null", Special{S_IFCHR | 0606, makedev(1, 3)}},
                               {"dir/x", File{}}}});
  const fuse::SetAttr change{.mtime = fuse::Timestamp{.sec = 77, .nsec = 0}};
  for (const char* name : {"link", "pipe", "null", "dir"}) {
    auto before = fs.attr(name);
    EXPECT_TRUE(fs.set(name, change)) << name;
    auto after = fs.attr(name);
    EXPECT_EQ(after.ino, before.ino) << name;
    EXPECT_EQ(after.mode, before.mode) << name;
    EXPECT_EQ(after.rdev, before.rdev) << name;
    EXPECT_EQ(after.mtime.sec, 77) << name;
    EXPECT_TRUE(exists(fs.upper(name))) << name;
  }
  EXPECT_EQ(fs.fs().readlink(fs.caller, fs.node("link")), "some/where");
}

TEST(CopyUp, TheInodeNumberStays) {
  for (const char* base : {"/tmp", "/dev/shm"}) {
    if (!exists(base)) continue;
    OverlayFixture fs({.lower = {{"d/f", File{"x"}}}, .base = base});
    auto before = fs.attr("d/f").ino;
    EXPECT_TRUE(fs.write("d/f", "y"));
    EXPECT_EQ(fs.attr("d/f").ino, before);
    EXPECT_EQ(fs.list("d").at("f").ino, before);
    fs.forget_all();
    EXPECT_EQ(fs.attr("d/f").ino, before);
    fs.remount();
    EXPECT_EQ(fs.attr("d/f").ino, before) << "kept in an attribute";
    EXPECT_EQ(fs.list("d").at("f").ino, before);
  }
}

TEST(CopyUp, AnOpenReaderSeesWhatIsWrittenLater) {
  OverlayFixture fs({.lower = {{"f", File{"before"}}}});
  auto id = fs.node("f");
  auto handle = fs.open("f", O_RDONLY).value();
  EXPECT_EQ(fs.read_handle(id, handle), "before");
  EXPECT_TRUE(fs.write("f", "AFTER!"));
  EXPECT_EQ(fs.read_handle(id, handle), "AFTER!");
  EXPECT_EQ(fs.write_handle(id, handle, 0, "x").error(), EBADF);
  fs.fs().release(id, handle);
}

TEST(CopyUp, TruncateCopiesOnlyWhatStays) {
  OverlayFixture fs({.lower = {{"f", File{std::string(1 << 20, 'x')}}, {"g", File{std::string(1 << 20, 'y')}}}});
  EXPECT_TRUE(fs.set("f", {.size = 3}));
  EXPECT_EQ(fs.read("f"), "xxx");
  EXPECT_TRUE(fs.write("g", "new", O_WRONLY | O_TRUNC));
  EXPECT_EQ(fs.read("g"), "new");
  EXPECT_LT(fs.engine().stats().copied_bytes, 4096U);
  EXPECT_TRUE(fs.set("f", {.size = 5}));
  EXPECT_EQ(fs.read("f"), "xxx\0\0"s);
}

TEST(CopyUp, GrowingBySizeKeepsTheText) {
  OverlayFixture fs({.lower = {{"f", File{"text"}}}});
  EXPECT_TRUE(fs.set("f", {.size = 6}));
  EXPECT_EQ(fs.read("f"), "text\0\0"s);
}

TEST(CopyUp, UnlinkedWhileOpenStillAnswers) {
  for (bool wire : {false, true}) {
    OverlayFixture fs({.lower = {{"f", File{"text", 0600}}}, .through_wire = wire});
    auto id = fs.node("f");
    auto handle = fs.open("f", O_RDONLY).value();
    ASSERT_TRUE(fs.unlink("f"));
    EXPECT_FALSE(fs.has("f"));
    EXPECT_EQ(fs.read_handle(id, handle), "text");
    EXPECT_TRUE(fs.fs().setattr(fs.caller, id, {.mode = 0640}));  // fchmod
    auto now = fs.fs().getattr(fs.caller, id, handle);
    ASSERT_TRUE(now);
    EXPECT_EQ(now->attr.mode & 07777, 0640U);
    EXPECT_EQ(fs.read_handle(id, handle), "text");
    EXPECT_TRUE(fs.fs().setattr(fs.caller, id, {.size = 2}));
    EXPECT_EQ(fs.read_handle(id, handle), "te");
    EXPECT_EQ(fs.upper_names(), (std::set<std::string>{"f"})) << "the whiteout and nothing else";
    EXPECT_EQ(fs.litter(), std::set<std::string>{});
    fs.fs().release(id, handle);
  }
}

TEST(CopyUp, OtherKindsUnlinkedWhileInUse) {
  if (!is_root()) GTEST_SKIP() << "chown needs root";
  OverlayFixture fs({.lower = {{"link", Symlink{"t"}}, {"pipe", Special{S_IFIFO | 0600}}}});
  for (const char* name : {"link", "pipe"}) {
    auto id = fs.node(name);
    ASSERT_TRUE(fs.unlink(name));
    EXPECT_TRUE(fs.fs().setattr(fs.caller, id, {.uid = 5})) << name;
    EXPECT_EQ(fs.fs().getattr(fs.caller, id, {})->attr.uid, 5U) << name;
  }
  EXPECT_EQ(fs.litter(), std::set<std::string>{});
}

TEST(CopyUp, HardLinksStayOneFile) {
  OverlayFixture fs({.lower = {{"a", File{"old"}}, {"d/b", HardLink{"a"}}, {"c", HardLink{"a"}}}});
  auto id = fs.node("a");
  EXPECT_TRUE(fs.write("a", "NEW"));
  EXPECT_EQ(fs.node("d/b"), id);
  EXPECT_EQ(fs.node("c"), id);
  EXPECT_EQ(fs.read("d/b"), "NEW");
  EXPECT_EQ(fs.attr("a").nlink, 3U);
  EXPECT_TRUE(fs.write("d/b", "two"));
  EXPECT_EQ(fs.read("a"), "two");
  EXPECT_TRUE(fs.unlink("a"));
  EXPECT_EQ(fs.attr("c").nlink, 2U);
  EXPECT_EQ(fs.read("c"), "two");
  EXPECT_FALSE(fs.has("a"));
  fs.forget_all();
  EXPECT_EQ(fs.read("c"), "two");
  EXPECT_EQ(fs.read("d/b"), "two");
}

TEST(CopyUp, HardLinkFoundByItsOtherNameFirst) {
  OverlayFixture fs({.lower = {{"a", File{"old"}}, {"b", HardLink{"a"}}}});
  EXPECT_TRUE(fs.write("a", "NEW"));
  fs.forget_all();
  EXPECT_EQ(fs.read("b"), "NEW");
  EXPECT_TRUE(fs.write("b", "two"));
  EXPECT_EQ(fs.read("a"), "two");
}

// The name that was looked up goes; what is written by the other one must arrive in upper.
TEST(CopyUp, AHardLinkWrittenAfterItsOtherNameIsGone) {
  for (bool keep_open : {false, true}) {
    OverlayFixture fs({.lower = {{"a", File{"old"}}, {"b", HardLink{"a"}}}});
    auto id = fs.node("a");
    auto handle = fs.open("a", O_RDONLY);
    if (!keep_open) fs.fs().release(id, *handle);
    ASSERT_TRUE(fs.unlink("a"));
    EXPECT_TRUE(fs.write("b", "NEW"));
    EXPECT_EQ(fs.read("b"), "NEW");
    EXPECT_EQ(fs.attr("b").nlink, 1U);
    if (keep_open) {
      EXPECT_EQ(fs.read_handle(id, *handle), "NEW");
      fs.fs().release(id, *handle);
    }
    fs.forget_all();
    EXPECT_EQ(fs.read("b"), "NEW");
    fs.remount();
    EXPECT_FALSE(fs.has("a"));
    EXPECT_EQ(fs.read("b"), "NEW");
  }
}

TEST(CopyUp, AllNamesOfAHardLinkGo) {
  OverlayFixture fs({.lower = {{"a", File{"old"}}, {"b", HardLink{"a"}}}});
  EXPECT_TRUE(fs.write("a", "NEW"));
  EXPECT_TRUE(fs.unlink("b"));
  EXPECT_EQ(fs.attr("a").nlink, 1U);
  EXPECT_TRUE(fs.unlink("a"));
  EXPECT_EQ(fs.names(), std::set<std::string>{});
  fs.forget_all();
  EXPECT_EQ(fs.engine().stats().nodes, 1U);
  for (const auto& entry : std::filesystem::directory_iterator(fs.work())) {
    EXPECT_EQ(entry.path().filename(), "#whiteout") << "no work name is left";
  }
}

TEST(CopyUp, LinksMadeInTheOverlay) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}, {"d/y", File{}}}});
  EXPECT_TRUE(fs.link("f", "d/g"));
  EXPECT_EQ(fs.node("f"), fs.node("d/g"));
  EXPECT_EQ(fs.attr("f").nlink, 2U);
  EXPECT_TRUE(fs.write("d/g", "y"));
  EXPECT_EQ(fs.read("f"), "y");
  EXPECT_EQ(fs.link("f", "d/y").error(), EEXIST);
  EXPECT_EQ(fs.link("d", "e").error(), EPERM);
  EXPECT_TRUE(fs.unlink("f"));
  EXPECT_EQ(fs.attr("d/g").nlink, 1U);
  fs.remount();
  EXPECT_EQ(fs.read("d/g"), "y");
  EXPECT_FALSE(fs.has("f"));
}

TEST(CopyUp, AnUnlinkedLowerFileGetsANameAgain) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  auto id = fs.node("f");
  ASSERT_TRUE(fs.unlink("f"));
  auto linked = fs.fs().link(fs.caller, id, fuse::NodeId::kRoot, "again");
  if (linked) {
    EXPECT_EQ(fs.read("again"), "x");
    fs.forget_all();
    EXPECT_EQ(fs.read("again"), "x");
  } else {
    EXPECT_EQ(linked.error(), ENOENT);  // as a real file system says
  }
}

TEST(CopyUp, TmpfileGetsAName) {
  OverlayFixture fs({.lower = {{"d/x", File{}}}});
  auto made = fs.fs().tmpfile(fs.caller, fs.node("d"), O_RDWR, 0640, 022);
  ASSERT_TRUE(made);
  EXPECT_EQ(fs.write_handle(made->entry.node, made->open.handle, 0, "tmp"), 3U);
  EXPECT_EQ(fs.fs().getattr(fs.caller, made->entry.node, {})->attr.nlink, 0U);
  ASSERT_TRUE(fs.fs().link(fs.caller, made->entry.node, fs.node("d"), "named"));
  fs.fs().release(made->entry.node, made->open.handle);
  EXPECT_EQ(fs.read("d/named"), "tmp");
  EXPECT_EQ(fs.attr("d/named").nlink, 1U);
  EXPECT_EQ(fs.attr("d/named").mode & 07777, 0640U);
}

TEST(CopyUp, MetacopyLeavesDataBelowUntilItIsWritten) {
  Spec spec{.lower = {{"d/f", File{std::string(100000, 'x'), 0644}}}};
  spec.options.metacopy = true;
  OverlayFixture fs(spec);
  EXPECT_TRUE(fs.set("d/f", {.mode = 0600}));
  EXPECT_EQ(fs.engine().stats().copied_bytes, 0U);
  EXPECT_EQ(fs.attr("d/f").size, 100000U);
  EXPECT_EQ(fs.attr("d/f").mode & 07777, 0600U);
  EXPECT_EQ(fs.read("d/f"), std::string(100000, 'x'));
  EXPECT_TRUE(fs.rename("d/f", "g"));
  EXPECT_EQ(fs.read("g"), std::string(100000, 'x'));
  fs.remount();
  EXPECT_EQ(fs.read("g"), std::string(100000, 'x')) << "the redirect leads to the data";
  EXPECT_EQ(fs.engine().stats().copied_bytes, 0U);
  EXPECT_TRUE(fs.write("g", "Y", O_RDWR));
  EXPECT_EQ(fs.read("g"), "Y" + std::string(99999, 'x'));
  fs.remount();
  EXPECT_EQ(fs.read("g"), "Y" + std::string(99999, 'x'));
}

TEST(CopyUp, OnAnotherDeviceThanLower) {
  if (!exists("/dev/shm")) GTEST_SKIP();
  TempDir other("/dev/shm");
  std::filesystem::create_directories(other / "d");
  write_file(other / "d/f", "text", 0604);
  Options options;
  Spec spec{.lower = {{"d/here", File{"h"}}}};
  spec.options.lower_dirs = {other.path()};  // above the fixture's own
  OverlayFixture fs(spec);
  auto before = fs.attr("d/f").ino;
  EXPECT_NE(before, fs.attr("d/here").ino);
  EXPECT_EQ(fs.list("d").at("f").ino, before);
  EXPECT_TRUE(fs.write("d/f", "TEXT"));
  EXPECT_EQ(fs.attr("d/f").ino, before);
  EXPECT_EQ(fs.list("d").at("f").ino, before);
  EXPECT_EQ(fs.attr("d/f").mode & 07777, 0604U);
  EXPECT_EQ(fs.read("d/f"), "TEXT");
}

TEST(CopyUp, InASetgidDirectoryKeepsTheGroup) {
  if (!is_root()) GTEST_SKIP() << "needs root";
  OverlayFixture fs({.lower = {{"d", Dir{}}, {"d/f", File{"x"}}}});
  ASSERT_EQ(::chown(fs.lower("d").c_str(), 0, 50), 0);
  ASSERT_EQ(::chmod(fs.lower("d").c_str(), 02775), 0);
  EXPECT_TRUE(fs.set("d/f", {.mode = 0640}));
  EXPECT_EQ(lstat_of(fs.upper("d/f")).st_gid, 0U);
  EXPECT_EQ(lstat_of(fs.upper("d")).st_mode & 07777, 02775U);
  EXPECT_TRUE(fs.create("d/new"));
  EXPECT_EQ(lstat_of(fs.upper("d/new")).st_gid, 50U);
  EXPECT_TRUE(fs.mkdir("d/sub"));
  EXPECT_EQ(lstat_of(fs.upper("d/sub")).st_mode & 07777, 02755U);
}

}  // namespace
}  // namespace vellum::overlay::testing
