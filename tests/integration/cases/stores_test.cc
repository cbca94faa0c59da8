// Layers on file systems of other kinds, mounts on mounts, statfs.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

// Enough of everything to see that a pair of layers works.
void use(OverlayFixture& fs) {
  EXPECT_EQ(read_file(fs / "d/low"), "low");
  EXPECT_OK(append_file(fs / "d/low", "+"));
  EXPECT_EQ(read_file(fs / "d/low"), "low+");
  EXPECT_OK(::unlink((fs / "d/gone").c_str()));
  EXPECT_OK(create_file(fs / "d/new", "n"));
  EXPECT_OK(::rename((fs / "d/new").c_str(), (fs / "d/newer").c_str()));
  EXPECT_OK(::chmod((fs / "d").c_str(), 0700));
  EXPECT_EQ(run("rm -r '" + (fs / "tree") + "'").output, "");
  EXPECT_OK(::mkdir((fs / "tree").c_str(), 0755));
  EXPECT_EQ(names_in(fs / "tree"), (Names{}));
  EXPECT_EQ(names_in(fs / "d"), (Names{"low", "newer"}));
  auto seen = snapshot(fs.root());
  fs.remount();
  EXPECT_EQ(snapshot(fs.root()), seen);
}

const Tree kTree{{"d/low", File{"low"}}, {"d/gone", File{}}, {"tree/a/b", File{}}};

struct Pair {
  const char* name;
  Store lower, upper;
};
class Stores : public ::testing::TestWithParam<Pair> {};
INSTANTIATE_TEST_SUITE_P(
    Layers, Stores,
    ::testing::Values(Pair{"TmpfsOnExt4", Store::kExt4, Store::kTmpfs},
                      Pair{"Ext4OnTmpfs", Store::kTmpfs, Store::kExt4}, Pair{"Ext4", Store::kExt4, Store::kExt4},
                      Pair{"Xfs", Store::kXfs, Store::kXfs}, Pair{"Btrfs", Store::kBtrfs, Store::kBtrfs},
                      Pair{"XfsOnBtrfs", Store::kBtrfs, Store::kXfs}, Pair{"RamfsLower", Store::kRamfs, Store::kTmpfs}),
    [](const auto& param) { return std::string(param.param.name); });

TEST_P(Stores, WorkTogether) {
  OverlayFixture fs({.lower = kTree, .lower_on = GetParam().lower, .upper_on = GetParam().upper});
  use(fs);
}

TEST(Layers, UpperWithoutXattrs) {
  NOT_ON(kAnyKernel, "kernel overlayfs cannot remove a lower directory on an upper without xattrs (EIO)");
  NOT_ON(kPeer, "the peer shows old names again");
  OverlayFixture fs({.lower = kTree, .upper_on = Store::kRamfs});
  use(fs);
}

TEST(Layers, Squashfs) {
  NOT_ON(kUnprivileged, "a squashfs image can be mounted by root only");
  std::string place = fresh_dir(), tree = place + "/tree", image = place + "/image", at = place + "/at";
  ASSERT_OK(::mkdir(tree.c_str(), 0755));
  ASSERT_OK(::mkdir(at.c_str(), 0755));
  make_tree(tree, kTree);
  ASSERT_EQ(
      run("mksquashfs " + tree + " " + image + " -quiet -no-progress && mount -o loop " + image + " " + at).output, "");
  {
    OverlayFixture fs({.below = {at}});
    // It has no ACLs, and says so with an error; others than the owner may read all the same.
    EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(fs / "d/low", O_RDONLY); }), 0);
    use(fs);
  }
  EXPECT_OK(::umount2(at.c_str(), 0));
}

TEST(Layers, Erofs) {
  NOT_ON(kUnprivileged, "an erofs image can be mounted by root only");
  std::string place = fresh_dir(), tree = place + "/tree", image = place + "/image", at = place + "/at";
  ASSERT_OK(::mkdir(tree.c_str(), 0755));
  ASSERT_OK(::mkdir(at.c_str(), 0755));
  make_tree(tree, kTree);
  ASSERT_EQ(run("mkfs.erofs --quiet " + image + " " + tree + " >/dev/null && mount -o loop " + image + " " + at).status,
            0);
  {
    OverlayFixture fs({.below = {at}});
    use(fs);
  }
  EXPECT_OK(::umount2(at.c_str(), 0));
}

