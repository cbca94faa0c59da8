// rename(2) and renameat2(2) in every combination of layers.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

int move(const OverlayFixture& fs, const std::string& from, const std::string& to, unsigned flags = 0) {
  return ::renameat2(AT_FDCWD, (fs / from).c_str(), AT_FDCWD, (fs / to).c_str(), flags);
}

// Where source and target of a rename lie.
enum class In { kNowhere, kLower, kUpper, kBoth, kWhitedOut };
std::string word(In in) {
  switch (in) {
    case In::kNowhere: return "Nothing";
    case In::kLower: return "Lower";
    case In::kUpper: return "Upper";
    case In::kBoth: return "Both";
    case In::kWhitedOut: return "WhitedOut";
  }
  return "";
}
void place(OverlaySpec& spec, const std::string& name, const std::string& content, In in) {
  if (in == In::kLower || in == In::kBoth || in == In::kWhitedOut) {
    spec.lower.emplace_back(name, File{in == In::kLower ? content : "hidden"});
  }
  if (in == In::kUpper || in == In::kBoth) spec.upper.emplace_back(name, File{content});
  if (in == In::kWhitedOut) spec.upper.emplace_back(name, Whiteout{});
}

struct Layout {
  In source, target;
};
class RenameFile : public ::testing::TestWithParam<Layout> {
 protected:
  static OverlaySpec spec() {
    OverlaySpec spec{.lower = {{"d/keep", File{}}}};
    place(spec, "d/src", "source", GetParam().source);
    place(spec, "d/dst", "target", GetParam().target);
    return spec;
  }
  static bool target_shows() { return GetParam().target != In::kNowhere && GetParam().target != In::kWhitedOut; }
  static bool lower_has_source() { return GetParam().source != In::kUpper; }
};
std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (In source : {In::kLower, In::kUpper, In::kBoth}) {
    for (In target : {In::kNowhere, In::kLower, In::kUpper, In::kBoth, In::kWhitedOut}) all.push_back({source, target});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Rename, RenameFile, ::testing::ValuesIn(layouts()), [](const auto& param) {
  return word(param.param.source) + "Onto" + word(param.param.target);
});

TEST_P(RenameFile, MovesContentAndHidesTheSource) {
  OverlayFixture fs(spec());
  EXPECT_OK(move(fs, "d/src", "d/dst"));
  EXPECT_EQ(read_file(fs / "d/dst"), "source");
  EXPECT_EQ(names_in(fs / "d"), (Names{"dst", "keep"}));
  EXPECT_EQ(is_whiteout(fs.upper("d"), "src"), lower_has_source());
  EXPECT_FALSE(is_whiteout(fs.upper("d"), "dst"));
  fs.remount();
  EXPECT_EQ(read_file(fs / "d/dst"), "source");
  EXPECT_EQ(names_in(fs / "d"), (Names{"dst", "keep"}));
}

TEST_P(RenameFile, NoreplaceRefusesWhatShows) {
  OverlayFixture fs(spec());
  if (target_shows()) {
    EXPECT_ERRNO(move(fs, "d/src", "d/dst", RENAME_NOREPLACE), EEXIST);
    EXPECT_EQ(read_file(fs / "d/dst"), "target");
    EXPECT_EQ(read_file(fs / "d/src"), "source");
  } else {
    EXPECT_OK(move(fs, "d/src", "d/dst", RENAME_NOREPLACE));
    EXPECT_EQ(read_file(fs / "d/dst"), "source");
    EXPECT_FALSE(exists(fs / "d/src"));
  }
}

