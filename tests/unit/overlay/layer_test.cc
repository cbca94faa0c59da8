#include "overlay/layer.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "overlay/name.h"
#include "unit/temp_dir.h"

namespace vellum::overlay {
namespace {

using testing::set_xattr;
using testing::TempDir;
using testing::write_file;

sys::Statx parsed(std::string_view value, mode_t real_type = S_IFREG) {
  sys::Statx st;
  st.mode = real_type | 0600;
  st.uid = 7;
  st.gid = 8;
  parse_override(value, st);
  return st;
}

TEST(Override, OnlyAFileStandsForSomethingElse) {
  EXPECT_EQ(parsed("0:0:644:file", S_IFIFO).mode, S_IFIFO | 0644U);
  EXPECT_EQ(parsed("0:0:644:symlink", S_IFCHR).mode, S_IFCHR | 0644U);
  EXPECT_EQ(parsed("0:0:644:dir", S_IFREG).mode, S_IFREG | 0644U);
}

TEST(Override, WhatIsWrittenIsRead) {
  struct Case {
    mode_t mode;
    dev_t rdev;
    const char* text;
  };
  for (auto [mode, rdev, text] :
       {Case{S_IFREG | 04755, 0, "0:4294967295:4755:file"}, Case{S_IFDIR | 0700, 0, "0:4294967295:700:dir"},
        Case{S_IFLNK | 0777, 0, "0:4294967295:777:symlink"}, Case{S_IFIFO | 0600, 0, "0:4294967295:600:pipe"},
        Case{S_IFSOCK | 0755, 0, "0:4294967295:755:socket"},
        Case{S_IFBLK | 0660, makedev(8, 1), "0:4294967295:660:block-8-1"},
        Case{S_IFCHR | 0, makedev(4095, 0xfffff), "0:4294967295:0:char-4095-1048575"}}) {
    sys::Statx st;
    st.mode = mode;
    st.uid = 0;
    st.gid = 0xffffffffU;
    st.rdev = rdev;
    EXPECT_EQ(format_override(st), text);
    sys::Statx back = parsed(text, S_ISDIR(mode) ? S_IFDIR : S_IFREG);
    EXPECT_EQ(back.mode, mode);
    EXPECT_EQ(back.uid, 0U);
    EXPECT_EQ(back.gid, 0xffffffffU);
    EXPECT_EQ(back.rdev, rdev);
  }
}

TEST(Override, WithoutATypeKeepsTheRealOne) {
  sys::Statx st = parsed("1:2:4711");
  EXPECT_EQ(st.mode, S_IFREG | 04711U);
  EXPECT_EQ(st.uid, 1U);
  EXPECT_EQ(st.gid, 2U);
}

TEST(Override, TheModeCannotChangeTheType) { EXPECT_EQ(parsed("1:2:120777").mode, S_IFREG | 0777U); }

TEST(Override, NonsenseChangesNothing) {
  for (const char* text : {"", ":", "::", "1", "1:2", "1:2:", "a:2:644", "1:b:644", "1:2:9", "-1:2:644", "1 :2:644",
                           "4294967296:0:644", "1:2:0x1ff", "1:2:77777777777777"}) {
    sys::Statx st = parsed(text);
    EXPECT_EQ(st.mode, S_IFREG | 0600U) << text;
    EXPECT_EQ(st.uid, 7U) << text;
    EXPECT_EQ(st.gid, 8U) << text;
  }
}

TEST(Override, AnUnknownTypeLeavesTheType) {
  for (const char* type : {"door", "char-1", "char-", "block-1-", "block--1", "char-1-2-3", "char-a-b", "dirt"}) {
    EXPECT_EQ(parsed(std::string("1:2:644:") + type).mode, S_IFREG | 0644U) << type;
  }
}

class MarksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::mkdir((dir_ / "d").c_str(), 0755);
    write_file(dir_ / "f", "");
    if (!set_xattr(dir_ / "f", "user.probe", "1")) GTEST_SKIP() << "no user xattrs here";
    auto opened = open_layer(1, dir_.path(), true, false);
    ASSERT_TRUE(opened);
    layer_ = std::move(*opened);
  }
  Marks marks(const char* name) { return read_marks(layer_, *layer_.root, name).value(); }

  TempDir dir_;
  Layer layer_;
};

TEST_F(MarksTest, NoAttributeNoMark) {
  Marks none = marks("d");
  EXPECT_FALSE(none.opaque || none.whiteout || none.metacopy || none.impure || none.redirect || none.origin ||
               none.xattr_whiteouts);
}

TEST_F(MarksTest, OpaqueInEveryStyle) {
  for (const char* name : {"user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque"}) {
    if (!set_xattr(dir_ / "d", name, "y")) continue;  // trusted needs rights
    EXPECT_TRUE(marks("d").opaque) << name;
    EXPECT_FALSE(marks("d").xattr_whiteouts) << name;
    ::lremovexattr((dir_ / "d").c_str(), name);
    EXPECT_FALSE(marks("d").opaque) << name;
  }
}

