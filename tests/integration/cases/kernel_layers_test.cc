// Layers that kernel overlayfs wrote with redirect_dir and metacopy, and ours read by it.
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr const char* kWriterNeedsRoot = "kernel overlayfs writes redirects and metacopy files for root only";
constexpr const char* kFollow = "redirect_dir=on,metacopy=on";

// Runs `change` on these layers under kernel overlayfs with redirect_dir and metacopy, then mounts the backend.
template <class Change>
void written_by_kernel(OverlayFixture& fs, Change change) {
  fs.unmount();
  ASSERT_OK(mount_kernel_overlay({.lowers = fs.lowers(), .upper = fs.upper(), .work = fs.work(), .options = kFollow},
                                 fs.root()));
  change();
  auto expected = snapshot(fs.root());
  ASSERT_OK(::umount2(fs.root().c_str(), 0));
  fs.mount();
  EXPECT_EQ(snapshot(fs.root()), expected);
}

TEST(KernelLayers, RedirectedDirectoryIsFollowed) {
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs(
      {.lower = {{"p/low/f", File{"f"}}, {"p/low/s/g", File{"g"}}, {"q/x", File{}}}, .kernel_options = kFollow});
  written_by_kernel(fs, [&] { EXPECT_OK(::rename((fs / "p/low").c_str(), (fs / "q/moved").c_str())); });
  EXPECT_EQ(read_file(fs / "q/moved/f"), "f");
  EXPECT_EQ(read_file(fs / "q/moved/s/g"), "g");
  EXPECT_EQ(names_in(fs / "p"), (Names{}));
}

TEST(KernelLayers, RelativeRedirectInTheSameDirectory) {
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs({.lower = {{"p/low/f", File{"f"}}}, .kernel_options = kFollow});
  written_by_kernel(fs, [&] {
    EXPECT_OK(::rename((fs / "p/low").c_str(), (fs / "p/new").c_str()));
    EXPECT_OK(create_file(fs / "p/new/added", "a"));
    EXPECT_OK(::unlink((fs / "p/new/f").c_str()));
  });
  EXPECT_EQ(names_in(fs / "p/new"), (Names{"added"}));
}

TEST(KernelLayers, RedirectOfARedirectedParent) {
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs({.lower = {{"a/b/c/f", File{"f"}}}, .kernel_options = kFollow});
  written_by_kernel(fs, [&] {
    EXPECT_OK(::rename((fs / "a/b").c_str(), (fs / "b2").c_str()));
    EXPECT_OK(::rename((fs / "b2/c").c_str(), (fs / "b2/c2").c_str()));
    EXPECT_OK(::rename((fs / "a").c_str(), (fs / "b2/a2").c_str()));
  });
  EXPECT_EQ(read_file(fs / "b2/c2/f"), "f");
  EXPECT_EQ(names_in(fs / "b2/a2"), (Names{}));
}

TEST(KernelLayers, RedirectIsNotShownAsAnXattr) {
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs({.lower = {{"low/f", File{"f"}}}, .kernel_options = kFollow});
  written_by_kernel(fs, [&] { EXPECT_OK(::rename((fs / "low").c_str(), (fs / "moved").c_str())); });
  EXPECT_EQ(list_xattrs(fs / "moved"), (Names{}));
}

TEST(KernelLayers, MetacopyFileShowsTheDataBeneath) {
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs({.lower = {{"d/f", File{"data", 0644}}}, .kernel_options = kFollow});
  written_by_kernel(fs, [&] { EXPECT_OK(::chmod((fs / "d/f").c_str(), 0600)); });
  EXPECT_NE(get_xattr(fs.upper("d/f"), "trusted.overlay.metacopy"), "<ENODATA>");
  EXPECT_EQ(read_file(fs / "d/f"), "data");
  EXPECT_EQ(octal(mode_of(fs / "d/f")), "0600");
  EXPECT_EQ(lstat_of(fs / "d/f").st_size, 4);
  EXPECT_EQ(list_xattrs(fs / "d/f"), (Names{}));
}

TEST(KernelLayers, MetacopyFileThatWasRenamedFollowsItsRedirect) {
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs({.lower = {{"d/f", File{"data", 0644}}, {"e/x", File{}}}, .kernel_options = kFollow});
  written_by_kernel(fs, [&] {
    EXPECT_OK(::chmod((fs / "d/f").c_str(), 0600));
    EXPECT_OK(::rename((fs / "d/f").c_str(), (fs / "e/g").c_str()));
  });
  EXPECT_EQ(read_file(fs / "e/g"), "data");
}

TEST(KernelLayers, MetacopyFileBecomesWholeWhenWritten) {
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs({.lower = {{"d/f", File{"data", 0644}}}, .kernel_options = kFollow});
  written_by_kernel(fs, [&] { EXPECT_OK(::chmod((fs / "d/f").c_str(), 0600)); });
  EXPECT_OK(append_file(fs / "d/f", "+more"));
  EXPECT_EQ(read_file(fs / "d/f"), "data+more");
  EXPECT_EQ(read_file(fs.upper("d/f")), "data+more");
  EXPECT_EQ(get_xattr(fs.upper("d/f"), "trusted.overlay.metacopy"), "<ENODATA>");
  fs.remount();
  EXPECT_EQ(read_file(fs / "d/f"), "data+more");
}