TEST_P(RenameFile, ExchangeSwaps) {
  OverlayFixture fs(spec());
  if (!target_shows()) {
    EXPECT_ERRNO(move(fs, "d/src", "d/dst", RENAME_EXCHANGE), ENOENT);
    EXPECT_EQ(read_file(fs / "d/src"), "source");
    return;
  }
  EXPECT_OK(move(fs, "d/src", "d/dst", RENAME_EXCHANGE));
  EXPECT_EQ(read_file(fs / "d/dst"), "source");
  EXPECT_EQ(read_file(fs / "d/src"), "target");
  fs.remount();
  EXPECT_EQ(read_file(fs / "d/dst"), "source");
  EXPECT_EQ(read_file(fs / "d/src"), "target");
  EXPECT_EQ(names_in(fs / "d"), (Names{"dst", "keep", "src"}));
}

TEST(Rename, UpperOnlyFileLeavesNoWhiteout) {
  OverlayFixture fs({.lower = {{"d/f", File{"old"}}}});
  EXPECT_OK(create_file(fs / "d/.f.tmp", "new"));
  EXPECT_OK(move(fs, "d/.f.tmp", "d/f"));
  EXPECT_EQ(names_in(fs.upper("d")), (Names{"f"}));
  EXPECT_EQ(read_file(fs.upper("d/f")), "new");
}

TEST(Rename, AcrossDirectories) {
  OverlayFixture fs({.lower = {{"a/f", File{"x"}}, {"b/g", File{"y"}}}});
  EXPECT_OK(move(fs, "a/f", "b/f"));
  EXPECT_EQ(names_in(fs / "a"), (Names{}));
  EXPECT_EQ(names_in(fs / "b"), (Names{"f", "g"}));
  EXPECT_OK(move(fs, "b/g", "a/f"));
  EXPECT_EQ(read_file(fs / "a/f"), "y");
  fs.remount();
  EXPECT_EQ(names_in(fs / "b"), (Names{"f"}));
}

TEST(Rename, EveryOtherKind) {
  OverlayFixture fs({.lower = {{"l", Symlink{"t"}}, {"p", Fifo{}}, {"s", Socket{}}}});
  EXPECT_OK(move(fs, "l", "l2"));
  EXPECT_OK(move(fs, "p", "p2"));
  EXPECT_OK(move(fs, "s", "s2"));
  EXPECT_EQ(link_target(fs / "l2"), "t");
  EXPECT_TRUE(S_ISFIFO(lstat_of(fs / "p2").st_mode));
  EXPECT_TRUE(S_ISSOCK(lstat_of(fs / "s2").st_mode));
  EXPECT_EQ(names_in(fs.root()), (Names{"l2", "p2", "s2"}));
}

TEST(Rename, OntoItselfAndOntoAHardLinkOfItselfDoesNothing) {
  OverlayFixture fs({.upper = {{"a", File{"x"}}, {"b", HardLink{"a"}}}});
  EXPECT_OK(move(fs, "a", "a"));
  EXPECT_OK(move(fs, "a", "b"));
  EXPECT_EQ(names_in(fs.root()), (Names{"a", "b"}));
}

TEST(Rename, WrongKindsGetTheirErrnos) {
  OverlayFixture fs({.lower = {{"f", File{}}}, .upper = {{"d/x", File{}}, {"e", Dir{}}}});
  EXPECT_ERRNO(move(fs, "f", "e"), EISDIR);
  EXPECT_ERRNO(move(fs, "e", "f"), ENOTDIR);
  EXPECT_ERRNO(move(fs, "e", "d"), ENOTEMPTY);
  EXPECT_ERRNO(move(fs, "none", "x"), ENOENT);
  EXPECT_ERRNO(move(fs, "d", "d/sub"), EINVAL);
  EXPECT_ERRNO(move(fs, "f", "none/f"), ENOENT);
}

TEST(RenameDir, UpperOnlyMovesInPlace) {
  OverlayFixture fs({.lower = {{"other", File{}}}, .upper = {{"d/a", File{"a"}}, {"d/s/b", File{"b"}}}});
  ino_t ino = ino_of(fs / "d/s/b");
  EXPECT_OK(move(fs, "d", "moved"));
  EXPECT_EQ(read_file(fs / "moved/s/b"), "b");
  EXPECT_EQ(ino_of(fs / "moved/s/b"), ino);
  EXPECT_EQ(names_in(fs.root()), (Names{"moved", "other"}));
  EXPECT_EQ(names_in(fs.upper()), (Names{"moved"}));
}

