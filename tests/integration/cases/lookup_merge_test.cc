// What a lookup finds and a listing shows when layers are laid over each other.
#include <fcntl.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

TEST(Lookup, FindsLowerAndUpperFiles) {
  OverlayFixture fs({.lower = {{"d/low", File{"l"}}}, .upper = {{"d/up", File{"u"}}}});
  EXPECT_EQ(read_file(fs / "d/low"), "l");
  EXPECT_EQ(read_file(fs / "d/up"), "u");
  EXPECT_EQ(names_in(fs / "d"), (Names{"low", "up"}));
}

TEST(Lookup, UpperFileHidesLowerFile) {
  OverlayFixture fs({.lower = {{"f", File{"lower"}}}, .upper = {{"f", File{"upper"}}}});
  EXPECT_EQ(read_file(fs / "f"), "upper");
  EXPECT_EQ(names_in(fs.root()), (Names{"f"}));
}

TEST(Lookup, TopmostOfSeveralLowersWins) {
  OverlayFixture fs({.lowers = {{{"f", File{"0"}}, {"d/a", File{}}},
                                {{"f", File{"1"}}, {"g", File{"1"}}, {"d/b", File{}}},
                                {{"f", File{"2"}}, {"g", File{"2"}}, {"h", File{"2"}}, {"d/c", File{}}}}});
  EXPECT_EQ(read_file(fs / "f"), "0");
  EXPECT_EQ(read_file(fs / "g"), "1");
  EXPECT_EQ(read_file(fs / "h"), "2");
  EXPECT_EQ(names_in(fs / "d"), (Names{"a", "b", "c"}));
}

TEST(Lookup, MissingNameIsEnoent) {
  OverlayFixture fs({.lower = {{"d/f", File{}}}});
  EXPECT_EQ(read_file(fs / "d/none"), "<ENOENT>");
  EXPECT_EQ(read_file(fs / "none/f"), "<ENOENT>");
  EXPECT_EQ(read_file(fs / "d/f/x"), "<ENOTDIR>");
}

TEST(Lookup, MissingNameAppearsOnceItIsCreated) {
  OverlayFixture fs({.lower = {{"d/f", File{}}}});
  EXPECT_FALSE(exists(fs / "d/new"));
  EXPECT_OK(create_file(fs / "d/new", "n"));
  EXPECT_EQ(read_file(fs / "d/new"), "n");
}

TEST(Lookup, FileOverDirectoryHidesIt) {
  OverlayFixture fs({.lower = {{"x/below", File{}}}, .upper = {{"x", File{"file"}}}});
  EXPECT_EQ(read_file(fs / "x"), "file");
  EXPECT_EQ(read_file(fs / "x/below"), "<ENOTDIR>");
}

TEST(Lookup, DirectoryOverFileHidesIt) {
  OverlayFixture fs({.lower = {{"x", File{"file"}}}, .upper = {{"x/above", File{"a"}}}});
  EXPECT_EQ(names_in(fs / "x"), (Names{"above"}));
}

TEST(Lookup, FileInTheMiddleStopsTheMerge) {
  OverlayFixture fs({.lowers = {{{"x/top", File{}}}, {{"x", File{"middle"}}}, {{"x/bottom", File{}}}}});
  EXPECT_EQ(names_in(fs / "x"), (Names{"top"}));
  EXPECT_FALSE(exists(fs / "x/bottom"));
}

TEST(Lookup, SymlinkOverDirectoryAndTheReverseAreMergedByType) {
  OverlayFixture fs({.lower = {{"a/low", File{"low"}}, {"b", Symlink{"/etc"}}, {"t/f", File{"t"}}},
                     .upper = {{"a", Symlink{"t"}}, {"b/up", File{"up"}}}});
  EXPECT_EQ(link_target(fs / "a"), "t");
  EXPECT_EQ(names_in(fs / "a/"), (Names{"f"}));
  EXPECT_EQ(names_in(fs / "b"), (Names{"up"}));
}

TEST(Lookup, DirectoryAttributesComeFromTheTopmost) {
  OverlayFixture fs({.lowers = {{{"d", Dir{0700}}}, {{"d", Dir{0755}}, {"d/f", File{}}}}});
  EXPECT_EQ(octal(mode_of(fs / "d")), "0700");
}

TEST(Lookup, EmptyDirectoryInUpperStillShowsLowerNames) {
  OverlayFixture fs({.lower = {{"d/f", File{"f"}}}, .upper = {{"d", Dir{}}}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"f"}));
}

TEST(Lookup, OneListingOf128LayersWithAnOpaqueOneInTheMiddle) {
  std::vector<Tree> layers;
  for (int i = 0; i < 128; ++i) {
    std::string name = "d/n" + std::to_string(i);
    layers.push_back({{"d/same", File{std::to_string(i)}}, {name, File{name}}, {"e/" + name.substr(2), File{}}});
  }
  layers[63].emplace_back("d", opaque_dir());
  OverlayFixture fs({.lowers = layers});
  EXPECT_EQ(read_file(fs / "d/same"), "0");
  EXPECT_EQ(names_in(fs / "d").size(), 65u);  // n0 … n63 and same
  EXPECT_EQ(names_in(fs / "e").size(), 128u);
  EXPECT_EQ(read_file(fs / "d/n63"), "d/n63");
  EXPECT_FALSE(exists(fs / "d/n64"));
}

