// Every style in which a layer can hide names of the layers below it, read and written.
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr const char* kDotWhIsNotTheKernels = "kernel overlayfs knows no .wh. files";
constexpr const char* kOneNamespace =
    "kernel overlayfs reads its xattrs in one namespace only: trusted. or, with userxattr, user.";

// Below: names hidden in the topmost lower layer, with the same names present beneath.
const Tree kBeneath{
    {"gone", File{"old"}}, {"kept", File{"k"}}, {"d/gone", File{}}, {"d/kept", File{}}, {"e/f", File{}}};

TEST(WhiteoutRead, CharacterDeviceHidesFileAndDirectory) {
  OverlayFixture fs({.lowers = {{{"gone", Whiteout{}}, {"e", Whiteout{}}}, kBeneath}});
  EXPECT_EQ(names_in(fs.root()), (Names{"d", "kept"}));
  EXPECT_EQ(read_file(fs / "gone"), "<ENOENT>");
  EXPECT_EQ(read_file(fs / "e/f"), "<ENOENT>");
}

TEST(WhiteoutRead, CharacterDeviceInUpper) {
  OverlayFixture fs({.lower = kBeneath, .upper = {{"gone", Whiteout{}}, {"d/gone", Whiteout{}}}});
  EXPECT_EQ(names_in(fs.root()), (Names{"d", "e", "kept"}));
  EXPECT_EQ(names_in(fs / "d"), (Names{"kept"}));
}

TEST(WhiteoutRead, WithNothingBeneathShowsNothing) {
  OverlayFixture fs({.lower = {{"w", Whiteout{}}, {"d/w", Whiteout{}}}});
  EXPECT_EQ(names_in(fs.root()), (Names{"d"}));
  EXPECT_FALSE(exists(fs / "w"));
  EXPECT_FALSE(exists(fs / "d/w"));
  NOT_ON(kAnyKernel,
         "kernel overlayfs lists a whiteout of a directory that only one layer has, though stat gives ENOENT");
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
}

TEST(WhiteoutRead, OnlyHidesLayersBeneathIt) {
  OverlayFixture fs({.lowers = {{{"f", File{"top"}}}, {{"f", Whiteout{}}}, {{"f", File{"bottom"}}}}});
  EXPECT_EQ(read_file(fs / "f"), "top");
}

TEST(WhiteoutRead, DotWhFileHidesItsName) {
  NOT_ON(kAnyKernel, kDotWhIsNotTheKernels);
  OverlayFixture fs({.lowers = {{{".wh.gone", File{}}, {"d/.wh.gone", File{}}, {".wh.e", File{}}}, kBeneath}});
  EXPECT_EQ(names_in(fs.root()), (Names{"d", "kept"}));
  EXPECT_EQ(names_in(fs / "d"), (Names{"kept"}));
  EXPECT_FALSE(exists(fs / "gone"));
  EXPECT_FALSE(exists(fs / ".wh.gone"));
}

TEST(WhiteoutRead, DotWhFileDoesNotHideTheNameInItsOwnLayer) {
  OverlayFixture fs({.lowers = {{{".wh.gone", File{}}, {"gone", File{"own"}}}, kBeneath}});
  EXPECT_EQ(read_file(fs / "gone"), "own");
}

TEST(WhiteoutRead, DotWhDotWhOpqMakesADirectoryOpaque) {
  NOT_ON(kAnyKernel, kDotWhIsNotTheKernels);
  OverlayFixture fs({.lowers = {{{"d/.wh..wh..opq", File{}}, {"d/new", File{}}}, kBeneath}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"new"}));
  EXPECT_FALSE(exists(fs / "d/kept"));
  EXPECT_FALSE(exists(fs / "d/.wh..wh..opq"));
}

TEST(WhiteoutRead, XattrWhiteoutInADirectoryMarkedX) {
  Xattrs whiteout{{overlay_xattr("whiteout"), ""}};
  OverlayFixture fs(
      {.lowers = {{{"d", Dir{.xattrs = {{overlay_xattr("opaque"), "x"}}}}, {"d/gone", File{.xattrs = whiteout}}},
                  kBeneath}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"kept"}));
  EXPECT_FALSE(exists(fs / "d/gone"));
  EXPECT_TRUE(exists(fs / "d/kept"));
}