TEST(RenameDir, MadeHereMovesInPlace) {
  OverlayFixture fs({.lower = {{"p/other", File{}}}});
  EXPECT_OK(::mkdir((fs / "p/new").c_str(), 0755));
  EXPECT_OK(create_file(fs / "p/new/f", "x"));
  EXPECT_OK(move(fs, "p/new", "p/final"));
  EXPECT_EQ(read_file(fs / "p/final/f"), "x");
  EXPECT_EQ(names_in(fs / "p"), (Names{"final", "other"}));
}

TEST(RenameDir, OntoAWhitedOutNameStaysAsItWas) {
  OverlayFixture fs({.lower = {{"old/secret", File{}}}, .upper = {{"old", Whiteout{}}, {"d/a", File{"a"}}}});
  EXPECT_OK(move(fs, "d", "old"));
  EXPECT_EQ(names_in(fs / "old"), (Names{"a"}));
  fs.remount();
  EXPECT_EQ(names_in(fs / "old"), (Names{"a"}));
  EXPECT_TRUE(is_opaque(fs.upper("old")));
}

TEST(RenameDir, OntoAnEmptyDirectoryOfLowerHidesWhatTheLowerHad) {
  OverlayFixture fs({.lower = {{"e/x", File{}}}, .upper = {{"e/x", Whiteout{}}, {"d/a", File{"a"}}}});
  EXPECT_EQ(names_in(fs / "e"), (Names{}));
  EXPECT_OK(move(fs, "d", "e"));
  EXPECT_EQ(names_in(fs / "e"), (Names{"a"}));
  EXPECT_FALSE(exists(fs / "d"));
  fs.remount();
  EXPECT_EQ(names_in(fs / "e"), (Names{"a"}));
}

TEST(RenameDir, OntoANonEmptyMergedDirectoryIsEnotempty) {
  OverlayFixture fs({.lower = {{"e/x", File{}}}, .upper = {{"e/y", File{}}, {"d/a", File{}}}});
  EXPECT_ERRNO(move(fs, "d", "e"), ENOTEMPTY);
  EXPECT_EQ(names_in(fs / "e"), (Names{"x", "y"}));
  EXPECT_EQ(names_in(fs / "d"), (Names{"a"}));
}

TEST(RenameDir, WithWhiteoutsInsideKeepsItsContent) {
  OverlayFixture fs({.lower = {{"t/x", File{}}, {"t/y", File{}}}, .upper = {{"d/a", File{"a"}}, {"d/x", Whiteout{}}}});
  EXPECT_OK(move(fs, "d", "z"));
  EXPECT_EQ(read_file(fs / "z/a"), "a");
  EXPECT_FALSE(exists(fs / "z/x"));
  NOT_ON(kAnyKernel,
         "kernel overlayfs lists a whiteout of a directory that only one layer has, though stat gives ENOENT");
  EXPECT_EQ(names_in(fs / "z"), (Names{"a"}));
}

TEST(RenameDir, LowerAndMergedAreExdevByDefault) {
  OverlayFixture fs({.lower = {{"low/f", File{}}, {"both/f", File{}}, {"e", Dir{}}}, .upper = {{"both/g", File{}}}});
  EXPECT_ERRNO(move(fs, "low", "x"), EXDEV);
  EXPECT_ERRNO(move(fs, "both", "x"), EXDEV);
  EXPECT_ERRNO(move(fs, "e", "x"), EXDEV);
  EXPECT_EQ(names_in(fs.root()), (Names{"both", "e", "low"}));
}