TEST(Layers, SubmountsOfALayerAreNotEntered) {
  NOT_ON(kVellumUser, "a plain user cannot mount into a layer");
  OverlayFixture fs({.lower = {{"d/mnt", Dir{}}, {"d/f", File{}}}});
  fs.unmount();
  std::string inside = fs.lower("d/mnt");
  ASSERT_OK(::mount("tmpfs", inside.c_str(), "tmpfs", 0, nullptr));
  EXPECT_OK(create_file(inside + "/inner", "i"));
  fs.mount();
  EXPECT_EQ(names_in(fs / "d"), (Names{"f", "mnt"}));
  Names shown = names_in(fs / "d/mnt");
  EXPECT_OK(::umount2(inside.c_str(), MNT_DETACH));
  NOT_ON(kAnyVellum | kPeer, "a submount inside a lower layer shows through, as layers are opened by path");
  EXPECT_EQ(shown, (Names{}));
}

TEST(Nested, OursIsALowerOfKernelOverlayfs) {
  NOT_ON(kVellumUser, "a plain user cannot mount kernel overlayfs without a user namespace");
  OverlayFixture inner({.lower = kTree, .upper = {{"d/up", File{"up"}}}});
  std::string place = fresh_dir(), upper = place + "/upper", work = place + "/work", at = place + "/at";
  for (const auto& dir : {upper, work, at}) ASSERT_OK(::mkdir(dir.c_str(), 0755));
  ASSERT_OK(mount_kernel_overlay(
      {.lowers = {inner.root()}, .upper = upper, .work = work, .options = on(kAnyUserns) ? "userxattr" : ""}, at));
  EXPECT_EQ(read_file(at + "/d/low"), "low");
  EXPECT_EQ(read_file(at + "/d/up"), "up");
  EXPECT_OK(append_file(at + "/d/low", "+"));
  EXPECT_OK(::unlink((at + "/d/gone").c_str()));
  EXPECT_EQ(read_file(at + "/d/low"), "low+");
  EXPECT_EQ(names_in(at + "/d"), (Names{"low", "up"}));
  EXPECT_EQ(read_file(inner / "d/low"), "low");
  EXPECT_OK(::umount2(at.c_str(), 0));
}

// Kernel overlayfs takes nothing as its upper that may revalidate names: neither a FUSE mount nor itself.
TEST(Nested, KernelOverlayfsRefusesUsAsItsUpper) {
  NOT_ON(kVellumUser, "a plain user cannot mount kernel overlayfs without a user namespace");
  OverlayFixture inner({.lower = {{"x", File{}}}, .upper = {{"upper", Dir{}}, {"work", Dir{}}}});
  std::string place = fresh_dir(), lower = place + "/lower", at = place + "/at";
  for (const auto& dir : {lower, at}) ASSERT_OK(::mkdir(dir.c_str(), 0755));
  EXPECT_ERRNO(mount_kernel_overlay({.lowers = {lower},
                                     .upper = inner / "upper",
                                     .work = inner / "work",
                                     .options = on(kAnyUserns) ? "userxattr" : ""},
                                    at),
               EINVAL);
}

TEST(Nested, OursIsALowerOfOurs) {
  OverlayFixture inner({.lower = kTree, .upper = {{"d/up", File{"up"}}}});
  OverlayFixture outer({.lower = {{"d/top", File{"top"}}}, .below = {inner.root()}});
  EXPECT_EQ(names_in(outer / "d"), (Names{"gone", "low", "top", "up"}));
  EXPECT_OK(append_file(outer / "d/low", "+"));
  EXPECT_OK(::unlink((outer / "d/gone").c_str()));
  EXPECT_EQ(run("rm -r '" + (outer / "tree") + "'").output, "");
  EXPECT_OK(::mkdir((outer / "tree").c_str(), 0755));
  EXPECT_EQ(names_in(outer / "tree"), (Names{}));
  EXPECT_EQ(read_file(inner / "d/low"), "low");
  EXPECT_TRUE(exists(inner / "tree/a/b"));
  outer.remount();
  EXPECT_EQ(names_in(outer / "d"), (Names{"low", "top", "up"}));
}