TEST(WhiteoutRead, UserNamespaceXattrWhiteoutIsReadByRootToo) {
  NOT_ON(kKernel, kOneNamespace);
  OverlayFixture fs({.lowers = {{{"d", Dir{.xattrs = {{"user.overlay.opaque", "x"}}}},
                                 {"d/gone", File{.xattrs = {{"user.overlay.whiteout", ""}}}}},
                                kBeneath}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"kept"}));
}

class OpaqueMark : public ::testing::TestWithParam<const char*> {};

TEST_P(OpaqueMark, HidesWhatLiesBeneath) {
  std::string name = GetParam();
  if (name != overlay_xattr("opaque")) NOT_ON(kAnyKernel, kOneNamespace);
  if (name.starts_with("trusted.")) {
    NOT_ON(kUnprivileged, "trusted. xattrs cannot be read without CAP_SYS_ADMIN in the first user namespace");
  }
  OverlayFixture fs({.lowers = {{{"d", Dir{.xattrs = {{name, "y"}}}}, {"d/new", File{}}}, kBeneath}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"new"}));
  EXPECT_FALSE(exists(fs / "d/kept"));
  EXPECT_EQ(list_xattrs(fs / "d"), (Names{}));
}

INSTANTIATE_TEST_SUITE_P(WhiteoutRead, OpaqueMark,
                         ::testing::Values("trusted.overlay.opaque", "user.overlay.opaque",
                                           "user.fuseoverlayfs.opaque"));

TEST(WhiteoutRead, OpaqueDirectoryInUpper) {
  OverlayFixture fs({.lower = kBeneath, .upper = {{"d", opaque_dir()}, {"d/new", File{}}}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"new"}));
}

TEST(WhiteoutRead, OpaqueMarkOtherThanYIsNone) {
  OverlayFixture fs({.lower = kBeneath, .upper = {{"d", Dir{.xattrs = {{overlay_xattr("opaque"), "n"}}}}}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"gone", "kept"}));
}

// ---- written ----

TEST(WhiteoutWrite, UnlinkOfALowerFileLeavesAWhiteout) {
  OverlayFixture fs({.lower = kBeneath});
  EXPECT_OK(::unlink((fs / "d/gone").c_str()));
  EXPECT_FALSE(exists(fs / "d/gone"));
  EXPECT_TRUE(is_whiteout(fs.upper("d"), "gone"));
  EXPECT_EQ(names_in(fs / "d"), (Names{"kept"}));
  fs.remount();
  EXPECT_EQ(names_in(fs / "d"), (Names{"kept"}));
}

TEST(WhiteoutWrite, UnlinkOfAnUpperOnlyFileLeavesNothing) {
  OverlayFixture fs({.lower = kBeneath, .upper = {{"d/mine", File{}}}});
  EXPECT_OK(::unlink((fs / "d/mine").c_str()));
  EXPECT_EQ(names_in(fs.upper("d")), (Names{}));
}

TEST(WhiteoutWrite, UnlinkOfAnUpperFileOverALowerOneLeavesAWhiteout) {
  OverlayFixture fs({.lower = kBeneath, .upper = {{"d/gone", File{"up"}}}});
  EXPECT_OK(::unlink((fs / "d/gone").c_str()));
  EXPECT_TRUE(is_whiteout(fs.upper("d"), "gone"));
  EXPECT_FALSE(exists(fs / "d/gone"));
}

TEST(WhiteoutWrite, NoneForANameThatIsAlreadyHiddenBelow) {
  OverlayFixture fs({.lowers = {{{"d/gone", Whiteout{}}}, kBeneath}});
  EXPECT_OK(create_file(fs / "d/gone", "again"));
  EXPECT_OK(::unlink((fs / "d/gone").c_str()));
  EXPECT_FALSE(exists(fs / "d/gone"));
  EXPECT_FALSE(is_whiteout(fs.upper("d"), "gone"));
}

TEST(WhiteoutWrite, NoneInsideAnOpaqueDirectory) {
  OverlayFixture fs({.lower = kBeneath, .upper = {{"d", opaque_dir()}}});
  EXPECT_OK(create_file(fs / "d/gone", ""));
  EXPECT_OK(::unlink((fs / "d/gone").c_str()));
  EXPECT_EQ(names_in(fs.upper("d")), (Names{}));
}