TEST(RenameDir, MvCopiesALowerDirectory) {
  OverlayFixture fs({.lower = {{"low/f", File{"f"}}, {"low/s/g", File{"g"}}}});
  EXPECT_EQ(run("mv '" + (fs / "low") + "' '" + (fs / "moved") + "'").output, "");
  EXPECT_EQ(read_file(fs / "moved/s/g"), "g");
  EXPECT_EQ(names_in(fs.root()), (Names{"moved"}));
  fs.remount();
  EXPECT_EQ(names_in(fs.root()), (Names{"moved"}));
}

TEST(RenameDir, ExchangeOfUpperDirectories) {
  OverlayFixture fs({.upper = {{"a/x", File{}}, {"b/y", File{}}}});
  EXPECT_OK(move(fs, "a", "b", RENAME_EXCHANGE));
  EXPECT_EQ(names_in(fs / "a"), (Names{"y"}));
  EXPECT_EQ(names_in(fs / "b"), (Names{"x"}));
}

TEST(RenameDir, ExchangeOfFileAndDirectory) {
  OverlayFixture fs({.lower = {{"f", File{"f"}}}, .upper = {{"d/x", File{}}}});
  EXPECT_OK(move(fs, "f", "d", RENAME_EXCHANGE));
  EXPECT_EQ(names_in(fs / "f"), (Names{"x"}));
  EXPECT_EQ(read_file(fs / "d"), "f");
  fs.remount();
  EXPECT_EQ(names_in(fs / "f"), (Names{"x"}));
  EXPECT_EQ(read_file(fs / "d"), "f");
}

TEST(RenameDir, ExchangeWithALowerDirectoryIsExdev) {
  OverlayFixture fs({.lower = {{"low/x", File{}}}, .upper = {{"up/y", File{}}}});
  EXPECT_ERRNO(move(fs, "low", "up", RENAME_EXCHANGE), EXDEV);
  EXPECT_EQ(names_in(fs / "low"), (Names{"x"}));
  EXPECT_EQ(names_in(fs / "up"), (Names{"y"}));
}

TEST(RenameDir, IntoItsOwnDescendantIsEinval) {
  OverlayFixture fs({.upper = {{"a/b/c", Dir{}}}});
  EXPECT_ERRNO(move(fs, "a", "a/b/c/a"), EINVAL);
  EXPECT_EQ(names_in(fs / "a/b"), (Names{"c"}));
}

TEST(RenameDir, MovedOverParentsOfOpenFilesStaysReachable) {
  OverlayFixture fs({.upper = {{"a/b/f", File{"x"}}}});
  Fd fd(fs / "a/b/f", O_RDWR);
  EXPECT_OK(move(fs, "a/b", "c"));
  EXPECT_OK(::fchmod(fd, 0600));
  EXPECT_EQ(octal(mode_of(fs / "c/f")), "0600");
  EXPECT_OK(append_file(fs / "c/f", "y"));
  EXPECT_EQ(read_fd(fd), "xy");
}

// Sequences that went wrong in other implementations.

TEST(RenameSequence, RemovedNameMadeAgainAndMovedOver) {
  OverlayFixture fs({.lower = {{"a", File{"la"}}, {"b", File{"lb"}}}});
  EXPECT_OK(::unlink((fs / "b").c_str()));
  EXPECT_OK(append_file(fs / "a", ""));
  EXPECT_OK(move(fs, "a", "b"));
  EXPECT_EQ(read_file(fs / "b"), "la");
  EXPECT_EQ(names_in(fs.root()), (Names{"b"}));
  EXPECT_TRUE(is_whiteout(fs.upper(), "a"));
  EXPECT_EQ(read_file(fs.upper("b")), "la");
}