TEST(Lookup, Mounts500LowerLayers) {
  std::vector<Tree> layers;
  for (int i = 0; i < 500; ++i) layers.push_back({{"n" + std::to_string(i), File{std::to_string(i)}}});
  OverlayFixture fs({.lowers = layers});
  EXPECT_EQ(names_in(fs.root()).size(), 500u);
  EXPECT_EQ(read_file(fs / "n0"), "0");
  EXPECT_EQ(read_file(fs / "n499"), "499");
  EXPECT_OK(append_file(fs / "n499", "+"));
  EXPECT_EQ(read_file(fs.upper("n499")), "499+");
}

TEST(Symlinks, PointWhereTheCallerStandsNotIntoTheLayer) {
  OverlayFixture fs({.lower = {{"abs", Symlink{"/proc/self/comm"}},
                               {"out", Symlink{"../../outside"}},
                               {"circle", Symlink{"circle"}},
                               {"d/up", Symlink{"../f"}},
                               {"f", File{"inside"}}}});
  EXPECT_NE(read_file(fs / "abs"), "<ENOENT>");
  EXPECT_EQ(read_file(fs / "out"), "<ENOENT>");
  EXPECT_EQ(read_file(fs / "circle"), "<ELOOP>");
  EXPECT_EQ(read_file(fs / "d/up"), "inside");
  EXPECT_EQ(link_target(fs / "out"), "../../outside");
}

TEST(Symlinks, UpperDirectoryWhereALowerSymlinkLeadsOutStaysInTheLayer) {
  OverlayFixture fs({.lower = {{"d", Symlink{"/etc"}}}, .upper = {{"d/mine", File{"m"}}}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"mine"}));
  EXPECT_FALSE(exists(fs / "d/passwd"));
  EXPECT_OK(create_file(fs / "d/new", "n"));
  EXPECT_EQ(read_file(fs.upper("d/new")), "n");
}

TEST(Symlinks, AncestorSymlinkInALowerLayerIsNotFollowedByTheMerge) {
  // layer 1's `d` leads to `real`: names of `real` must not show in `d`.
  OverlayFixture fs({.lowers = {{{"d/a", File{}}}, {{"d", Symlink{"real"}}, {"real/b", File{}}}}});
  EXPECT_EQ(names_in(fs / "d"), (Names{"a"}));
  EXPECT_FALSE(exists(fs / "d/b"));
}

TEST(Symlinks, KeepTargetsOf4095Bytes) {
  std::string target(4095, 'x');
  OverlayFixture fs({.lower = {{"f", File{}}}});
  EXPECT_OK(::symlink(target.c_str(), (fs / "long").c_str()));
  EXPECT_EQ(link_target(fs / "long"), target);
  EXPECT_EQ(lstat_of(fs / "long").st_size, 4095);
  fs.remount();
  EXPECT_EQ(link_target(fs / "long"), target);
}

TEST(Symlinks, LowerTargetsOf4095BytesAreReadAndCopiedUp) {
  std::string target(4095, 'y');
  OverlayFixture fs({.lower = {{"long", Symlink{target}}}});
  EXPECT_EQ(link_target(fs / "long"), target);
  EXPECT_OK(set_times(fs / "long", {1, 2}));
  EXPECT_EQ(link_target(fs.upper("long")), target);
}

TEST(ReadOnlyMount, WithoutUpperShowsTheMergeAndRefusesEveryChange) {
  OverlayFixture fs({.lowers = {{{"d/a", File{"a"}}}, {{"d/b", File{"b"}}, {"l", Symlink{"d"}}}}, .read_only = true});
  EXPECT_EQ(names_in(fs / "d"), (Names{"a", "b"}));
  EXPECT_EQ(read_file(fs / "d/b"), "b");
  EXPECT_ERRNO(create_file(fs / "d/new", ""), EROFS);
  EXPECT_ERRNO(append_file(fs / "d/a", "x"), EROFS);
  EXPECT_ERRNO(::unlink((fs / "d/a").c_str()), EROFS);
  EXPECT_ERRNO(::mkdir((fs / "e").c_str(), 0755), EROFS);
  EXPECT_ERRNO(::rename((fs / "d/a").c_str(), (fs / "d/c").c_str()), EROFS);
  EXPECT_ERRNO(::chmod((fs / "d/a").c_str(), 0600), EROFS);
  EXPECT_ERRNO(::truncate((fs / "d/a").c_str(), 0), EROFS);
  EXPECT_ERRNO(set_xattr(fs / "d/a", "user.x", "1"), EROFS);
  EXPECT_ERRNO(::symlink("x", (fs / "s").c_str()), EROFS);
  EXPECT_ERRNO(::link((fs / "d/a").c_str(), (fs / "h").c_str()), EROFS);
}

TEST(ReadOnlyMount, WhiteoutsAndOpaqueMarkersOfLowersHold) {
  OverlayFixture fs({.lowers = {{{"gone", Whiteout{}}, {"d", opaque_dir()}, {"d/new", File{}}},
                                {{"gone", File{}}, {"kept", File{}}, {"d/old", File{}}}},
                     .read_only = true});
  EXPECT_EQ(names_in(fs.root()), (Names{"d", "kept"}));
  EXPECT_EQ(names_in(fs / "d"), (Names{"new"}));
}

}  // namespace
}  // namespace vellum::test