TEST(WhiteoutWrite, CreateOverAWhiteoutReplacesIt) {
  OverlayFixture fs({.lower = kBeneath, .upper = {{"gone", Whiteout{}}}});
  EXPECT_OK(create_file(fs / "gone", "new"));
  EXPECT_EQ(read_file(fs / "gone"), "new");
  EXPECT_FALSE(is_whiteout(fs.upper(), "gone"));
  EXPECT_EQ(read_file(fs.upper("gone")), "new");
  fs.remount();
  EXPECT_EQ(read_file(fs / "gone"), "new");
}

TEST(WhiteoutWrite, EveryKindOfEntryReplacesAWhiteout) {
  OverlayFixture fs(
      {.lower = {{"dir/x", File{}}, {"link", File{}}, {"fifo", File{}}, {"hard", File{}}, {"src", File{"s"}}},
       .upper = {{"dir", Whiteout{}}, {"link", Whiteout{}}, {"fifo", Whiteout{}}, {"hard", Whiteout{}}}});
  EXPECT_OK(::mkdir((fs / "dir").c_str(), 0755));
  EXPECT_OK(::symlink("t", (fs / "link").c_str()));
  EXPECT_OK(::mkfifo((fs / "fifo").c_str(), 0644));
  EXPECT_OK(::link((fs / "src").c_str(), (fs / "hard").c_str()));
  EXPECT_EQ(names_in(fs / "dir"), (Names{}));
  EXPECT_EQ(link_target(fs / "link"), "t");
  EXPECT_TRUE(S_ISFIFO(lstat_of(fs / "fifo").st_mode));
  EXPECT_EQ(read_file(fs / "hard"), "s");
  fs.remount();
  EXPECT_EQ(names_in(fs / "dir"), (Names{}));
  EXPECT_EQ(read_file(fs / "hard"), "s");
}

TEST(WhiteoutWrite, DirectoryMadeOverAWhiteoutIsOpaque) {
  OverlayFixture fs({.lower = kBeneath});
  EXPECT_OK(::unlink((fs / "e/f").c_str()));
  EXPECT_OK(::rmdir((fs / "e").c_str()));
  EXPECT_OK(::mkdir((fs / "e").c_str(), 0755));
  EXPECT_TRUE(is_opaque(fs.upper("e")));
  EXPECT_EQ(names_in(fs / "e"), (Names{}));
}

TEST(WhiteoutWrite, RemovedAndRemadeDirectoryStaysEmptyAfterRemountAndUnderTheKernel) {
  OverlayFixture fs({.lower = {{"d/a", File{}}, {"d/sub/b", File{}}, {"d/sub/sub/c", File{}}}});
  EXPECT_EQ(run("rm -rf '" + (fs / "d") + "'").status, 0);
  EXPECT_FALSE(exists(fs / "d"));
  EXPECT_OK(::mkdir((fs / "d").c_str(), 0755));
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
  fs.remount();
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
  NOT_ON(kVellumUser, "a plain user cannot mount kernel overlayfs without a user namespace");
  fs.remount_on_kernel();
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
}

TEST(WhiteoutWrite, RmdirOfADirectoryWhoseNamesAreAllHiddenLeavesOneWhiteout) {
  OverlayFixture fs({.lower = {{"d/a", File{}}, {"d/b", File{}}}, .upper = {{"d/a", Whiteout{}}, {"d/b", Whiteout{}}}});
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
  EXPECT_OK(::rmdir((fs / "d").c_str()));
  EXPECT_FALSE(exists(fs / "d"));
  EXPECT_TRUE(is_whiteout(fs.upper(), "d"));
  EXPECT_EQ(names_in(fs.upper()).size(), 1u);
}

TEST(WhiteoutWrite, WhiteoutsAreNeverShownOrReachable) {
  OverlayFixture fs({.lower = kBeneath});
  EXPECT_OK(::unlink((fs / "gone").c_str()));
  EXPECT_EQ(names_in(fs.root()), (Names{"d", "e", "kept"}));
  EXPECT_ERRNO(::unlink((fs / "gone").c_str()), ENOENT);
  EXPECT_ERRNO(::chmod((fs / "gone").c_str(), 0600), ENOENT);
  EXPECT_ERRNO(::rename((fs / "gone").c_str(), (fs / "x").c_str()), ENOENT);
  EXPECT_ERRNO(::link((fs / "gone").c_str(), (fs / "x").c_str()), ENOENT);
}