TEST(RenameSequence, SameWithSquashToRoot) {
  NOT_ON(kAnyKernel, "kernel overlayfs has no squash_to_root");
  NOT_ON(kVellumUser, "files squashed to root are not the plain user's to change");
  OverlayFixture fs({.lower = {{"a", File{"la"}}, {"b", File{"lb"}}}, .options = "squash_to_root"});
  EXPECT_OK(::unlink((fs / "b").c_str()));
  EXPECT_OK(::utimensat(AT_FDCWD, (fs / "a").c_str(), nullptr, 0));
  EXPECT_OK(move(fs, "a", "b"));
  EXPECT_EQ(names_in(fs.root()), (Names{"b"}));
  EXPECT_TRUE(is_whiteout(fs.upper(), "a"));
  EXPECT_EQ(read_file(fs.upper("b")), "la");
}

TEST(RenameSequence, CopyRemoveMoveInsideMoveBack) {
  OverlayFixture fs({.lower = {{"a/b/c", File{"c"}}, {"a/x", File{"x"}}}});
  Ran ran = run("cd '" + fs.root() + "' && cp -r a bak && rm -rf a && mv bak/b/c bak/b/c2 && mv bak a");
  EXPECT_EQ(ran.output, "");
  EXPECT_EQ(ran.status, 0);
  EXPECT_EQ(names_in(fs / "a/b"), (Names{"c2"}));
  EXPECT_EQ(names_in(fs.root()), (Names{"a"}));
  fs.remount();
  EXPECT_EQ(names_in(fs / "a/b"), (Names{"c2"}));
}

TEST(RenameSequence, DirectoryMovedOutOfARemadeOneLeavesATreeTheKernelReads) {
  OverlayFixture fs({.lower = {{"a/b/f", File{}}, {"b", File{}}}});
  EXPECT_EQ(run("cd '" + fs.root() + "' && rm -rf a b && mkdir -p a/b && mv a/b b").output, "");
  EXPECT_EQ(names_in(fs.root()), (Names{"a", "b"}));
  EXPECT_EQ(names_in(fs / "a"), (Names{}));
  auto expected = snapshot(fs.root());
  fs.remount();
  EXPECT_EQ(snapshot(fs.root()), expected);
  NOT_ON(kVellumUser, "a plain user cannot mount kernel overlayfs without a user namespace");
  fs.remount_on_kernel();
  EXPECT_EQ(snapshot(fs.root()), expected);
}

TEST(RenameSequence, SedInPlaceLeavesOneFileInUpper) {
  OverlayFixture fs({.lower = {{"d/f", File{"hello\n", 0640}}}});
  EXPECT_EQ(run("sed -i s/hello/bye/ '" + (fs / "d/f") + "'").output, "");
  EXPECT_EQ(read_file(fs / "d/f"), "bye\n");
  EXPECT_EQ(names_in(fs.upper("d")), (Names{"f"}));
  EXPECT_EQ(octal(mode_of(fs / "d/f")), "0640");
}

TEST(Rename, DirectoryOverAWhiteoutOfAnEarlierMountsStyle) {
  NOT_ON(kAnyKernel, "kernel overlayfs takes it for an entry (ENOTEMPTY)");
  NOT_ON(kPeer, "the peer reads no whiteouts that are attributes");
  OverlayFixture fs({.lower = {{"p/d/x", File{}}, {"q/n", File{}}}, .upper = {{"q/n", File{}}}});
  fs.unmount();
  EXPECT_OK(set_xattr(fs.upper("q/n"), overlay_xattr("whiteout"), ""));
  EXPECT_OK(set_xattr(fs.upper("q"), overlay_xattr("opaque"), "x"));
  fs.mount();
  EXPECT_FALSE(exists(fs / "q/n"));
  EXPECT_EQ(run("rm -r '" + (fs / "p/d") + "'").output, "");
  EXPECT_OK(::mkdir((fs / "p/d").c_str(), 0755));
  EXPECT_OK(::rename((fs / "p/d").c_str(), (fs / "q/n").c_str()));
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(names_in(fs / "p"), (Names{}));
    EXPECT_EQ(names_in(fs / "q"), (Names{"n"}));
    fs.remount();
  }
}

}  // namespace
}  // namespace vellum::test