TEST_F(MarksTest, OpaqueXMeansXattrWhiteoutsWithin) {
  ASSERT_TRUE(set_xattr(dir_ / "d", "user.overlay.opaque", "x"));
  EXPECT_FALSE(marks("d").opaque);
  EXPECT_TRUE(marks("d").xattr_whiteouts);
  ASSERT_TRUE(set_xattr(dir_ / "d", "user.overlay.opaque", "n"));
  EXPECT_FALSE(marks("d").opaque);
  EXPECT_FALSE(marks("d").xattr_whiteouts);
}

TEST_F(MarksTest, FileMarks) {
  ASSERT_TRUE(set_xattr(dir_ / "f", "user.overlay.whiteout", ""));
  ASSERT_TRUE(set_xattr(dir_ / "f", "user.overlay.metacopy", ""));
  ASSERT_TRUE(set_xattr(dir_ / "f", "user.overlay.redirect", "/a/b"));
  Marks got = marks("f");
  EXPECT_TRUE(got.whiteout);
  EXPECT_TRUE(got.metacopy);
  EXPECT_EQ(got.redirect, "/a/b");
}

TEST_F(MarksTest, ARedirectWithNulOrEmptyIsNone) {
  ASSERT_TRUE(set_xattr(dir_ / "d", "user.overlay.redirect", std::string("a\0b", 3)));
  EXPECT_EQ(marks("d").redirect, std::nullopt);
  ASSERT_TRUE(set_xattr(dir_ / "d", "user.overlay.redirect", ""));
  EXPECT_EQ(marks("d").redirect, std::nullopt);
}

TEST_F(MarksTest, EscapedMarksAreNone) {
  ASSERT_TRUE(set_xattr(dir_ / "d", "user.overlay.overlay.opaque", "y"));
  EXPECT_FALSE(marks("d").opaque);
}

TEST_F(MarksTest, OriginComesBack) {
  ASSERT_TRUE(set_xattr(dir_ / "f", "user.overlay.vellum.origin",
                        format_origin({.fs_id = 0xfedcba9876543210, .ino = 0xffffffffffffffff})));
  Marks got = marks("f");
  ASSERT_TRUE(got.origin);
  EXPECT_EQ(got.origin->fs_id, 0xfedcba9876543210);
  EXPECT_EQ(got.origin->ino, 0xffffffffffffffff);
  for (const char* bad : {"", ":", "12", "zz:1", "1:zz", "1:"}) {
    ASSERT_TRUE(set_xattr(dir_ / "f", "user.overlay.vellum.origin", bad));
    EXPECT_FALSE(marks("f").origin) << bad;
  }
}

TEST_F(MarksTest, WithoutXattrsNothingIsRead) {
  ASSERT_TRUE(set_xattr(dir_ / "d", "user.overlay.opaque", "y"));
  auto plain = open_layer(1, dir_.path(), false, false);
  ASSERT_TRUE(plain);
  EXPECT_FALSE(read_marks(*plain, *plain->root, "d")->opaque);
}

TEST_F(MarksTest, TheRootSaysThatOverridesAreUsed) {
  EXPECT_EQ(layer_.override_name, "");
  ASSERT_TRUE(set_xattr(dir_.path(), kOverrideUser, "0:0:755"));
  EXPECT_EQ(open_layer(1, dir_.path(), true, false)->override_name, kOverrideUser);
  ASSERT_TRUE(set_xattr(dir_.path(), kOverrideContainers, "0:0:755"));
  EXPECT_EQ(open_layer(1, dir_.path(), true, false)->override_name, kOverrideContainers);
}

TEST(OpenLayer, SaysWhatIsWrong) {
  TempDir dir;
  write_file(dir / "f", "");
  EXPECT_EQ(open_layer(1, dir / "none", true, false).error(), ENOENT);
  EXPECT_EQ(open_layer(1, dir / "f", true, false).error(), ENOTDIR);
}

TEST(Names, Valid) {
  EXPECT_TRUE(valid_name("a"));
  EXPECT_TRUE(valid_name("..."));
  EXPECT_TRUE(valid_name(std::string(255, 'x')));
  for (std::string_view name : {std::string_view(""), std::string_view("."), std::string_view(".."),
                                std::string_view("a/b"), std::string_view("/"), std::string_view("a\0b", 3)}) {
    EXPECT_FALSE(valid_name(name)) << name;
  }
  EXPECT_FALSE(valid_name(std::string(256, 'x')));
}

TEST(Names, CNameHoldsAPrefixAndNeverOverflows) {
  EXPECT_STREQ(CName(kWhPrefix, "a").c_str(), ".wh.a");
  const std::string longest(255, 'x');
  EXPECT_EQ(CName(kWhPrefix, longest).c_str(), ".wh." + longest);
  EXPECT_LT(std::string(CName(std::string(1000, 'y')).c_str()).size(), 300U);
}

TEST(Names, NodeNameOwnsAllLengths) {
  EXPECT_TRUE(NodeName().empty());
  EXPECT_EQ(NodeName().view(), "");
  EXPECT_STREQ(NodeName().c_str(), "");
  for (std::size_t length : {1UL, 127UL, 128UL, 254UL, 255UL}) {
    NodeName name(std::string(length, 'n'));
    EXPECT_EQ(name.view(), std::string(length, 'n'));
    EXPECT_EQ(name.c_str(), std::string(length, 'n'));
  }
}

}  // namespace
}  // namespace vellum::overlay