TEST(Nested, OursIsAnUpperOfOurs) {
  NOT_ON(kAnyKernel, "its layers would be given as paths of the outer mount");
  NOT_ON(kPeer, "the peer does not escape its xattrs");
  OverlayFixture inner({.lower = {{"x", File{}}}, .upper = {{"upper", Dir{}}, {"work", Dir{}}}});
  std::string place = fresh_dir(), lower = place + "/lower", at = place + "/at";
  for (const auto& dir : {lower, at}) ASSERT_OK(::mkdir(dir.c_str(), 0755));
  make_tree(lower, kTree);
  std::string options = "lowerdir=" + lower + ",upperdir=" + (inner / "upper") + ",workdir=" + (inner / "work");
  Mounted outer = run_fuse_overlayfs({"-o", options, at});
  ASSERT_EQ(outer.status, 0) << outer.output;
  EXPECT_OK(append_file(at + "/d/low", "+"));
  EXPECT_OK(::unlink((at + "/d/gone").c_str()));
  EXPECT_EQ(run("rm -r '" + at + "/tree' && mkdir '" + at + "/tree'").output, "");
  EXPECT_EQ(names_in(at + "/tree"), (Names{}));
  EXPECT_EQ(names_in(at + "/d"), (Names{"low"}));
  EXPECT_EQ(read_file(inner / "upper/d/low"), "low+");
  EXPECT_OK(unmount_fuse(at));
  EXPECT_EQ(wait_for_end(outer.daemon), 0);
  // The same layers again: whiteouts and marks went through the inner mount and came back.
  outer = run_fuse_overlayfs({"-o", options, at});
  ASSERT_EQ(outer.status, 0) << outer.output;
  EXPECT_EQ(names_in(at + "/tree"), (Names{}));
  EXPECT_EQ(names_in(at + "/d"), (Names{"low"}));
  EXPECT_OK(unmount_fuse(at));
  EXPECT_EQ(wait_for_end(outer.daemon), 0);
}

TEST(Nested, KernelOverlayfsIsALowerOfOurs) {
  NOT_ON(kVellumUser, "a plain user cannot mount kernel overlayfs without a user namespace");
  OverlayFixture layers({.lower = kTree, .upper = {{"up/f", File{"up"}}}});
  layers.remount_on_kernel();
  OverlayFixture outer({.below = {layers.root()}});
  EXPECT_EQ(names_in(outer.root()), (Names{"d", "tree", "up"}));
  use(outer);
}

TEST(Statfs, TellsOfTheUppersFileSystem) {
  OverlayFixture fs({.lower = kTree, .upper_on = Store::kExt4});
  struct statvfs merged {};
  struct statvfs upper {};
  ASSERT_OK(::statvfs(fs.root().c_str(), &merged));
  ASSERT_OK(::statvfs(fs.upper().c_str(), &upper));
  EXPECT_EQ(merged.f_blocks * merged.f_frsize, upper.f_blocks * upper.f_frsize);
  EXPECT_EQ(merged.f_files, upper.f_files);
  EXPECT_EQ(merged.f_namemax, 255u);
  EXPECT_OK(::statvfs((fs / "d/low").c_str(), &merged));
  EXPECT_EQ(merged.f_blocks * merged.f_frsize, upper.f_blocks * upper.f_frsize);
}

TEST(Statfs, WithoutUpperTellsOfTheTopmostLower) {
  OverlayFixture fs({.lowers = {kTree, kTree}, .read_only = true, .lower_on = Store::kXfs});
  struct statvfs merged {};
  struct statvfs lower {};
  ASSERT_OK(::statvfs(fs.root().c_str(), &merged));
  ASSERT_OK(::statvfs(fs.lower().c_str(), &lower));
  EXPECT_EQ(merged.f_blocks * merged.f_frsize, lower.f_blocks * lower.f_frsize);
  EXPECT_NE(merged.f_flag & ST_RDONLY, 0u);
}

}  // namespace
}  // namespace vellum::test
