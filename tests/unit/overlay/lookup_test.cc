// What a name leads to: merging, whiteouts and opaque directories of every style, redirects, metacopy, hard links.
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "sys/capabilities.h"
#include "unit/overlay/overlay_fixture.h"

namespace vellum::overlay::testing {
namespace {

using Names = std::set<std::string>;

TEST(Lookup, TopmostLayerWinsAndDirectoriesMerge) {
  OverlayFixture fs({.lowers = {{{"d/mid", File{"1"}}, {"d/both", File{"mid"}}, {"f", File{"mid"}}},
                                {{"d/low", File{"2"}}, {"d/both", File{"low"}}, {"f/x", File{"hidden by a file"}}}},
                     .upper = {{"d/up", File{"0"}}}});
  EXPECT_EQ(fs.names("d"), (Names{"up", "mid", "low", "both"}));
  EXPECT_EQ(fs.read("d/both"), "mid");
  EXPECT_EQ(fs.read("d/low"), "2");
  EXPECT_EQ(fs.read("f"), "mid");
  EXPECT_EQ(fs.look("f/x").error(), ENOTDIR);
  EXPECT_EQ(fs.look("d/none").error(), ENOENT);
}

TEST(Lookup, AFileBetweenDirectoriesEndsTheMerge) {
  OverlayFixture fs({.lowers = {{{"d/a", File{}}}, {{"d", File{"file"}}}, {{"d/b", File{}}}}});
  EXPECT_EQ(fs.names("d"), (Names{"a"}));
  EXPECT_FALSE(fs.has("d/b"));
}

// Ways to hide "d/gone" (whiteout) and everything below "o" (opaque), as implementations write them.
struct Style {
  const char* name;
  Tree hiding;
  bool trusted = false;
};

std::vector<Style> styles() {
  const Xattrs x{{"user.overlay.opaque", "x"}};
  const Xattrs trusted_x{{"trusted.overlay.opaque", "x"}};
  return {
      {"device", {{"d/gone", whiteout()}, {"o", opaque()}}},
      {"dot_wh", {{"d/.wh.gone", File{}}, {"o/.wh..wh..opq", File{}}}},
      {"xattr", {{"d", Dir{0755, x}}, {"d/gone", File{"", 0644, {{"user.overlay.whiteout", ""}}}}, {"o", opaque()}}},
      {"trusted_xattr",
       {{"d", Dir{0755, trusted_x}},
        {"d/gone", File{"", 0644, {{"trusted.overlay.whiteout", ""}}}},
        {"o", Dir{0755, {{"trusted.overlay.opaque", "y"}}}}},
       true},
      {"fuse_overlayfs", {{"d/gone", whiteout()}, {"o", Dir{0755, {{"user.fuseoverlayfs.opaque", "y"}}}}}},
      {"whiteout_of_directory", {{"d/.wh.gone", File{}}, {"o", Dir{}}, {"o/below", whiteout()}, {"o/sub", whiteout()}}},
  };
}

class HidingStyles : public ::testing::TestWithParam<std::tuple<std::size_t, bool /*in upper*/, bool /*wire*/>> {};

TEST_P(HidingStyles, HideWhatIsBelow) {
  auto [index, in_upper, wire] = GetParam();
  const Style style = styles()[index];
  if (style.trusted && !is_root()) GTEST_SKIP() << "trusted attributes need root";
  const Tree below = {
      {"d/gone", File{"still there"}}, {"d/stays", File{"s"}}, {"o/below", File{}}, {"o/sub/x", File{}}};
  OverlayFixture fs(in_upper ? Spec{.lower = below, .upper = style.hiding, .through_wire = wire}
                             : Spec{.lowers = {style.hiding, below}, .through_wire = wire});
  EXPECT_FALSE(fs.has("d/gone"));
  EXPECT_EQ(fs.names("d"), (Names{"stays"}));
  EXPECT_FALSE(fs.has("o/below"));
  EXPECT_FALSE(fs.has("o/sub/x"));
  EXPECT_EQ(fs.names("o"), Names{});
  // After a listing, answers come from the index: the same ones.
  EXPECT_FALSE(fs.has("d/gone"));
  EXPECT_TRUE(fs.has("d/stays"));
  EXPECT_FALSE(fs.has("o/below"));
}

INSTANTIATE_TEST_SUITE_P(All, HidingStyles,
                         ::testing::Combine(::testing::Range<std::size_t>(0, styles().size()), ::testing::Bool(),
                                            ::testing::Bool()),
                         [](const auto& given) {
                           return std::string(styles()[std::get<0>(given.param)].name) +
                                  (std::get<1>(given.param) ? "_upper" : "_lower") +
                                  (std::get<2>(given.param) ? "_wire" : "");
                         });

TEST(Lookup, MarksOfWhiteoutsThatAreNone) {
  const Xattrs mark{{"user.overlay.whiteout", ""}};
  OverlayFixture fs({.lower = {{"unmarked/f", File{"low"}}, {"x/full", File{"low"}}},
                     .upper = {{"unmarked/f", File{"", 0644, mark}},
                               {"x", Dir{0755, {{"user.overlay.opaque", "x"}}}},
                               {"x/full", File{"text", 0644, mark}},
                               {"dev", Special{S_IFCHR | 0600, makedev(1, 3)}}}});
  EXPECT_EQ(fs.read("unmarked/f"), "") << "the directory does not say that there are whiteouts in it";
  EXPECT_EQ(fs.read("x/full"), "text") << "a whiteout is empty";
  EXPECT_TRUE(fs.has("dev"));
}

TEST(Lookup, AnObjectBesideItsDotWhiteoutCountsButMergesNothing) {
  OverlayFixture fs({.lower = {{"f", File{"low"}}, {"d/low", File{}}},
                     .upper = {{"f", File{"up"}}, {".wh.f", File{}}, {"d/up", File{}}, {".wh.d", File{}}}});
  EXPECT_EQ(fs.read("f"), "up");
  EXPECT_EQ(fs.names("d"), (Names{"up"}));
  EXPECT_FALSE(fs.has("d/low"));
  EXPECT_EQ(fs.names(), (Names{"f", "d"}));
}

TEST(Lookup, DotWhNamesAreNeverShown) {
  OverlayFixture fs({.lower = {{"a", File{}}}, .upper = {{".wh.a", File{}}, {"d/.wh..wh..opq", File{}}}});
  for (const char* name : {".wh.a", ".wh.none", ".wh."}) EXPECT_FALSE(fs.has(name)) << name;
  EXPECT_FALSE(fs.has("d/.wh..wh..opq"));
  EXPECT_EQ(fs.names("d"), Names{});
}

TEST(Lookup, OpaqueInTheMiddleHidesOnlyWhatIsBelowIt) {
  OverlayFixture fs({.lowers = {{{"d/1", File{}}}, {{"d", opaque()}, {"d/2", File{}}}, {{"d/3", File{}}}}});
  EXPECT_EQ(fs.names("d"), (Names{"1", "2"}));
  EXPECT_FALSE(fs.has("d/3"));
}

TEST(Lookup, AWhiteoutInTheMiddleEndsADirectory) {
  OverlayFixture fs({.lowers = {{{"d/1", File{}}}, {{"d", whiteout()}}, {{"d/3", File{}}}}});
  EXPECT_EQ(fs.names("d"), (Names{"1"}));
}

// Where a name leads may be said under user.* only where the daemon has no more rights than the layer's users.
Options user_marks() {
  Options options;
  options.user_xattr = true;
  return options;
}

TEST(Lookup, FollowsRedirects) {
  OverlayFixture fs({.lower = {{"old/a", File{"a"}}, {"deep/er/b", File{"b"}}},
                     .upper = {{"new", Dir{0755, {{"user.overlay.redirect", "old"}}}},
                               {"old", whiteout()},
                               {"far/away", Dir{0755, {{"user.overlay.redirect", "/deep/er"}}}}},
                     .options = user_marks()});
  EXPECT_EQ(fs.read("new/a"), "a");
  EXPECT_FALSE(fs.has("old"));
  EXPECT_EQ(fs.read("far/away/b"), "b");
  EXPECT_EQ(fs.names("far/away"), (Names{"b"}));
}

TEST(Lookup, RedirectsEndAtDotWhWhiteoutsOnTheWay) {
  const Dir moved{0755, {{"user.overlay.redirect", "/a/b"}}};
  for (const char* mark : {"a/.wh.b", ".wh.a", "a/.wh..wh..opq"}) {
    OverlayFixture fs({.lowers = {{{"a/other", File{}}, {mark, File{}}}, {{"a/b/hidden", File{}}}},
                       .upper = {{"d", moved}},
                       .options = user_marks()});
    EXPECT_FALSE(fs.has("d/hidden")) << mark;
  }
}

TEST(Lookup, RedirectsNeverLeaveTheLayer) {
  for (const char* target : {"/../../etc", "..", "../x", "/", "a/b", "/link", "/link/x", "."}) {
    OverlayFixture fs({.lower = {{"link", Symlink{"/etc"}}, {"x/in", File{}}},
                       .upper = {{"d", Dir{0755, {{"user.overlay.redirect", target}}}}},
                       .options = user_marks()});
    EXPECT_FALSE(fs.has("d/passwd")) << target;
    EXPECT_FALSE(fs.has("d/hostname")) << target;
  }
}

TEST(Lookup, NofollowIgnoresRedirects) {
  Spec spec{.lower = {{"old/a", File{"a"}}},
            .upper = {{"new", Dir{0755, {{"user.overlay.redirect", "/old"}}}}},
            .options = user_marks()};
  spec.options.redirect_dir = RedirectDir::kNofollow;
  OverlayFixture fs(spec);
  EXPECT_FALSE(fs.has("new/a"));
}

TEST(Lookup, MetacopyFilesShowTheDataBelow) {
  const File meta{std::string(4, '\0'), 0600, {{"user.overlay.metacopy", ""}}};
  File moved = meta;
  moved.xattrs.emplace_back("user.overlay.redirect", "/dir/data");
  OverlayFixture fs({.lower = {{"f", File{"data", 0644}}, {"dir/data", File{"text"}}},
                     .upper = {{"f", meta}, {"g", moved}, {"orphan", meta}},
                     .options = user_marks()});
  EXPECT_EQ(fs.read("f"), "data");
  EXPECT_EQ(fs.attr("f").mode & 07777, 0600U);
  EXPECT_EQ(fs.read("g"), "text");
  EXPECT_EQ(fs.look("orphan").error(), EIO);
  EXPECT_TRUE(fs.write("f", "DA", O_RDWR));
  EXPECT_EQ(fs.read("f"), "DAta");
  EXPECT_EQ(read_file(fs.upper("f")), "DAta");
  EXPECT_EQ(xattr_of(fs.upper("f"), "user.overlay.metacopy"), std::nullopt);
  EXPECT_EQ(read_file(fs.lower("f")), "data");
}

TEST(Lookup, RootBelievesNoRedirectThatAUserCouldHaveWritten) {
  if (!sys::privileges().sys_admin) GTEST_SKIP() << "about the first user namespace's root";
  const File theft{std::string(6, '\0'), 0644, {{"user.overlay.metacopy", ""}, {"user.overlay.redirect", "/secret/f"}}};
  OverlayFixture fs({.lower = {{"secret/f", File{"secret", 0600}}},
                     .upper = {{"home/f", theft}, {"home/d", Dir{0755, {{"user.overlay.redirect", "/secret"}}}}}});
  EXPECT_EQ(fs.read("home/f"), std::string(6, '\0'));
  EXPECT_FALSE(fs.has("home/d/f"));
}

TEST(Lookup, HardLinksAreOneNode) {
  OverlayFixture fs({.lower = {{"a", File{"x"}}, {"d/b", HardLink{"a"}}}});
  EXPECT_EQ(fs.node("a"), fs.node("d/b"));
  EXPECT_EQ(fs.attr("a").nlink, 2U);
}

TEST(Lookup, InodeNumbersAgreeBetweenStatAndReaddir) {
  OverlayFixture fs({.lower = {{"a", File{"x"}}, {"d/b", File{}}, {"l", Symlink{"a"}}}, .upper = {{"d/c", File{}}}});
  for (const char* dir : {"", "d"}) {
    for (const auto& [name, seen] : fs.list(dir)) {
      if (name == "." || name == "..") continue;
      const std::string path = (*dir != '\0' ? "d/" : "") + name;
      EXPECT_EQ(seen.ino, fs.attr(path).ino) << path;
      EXPECT_EQ(seen.type, fs.attr(path).mode >> 12) << path;
    }
  }
  EXPECT_EQ(fs.list("d").at("..").ino, fs.attr("").ino);
}

TEST(Lookup, ManyLayers) {
  Spec spec;
  for (int layer = 0; layer < 60; ++layer) spec.lowers.push_back({{"d/" + std::to_string(layer), File{}}});
  OverlayFixture fs(spec);
  EXPECT_EQ(fs.names("d").size(), 60U);
  EXPECT_TRUE(fs.has("d/59"));
  EXPECT_FALSE(fs.has("d/60"));
}

TEST(Lookup, ForgettingAllLeavesTheRoot) {
  OverlayFixture fs({.lower = {{"a/b/c", File{}}, {"a/d", File{}}}, .upper = {{"x/y", File{}}}});
  EXPECT_NE(fs.whole_tree(), "");
  EXPECT_GT(fs.engine().stats().nodes, 4U);
  fs.forget_all();
  EXPECT_EQ(fs.engine().stats().nodes, 1U);
  EXPECT_EQ(fs.engine().stats().open_handles, 0U);
}

TEST(Lookup, WithoutUpperNothingChanges) {
  for (bool wire : {false, true}) {
    OverlayFixture fs({.lower = {{"f", File{"text"}}, {"d/g", File{}}}, .read_only = true, .through_wire = wire});
    EXPECT_EQ(fs.read("f"), "text");
    EXPECT_EQ(fs.create("new").error(), EROFS);
    EXPECT_EQ(fs.mkdir("new").error(), EROFS);
    EXPECT_EQ(fs.symlink("x", "new").error(), EROFS);
    EXPECT_EQ(fs.link("f", "new").error(), EROFS);
    EXPECT_EQ(fs.unlink("f").error(), EROFS);
    EXPECT_EQ(fs.rmdir("d").error(), EROFS);
    EXPECT_EQ(fs.rename("f", "g").error(), EROFS);
    EXPECT_EQ(fs.set("f", {.mode = 0600}).error(), EROFS);
    EXPECT_EQ(fs.open("f", O_RDWR).error(), EROFS);
    EXPECT_EQ(fs.open("f", O_RDONLY | O_TRUNC).error(), EROFS);
    EXPECT_EQ(fs.fs().setxattr(fs.caller, fs.node("f"), "user.a", {}, {}).error(), EROFS);
    EXPECT_EQ(fs.fs().removexattr(fs.caller, fs.node("f"), "user.a").error(), EROFS);
    EXPECT_EQ(fs.whole_tree(), "d/\nd/g=\nf=text\n");
  }
}

}  // namespace
}  // namespace vellum::overlay::testing
