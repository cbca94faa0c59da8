// Owners: squashed, mapped, kept in xattrs.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr const char* kNotTheKernels = "kernel overlayfs has no options for owners";
constexpr const char* kHeldByOneUid = "a plain user owns one uid only";
constexpr uid_t kOverflow = 65534;

const Tree kOwned{{"zero", File{.content = "0", .mode = 0644, .uid = 0, .gid = 0}},
                  {"five", File{.content = "5", .mode = 0644, .uid = 5, .gid = 6}},
                  {"big", File{.content = "b", .mode = 0644, .uid = 60000, .gid = 60001}}};

TEST(Squash, ToRootShowsEveryFileAsRoots) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  OverlayFixture fs({.lower = kOwned, .options = "squash_to_root"});
  for (const char* name : {"zero", "five", "big"}) {
    EXPECT_EQ(lstat_of(fs / name).st_uid, 0u) << name;
    EXPECT_EQ(lstat_of(fs / name).st_gid, 0u) << name;
  }
}

TEST(Squash, ToUidAndGidWinOverRoot) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  OverlayFixture fs({.lower = kOwned, .options = "squash_to_root,squash_to_uid=77,squash_to_gid=88"});
  EXPECT_EQ(lstat_of(fs / "five").st_uid, 77u);
  EXPECT_EQ(lstat_of(fs / "five").st_gid, 88u);
}

TEST(Squash, NewFilesShowSoToo) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"d", Dir{0777}}}, .options = "squash_to_uid=77,squash_to_gid=88"});
  EXPECT_EQ(as_ids(9, 9, [&] { return create_file(fs / "d/f", "") < 0 ? errno : 0; }), 0);
  EXPECT_EQ(lstat_of(fs / "d/f").st_uid, 77u);
  EXPECT_OK(::chmod((fs / "d/f").c_str(), 0600));
  EXPECT_OK(append_file(fs / "d/f", "x"));
  EXPECT_EQ(lstat_of(fs / "d/f").st_gid, 88u);
}

TEST(Squash, ChownChangesNothingThatShows) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  OverlayFixture fs({.lower = kOwned, .options = "squash_to_root"});
  int error = ::chown((fs / "five").c_str(), 12, 13) < 0 ? errno : 0;
  EXPECT_TRUE(error == 0 || error == EPERM) << errno_name(error);
  EXPECT_EQ(lstat_of(fs / "five").st_uid, 0u);
}

TEST(IdMapping, ShowsStoredIdsAsTheMapSays) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  OverlayFixture fs({.lower = kOwned, .options = "uidmapping=0:1000:1:1:11000:100,gidmapping=0:1000:1:1:12000:100"});
  EXPECT_EQ(lstat_of(fs / "zero").st_uid, 1000u);
  EXPECT_EQ(lstat_of(fs / "zero").st_gid, 1000u);
  EXPECT_EQ(lstat_of(fs / "five").st_uid, 11004u);
  EXPECT_EQ(lstat_of(fs / "five").st_gid, 12005u);
  EXPECT_EQ(lstat_of(fs / "big").st_uid, kOverflow);
  EXPECT_EQ(lstat_of(fs / "big").st_gid, kOverflow);
}

TEST(IdMapping, ChownGoesTheOtherWay) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = kOwned, .options = "uidmapping=0:1000:1:1:11000:100,gidmapping=0:1000:1:1:12000:100"});
  EXPECT_OK(::chown((fs / "zero").c_str(), 11009, 12019));
  EXPECT_EQ(lstat_of(fs / "zero").st_uid, 11009u);
  EXPECT_EQ(lstat_of(fs.upper("zero")).st_uid, 10u);
  EXPECT_EQ(lstat_of(fs.upper("zero")).st_gid, 20u);
  EXPECT_ERRNO(::chown((fs / "five").c_str(), 40000, static_cast<gid_t>(-1)), EINVAL);
  EXPECT_EQ(lstat_of(fs / "five").st_uid, 11004u);
}

TEST(IdMapping, CopyUpKeepsTheStoredId) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = kOwned, .options = "uidmapping=0:1000:1:1:11000:100,gidmapping=0:1000:1:1:12000:100"});
  EXPECT_OK(append_file(fs / "five", "+"));
  EXPECT_EQ(lstat_of(fs.upper("five")).st_uid, 5u);
  EXPECT_EQ(lstat_of(fs.upper("five")).st_gid, 6u);
}