TEST(KernelLayers, MetacopyThroughSeveralLayers) {
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs({.lowers = {{{"other", File{}}}, {{"f", File{"data"}}}}, .kernel_options = kFollow});
  written_by_kernel(fs, [&] { EXPECT_OK(::chmod((fs / "f").c_str(), 0604)); });
  // The upper of this overlay as a lower of the next.
  OverlayFixture next({.below = {fs.upper(), fs.lower("", 0), fs.lower("", 1)}, .kernel_options = kFollow});
  EXPECT_EQ(read_file(next / "f"), "data");
  EXPECT_EQ(octal(mode_of(next / "f")), "0604");
  EXPECT_OK(append_file(next / "f", "+"));
  EXPECT_EQ(read_file(next.upper("f")), "data+");
}

TEST(KernelLayers, RedirectThatLeadsOutOfTheLayerIsContained) {
  OverlayFixture fs({.lower = {{"real/f", File{}}},
                     .upper = {{"evil", Dir{.xattrs = {{overlay_xattr("redirect"), "/../../../../etc"}}}},
                               {"evil2", Dir{.xattrs = {{overlay_xattr("redirect"), "../../etc"}}}}}});
  for (const char* name : {"evil", "evil2"}) {
    for (const auto& entry : names_in(fs / name)) EXPECT_NE(entry, "passwd") << name;
  }
}

TEST(KernelLayers, OriginAndImpureMarksAreHidden) {
  NOT_ON(kVellumUser, "a plain user cannot mount kernel overlayfs without a user namespace");
  OverlayFixture fs({.lower = {{"d/f", File{"x"}}}});
  fs.remount_on_kernel();
  EXPECT_OK(append_file(fs / "d/f", "y"));
  fs.remount();
  EXPECT_EQ(list_xattrs(fs / "d/f"), (Names{}));
  EXPECT_EQ(list_xattrs(fs / "d"), (Names{}));
  EXPECT_EQ(list_xattrs(fs.root()), (Names{}));
  EXPECT_EQ(read_file(fs / "d/f"), "xy");
}

// ---- what we write with these options, the kernel reads ----

constexpr const char* kPeerHasNone = "the peer has redirect_dir=off only, and no metacopy";
constexpr const char* kNoUserRedirect = "with userxattr, kernel overlayfs takes no redirect_dir=on";

TEST(RedirectDir, OnRenamesALowerDirectoryWithoutCopyingIt) {
  NOT_ON(kPeer, kPeerHasNone);
  NOT_ON(kKernelUserns, kNoUserRedirect);
  OverlayFixture fs({.lower = {{"p/low/f", File{"f"}}, {"p/low/s/g", File{"g"}}}, .options = "redirect_dir=on"});
  EXPECT_OK(::rename((fs / "p/low").c_str(), (fs / "moved").c_str()));
  EXPECT_EQ(read_file(fs / "moved/s/g"), "g");
  EXPECT_EQ(names_in(fs / "p"), (Names{}));
  EXPECT_EQ(names_in(fs.upper("moved")), (Names{}));
  auto expected = snapshot(fs.root());
  fs.remount();
  EXPECT_EQ(snapshot(fs.root()), expected);
}

TEST(RedirectDir, OnIsReadByTheKernel) {
  NOT_ON(kPeer, kPeerHasNone);
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs(
      {.lower = {{"p/low/f", File{"f"}}, {"p/low/s/g", File{"g"}}, {"q", Dir{}}}, .options = "redirect_dir=on"});
  EXPECT_OK(::rename((fs / "p/low").c_str(), (fs / "q/moved").c_str()));
  EXPECT_OK(::rename((fs / "q/moved/s").c_str(), (fs / "s2").c_str()));
  EXPECT_OK(::rename((fs / "q").c_str(), (fs / "q2").c_str()));
  EXPECT_OK(create_file(fs / "q2/moved/new", "n"));
  auto expected = snapshot(fs.root());
  EXPECT_EQ(names_in(fs / "q2/moved"), (Names{"f", "new"}));
  fs.remount_on_kernel();
  EXPECT_EQ(snapshot(fs.root()), expected);
}

TEST(RedirectDir, OnExchangesLowerDirectories) {
  NOT_ON(kPeer, kPeerHasNone);
  NOT_ON(kKernelUserns, kNoUserRedirect);
  OverlayFixture fs({.lower = {{"a/x", File{}}, {"b/y", File{}}}, .options = "redirect_dir=on"});
  EXPECT_OK(::renameat2(AT_FDCWD, (fs / "a").c_str(), AT_FDCWD, (fs / "b").c_str(), RENAME_EXCHANGE));
  EXPECT_EQ(names_in(fs / "a"), (Names{"y"}));
  EXPECT_EQ(names_in(fs / "b"), (Names{"x"}));
  fs.remount();
  EXPECT_EQ(names_in(fs / "a"), (Names{"y"}));
}