TEST(WhiteoutWrite, DotWhFilesWhenTheEnvironmentAsksForThem) {
  NOT_ON(kAnyKernel, kDotWhIsNotTheKernels);
  ::setenv("FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT", "1", 1);
  OverlayFixture fs({.lower = kBeneath});
  ::unsetenv("FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT");
  EXPECT_OK(::unlink((fs / "gone").c_str()));
  EXPECT_TRUE(exists(fs.upper(".wh.gone")));
  EXPECT_FALSE(exists(fs.upper("gone")));
  EXPECT_EQ(names_in(fs.root()), (Names{"d", "e", "kept"}));
  EXPECT_OK(create_file(fs / "gone", "back"));
  EXPECT_FALSE(exists(fs.upper(".wh.gone")));
  EXPECT_EQ(run("rm -r '" + (fs / "d") + "'").status, 0);
  EXPECT_OK(::mkdir((fs / "d").c_str(), 0755));
  fs.remount();
  EXPECT_EQ(read_file(fs / "gone"), "back");
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
}

TEST(WhiteoutWrite, LayersTurnedLowerKeepTheirMeaning) {
  OverlayFixture first({.lower = kBeneath});
  EXPECT_OK(::unlink((first / "gone").c_str()));
  EXPECT_EQ(run("rm -r '" + (first / "d") + "'").status, 0);
  EXPECT_OK(::mkdir((first / "d").c_str(), 0755));
  EXPECT_OK(create_file(first / "d/new", "n"));
  auto expected = snapshot(first.root());
  first.unmount();
  // The upper of the first becomes the topmost lower of the second.
  OverlayFixture second({.lowers = {{}, {}}});
  second.unmount();
  ASSERT_EQ(run("cp -a '" + first.upper() + "/.' '" + second.lower("", 0) + "/' && cp -a '" + first.lower() + "/.' '" +
                second.lower("", 1) + "/'")
                .output,
            "");
  second.mount();
  EXPECT_EQ(snapshot(second.root()), expected);
  first.mount();
}

TEST(OverlayXattrs, AreHiddenFromCallers) {
  OverlayFixture fs({.lower = kBeneath, .upper = {{"d", opaque_dir()}}});
  EXPECT_EQ(list_xattrs(fs / "d"), (Names{}));
  EXPECT_EQ(get_xattr(fs / "d", overlay_xattr("opaque")), "<ENODATA>");
}

TEST(OverlayXattrs, CallersOwnAreStoredEscapedAndInvisibleToTheMerge) {
  OverlayFixture fs({.lower = kBeneath});
  std::string name = overlay_xattr("opaque");
  EXPECT_OK(set_xattr(fs / "d", name, "y"));
  EXPECT_EQ(get_xattr(fs / "d", name), "y");
  EXPECT_EQ(list_xattrs(fs / "d"), (Names{name}));
  EXPECT_EQ(names_in(fs / "d"), (Names{"gone", "kept"}));
  std::string escaped = overlay_xattr("overlay.opaque");
  EXPECT_EQ(get_xattr(fs.upper("d"), escaped), "y");
  EXPECT_EQ(get_xattr(fs.upper("d"), name), "<ENODATA>");
  fs.remount();
  EXPECT_EQ(get_xattr(fs / "d", name), "y");
  EXPECT_EQ(names_in(fs / "d"), (Names{"gone", "kept"}));
  EXPECT_OK(::removexattr((fs / "d").c_str(), name.c_str()));
  EXPECT_EQ(get_xattr(fs / "d", name), "<ENODATA>");
}

TEST(OverlayXattrs, EscapeTwiceForNestedOverlays) {
  OverlayFixture fs({.lower = kBeneath});
  std::string name = overlay_xattr("overlay.whiteout");
  EXPECT_OK(set_xattr(fs / "kept", name, "v"));
  EXPECT_EQ(get_xattr(fs.upper("kept"), overlay_xattr("overlay.overlay.whiteout")), "v");
  EXPECT_EQ(list_xattrs(fs / "kept"), (Names{name}));
}

}  // namespace
}  // namespace vellum::test