TEST(IdMapping, NewFilesAreStoredMapped) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = kOwned,
                     .upper = {{"d", Dir{0777}}},
                     .options = "uidmapping=0:1000:1:1:11000:100,gidmapping=0:1000:1:1:12000:100"});
  EXPECT_EQ(as_ids(11004, 12005, [&] { return create_file(fs / "d/f", "") < 0 ? errno : 0; }), 0);
  EXPECT_EQ(lstat_of(fs / "d/f").st_uid, 11004u);
  EXPECT_EQ(lstat_of(fs.upper("d/f")).st_uid, 5u);
  EXPECT_EQ(lstat_of(fs.upper("d/f")).st_gid, 6u);
}

TEST(IdMapping, RangesReachTheLastId) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  NOT_ON(kAnyUserns, "large ids are not in the namespace's map");
  NOT_ON(kPeer, "the peer overflows");
  OverlayFixture fs({.lower = {{"last", File{.content = "", .mode = 0644, .uid = 4294967294, .gid = 4294967294}},
                               {"one", File{.content = "", .mode = 0644, .uid = 1, .gid = 1}}},
                     .options = "uidmapping=0:0:4294967295,gidmapping=1:1:4294967295"});
  EXPECT_EQ(lstat_of(fs / "last").st_uid, 4294967294u);
  EXPECT_EQ(lstat_of(fs / "last").st_gid, 4294967294u);
  EXPECT_EQ(lstat_of(fs / "one").st_uid, 1u);
  EXPECT_EQ(lstat_of(fs / "one").st_gid, 1u);
}

TEST(XattrPermissions, KeepOwnerAndModeInAnXattr) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  NOT_ON(kVellumUser, "the kernel lets only the privileged change owners");
  OverlayFixture fs({.lower = {{"f", File{"x"}}, {"d", Dir{}}}, .options = "xattr_permissions=2"});
  EXPECT_OK(::chown((fs / "f").c_str(), 11, 22));
  EXPECT_OK(::chmod((fs / "f").c_str(), 0604));
  EXPECT_EQ(lstat_of(fs / "f").st_uid, 11u);
  EXPECT_EQ(lstat_of(fs / "f").st_gid, 22u);
  EXPECT_EQ(octal(mode_of(fs / "f")), "0604");
  EXPECT_EQ(lstat_of(fs.upper("f")).st_uid, 0u);
  EXPECT_TRUE(get_xattr(fs.upper("f"), "user.containers.override_stat").starts_with("11:22:"))
      << get_xattr(fs.upper("f"), "user.containers.override_stat");
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{}));
  fs.remount();
  EXPECT_EQ(lstat_of(fs / "f").st_uid, 11u);
  EXPECT_EQ(octal(mode_of(fs / "f")), "0604");
}

TEST(XattrPermissions, OverridesOfALowerLayerThatHasThemAreRead) {
  NOT_ON(kAnyKernel, kNotTheKernels);
  // As with the peer, the root's own xattr says that the layer keeps owners so.
  auto keeps = [](const std::string& value) { return Xattrs{{"user.containers.override_stat", value}}; };
  OverlayFixture fs({.lower = {{".", Dir{.xattrs = keeps("0:0:0755")}},
                               {"f", File{.content = "x", .mode = 0644, .xattrs = keeps("3:4:0751")}},
                               {"new", File{.content = "x", .mode = 0644, .xattrs = keeps("5:6:0604:file")}}}});
  EXPECT_EQ(lstat_of(fs / "f").st_uid, 3u);
  EXPECT_EQ(lstat_of(fs / "f").st_gid, 4u);
  EXPECT_EQ(octal(mode_of(fs / "f")), "0751");
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{}));
  NOT_ON(kPeer, "Debian's does not know the newer form");
  EXPECT_EQ(lstat_of(fs / "new").st_uid, 5u);
  EXPECT_EQ(octal(mode_of(fs / "new")), "0604");
}

TEST(PlainUser, SeesForeignFilesAndMayNotChangeThem) {
  NOT_ON(kVellumRoot | kPeer | kKernel | kAnyUserns, "about a user without rights");
  OverlayFixture fs({.lower = {{"f", File{.content = "x", .mode = 0644, .uid = 0, .gid = 0}},
                               {"secret", File{.content = "x", .mode = 0600, .uid = 0, .gid = 0}}}});
  EXPECT_EQ(lstat_of(fs / "f").st_uid, 0u);
  EXPECT_EQ(read_file(fs / "f"), "x");
  EXPECT_EQ(read_file(fs / "secret"), "<EACCES>");
  EXPECT_ERRNO(append_file(fs / "f", "y"), EACCES);
  EXPECT_ERRNO(::chmod((fs / "f").c_str(), 0666), EPERM);
  EXPECT_OK(::unlink((fs / "f").c_str()));  // the directory is his
  EXPECT_FALSE(exists(fs / "f"));
}

}  // namespace
}  // namespace vellum::test