TEST(RedirectDir, OldNameMadeAgainIsEmpty) {
  NOT_ON(kPeer, kPeerHasNone);
  NOT_ON(kKernelUserns, kNoUserRedirect);
  OverlayFixture fs({.lower = {{"a/x", File{}}}, .options = "redirect_dir=on"});
  EXPECT_OK(::rename((fs / "a").c_str(), (fs / "b").c_str()));
  EXPECT_OK(::mkdir((fs / "a").c_str(), 0755));
  EXPECT_EQ(names_in(fs / "a"), (Names{}));
  fs.remount();
  EXPECT_EQ(names_in(fs / "a"), (Names{}));
  EXPECT_EQ(names_in(fs / "b"), (Names{"x"}));
}

TEST(RedirectDir, CopyMovesAWholeLowerTree) {
  NOT_ON(kAnyKernel | kPeer, "redirect_dir=copy is ours");
  OverlayFixture fs({.lower = {{"low/f", File{"f", 0604}},
                               {"low/s/g", File{"g"}},
                               {"low/l", Symlink{"f"}},
                               {"low/h", HardLink{"low/f"}}},
                     .upper = {{"low/u", File{"u"}}},
                     .options = "redirect_dir=copy"});
  auto before = snapshot(fs / "low");
  EXPECT_OK(::rename((fs / "low").c_str(), (fs / "moved").c_str()));
  EXPECT_EQ(snapshot(fs / "moved"), before);
  EXPECT_EQ(names_in(fs.root()), (Names{"moved"}));
  EXPECT_EQ(read_file(fs.upper("moved/s/g")), "g");
  fs.remount();
  EXPECT_EQ(snapshot(fs / "moved"), before);
  EXPECT_EQ(names_in(fs.root()), (Names{"moved"}));
  NOT_ON(kVellumUser, "a plain user cannot mount kernel overlayfs without a user namespace");
  auto whole = snapshot(fs.root());
  fs.unmount();
  ASSERT_OK(mount_kernel_overlay(
      {.lowers = fs.lowers(), .upper = fs.upper(), .work = fs.work(), .options = on(kAnyUserns) ? "userxattr" : ""},
      fs.root()));
  EXPECT_EQ(snapshot(fs.root()), whole);
  ASSERT_OK(::umount2(fs.root().c_str(), 0));
  fs.mount();
}

TEST(Metacopy, ChmodCopiesMetadataOnly) {
  NOT_ON(kPeer, kPeerHasNone);
  NOT_ON(kKernelUserns, "with userxattr, kernel overlayfs takes no metacopy=on");
  std::string content(1 << 20, 'x');
  OverlayFixture fs({.lower = {{"d/f", File{content}}}, .options = "metacopy=on"});
  EXPECT_OK(::chmod((fs / "d/f").c_str(), 0600));
  EXPECT_OK(set_times(fs / "d/f", {1, 2}));
  EXPECT_EQ(octal(mode_of(fs / "d/f")), "0600");
  EXPECT_LT(lstat_of(fs.upper("d/f")).st_blocks * 512, 65536);
  EXPECT_EQ(lstat_of(fs / "d/f").st_size, 1 << 20);
  EXPECT_EQ(read_file(fs / "d/f") == content, true);
  fs.remount();
  EXPECT_EQ(read_file(fs / "d/f") == content, true);
  EXPECT_OK(append_file(fs / "d/f", "+"));
  EXPECT_EQ(read_file(fs.upper("d/f")) == content + "+", true);
  EXPECT_EQ(read_file(fs / "d/f") == content + "+", true);
}

TEST(Metacopy, IsReadByTheKernel) {
  NOT_ON(kPeer, kPeerHasNone);
  NOT_ON(kUnprivileged, kWriterNeedsRoot);
  OverlayFixture fs({.lower = {{"d/f", File{"data"}}, {"e", Dir{}}}, .options = "metacopy=on,redirect_dir=on"});
  EXPECT_OK(::chmod((fs / "d/f").c_str(), 0600));
  EXPECT_OK(::rename((fs / "d/f").c_str(), (fs / "e/g").c_str()));
  auto expected = snapshot(fs.root());
  EXPECT_EQ(read_file(fs / "e/g"), "data");
  fs.remount_on_kernel();
  EXPECT_EQ(snapshot(fs.root()), expected);
}

TEST(Metacopy, TruncateOfAMetacopyFile) {
  NOT_ON(kPeer, kPeerHasNone);
  NOT_ON(kKernelUserns, "with userxattr, kernel overlayfs takes no metacopy=on");
  OverlayFixture fs({.lower = {{"f", File{"0123456789"}}}, .options = "metacopy=on"});
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  EXPECT_OK(::truncate((fs / "f").c_str(), 4));
  EXPECT_EQ(read_file(fs / "f"), "0123");
  fs.remount();
  EXPECT_EQ(read_file(fs / "f"), "0123");
}

}  // namespace
}  // namespace vellum::test
