// POSIX ACLs: kept, enforced, inherited.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr const char* kHeldByOneUid = "a plain user owns one uid only";

TEST(Acl, SetOnALowerFileKeepsTheOtherEntries) {
  OverlayFixture fs({.lower = {{"f", File{"x", 0640}}}});
  fs.unmount();
  EXPECT_OK(set_acl(fs.lower("f"), "u::rw-,u:7:r--,g::r--,m::r--,o::---"));
  fs.mount();
  EXPECT_EQ(get_acl(fs / "f"), "u::rw-,u:7:r--,g::r--,m::r--,o::---");
  EXPECT_EQ(run("setfacl -m u:9:rw '" + (fs / "f") + "'").output, "");
  EXPECT_EQ(get_acl(fs / "f"), "u::rw-,u:7:r--,u:9:rw-,g::r--,m::rw-,o::---");
  EXPECT_EQ(get_acl(fs.upper("f")), get_acl(fs / "f"));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0660");
}

TEST(Acl, GrantsAndDenies) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"f", File{"x", 0600}}}});
  EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(fs / "f", O_RDONLY); }), EACCES);
  EXPECT_OK(set_acl(fs / "f", "u::rw-,u:7:r--,g::---,m::r--,o::---"));
  EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(fs / "f", O_RDONLY); }), 0);
  EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(fs / "f", O_WRONLY); }), EACCES);
  EXPECT_EQ(as_ids(8, 8, [&] { return open_errno(fs / "f", O_RDONLY); }), EACCES);
}

TEST(Acl, OfALowerFileIsEnforced) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  OverlayFixture fs({.lower = {{"f", File{"x", 0604}}}});
  fs.unmount();
  EXPECT_OK(set_acl(fs.lower("f"), "u::rw-,u:7:---,g::---,m::r--,o::r--"));
  fs.mount();
  EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(fs / "f", O_RDONLY); }), EACCES);
  EXPECT_EQ(as_ids(8, 8, [&] { return open_errno(fs / "f", O_RDONLY); }), 0);
}

TEST(Acl, OfWorkdirIsNobodys) {
  NOT_ON(kVellumUser, kHeldByOneUid);
  NOT_ON(kPeer, "the peer lets it through");
  OverlayFixture fs({.lower = {{"d", Dir{0755}}, {"d/old", File{"x", 0600}}, {"d/s", Dir{0700}}}});
  fs.unmount();
  for (const std::string& dir : {fs.work(), fs.work() + "/work"})
    EXPECT_EQ(run("setfacl -m u:7:rwx -d -m u:7:rwx '" + dir + "'").output, "");
  fs.mount();
  EXPECT_OK(append_file(fs / "d/old", "+"));
  EXPECT_OK(::chmod((fs / "d/old").c_str(), 0640));
  EXPECT_OK(::chmod((fs / "d/s").c_str(), 0750));
  EXPECT_OK(create_file(fs / "d/s/new", "n"));
  for (const char* name : {"d/old", "d/s", "d/s/new"}) {
    EXPECT_EQ(list_xattrs(fs / name), (Names{})) << name;
    EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(fs / name, O_RDONLY); }), EACCES) << name;
  }
}

TEST(Acl, ThatUpperCannotHoldGivesNobodyMore) {
  NOT_ON(kUnprivileged, "needs layers of several owners");
  NOT_ON(kAnyKernel, "kernel overlayfs keeps the mask as the group's rights, or refuses to copy");
  NOT_ON(kPeer, "the peer keeps the mask as the group's rights");
  OverlayFixture fs({.lower = {{"f", File{"x", 0604, {}, 5, 7}}}, .upper_on = Store::kRamfs});
  fs.unmount();
  EXPECT_OK(set_acl(fs.lower("f"), "u::rw-,u:8:rw-,u:9:---,g::---,m::rw-,o::r--"));
  fs.mount();
  EXPECT_OK(append_file(fs / "f", "+"));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0600");
}

TEST(Acl, ChmodChangesTheMask) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  EXPECT_OK(set_acl(fs / "f", "u::rw-,u:7:rw-,g::r--,m::rw-,o::r--"));
  EXPECT_OK(::chmod((fs / "f").c_str(), 0640));
  EXPECT_EQ(get_acl(fs / "f"), "u::rw-,u:7:rw-,g::r--,m::r--,o::---");
}

TEST(Acl, MinimalAclIsTheModeAlone) {
  OverlayFixture fs({.lower = {{"f", File{"x", 0600}}}});
  EXPECT_OK(set_acl(fs / "f", "u::rw-,g::r--,o::r--"));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0644");
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{}));
}

TEST(Acl, RemovedWithSetfaclB) {
  OverlayFixture fs({.lower = {{"f", File{"x", 0644}}, {"d", Dir{}}}});
  EXPECT_OK(set_acl(fs / "f", "u::rw-,u:7:rw-,g::r--,m::rw-,o::r--"));
  EXPECT_OK(set_acl(fs / "d", "u::rwx,u:7:rwx,g::r-x,m::rwx,o::---", true));
  EXPECT_EQ(run("setfacl -b '" + (fs / "f") + "' '" + (fs / "d") + "'").output, "");
  EXPECT_EQ(get_acl(fs / "f"), "u::rw-,g::r--,o::r--");
  EXPECT_EQ(get_acl(fs / "d", true), "");
}

// One directory with a default ACL, in lower or upper; umask must not matter.
class DefaultAcl : public ::testing::TestWithParam<bool> {
 protected:
  DefaultAcl() : fs_(GetParam() ? OverlaySpec{.lower = {{"d", Dir{}}}} : OverlaySpec{.upper = {{"d", Dir{}}}}) {
    fs_.unmount();
    EXPECT_OK(set_acl(GetParam() ? fs_.lower("d") : fs_.upper("d"), kDefault, true));
    fs_.mount();
    old_umask_ = ::umask(077);
  }
  ~DefaultAcl() override { ::umask(old_umask_); }
  static constexpr const char* kDefault = "u::rwx,u:7:rwx,g::r-x,m::rwx,o::r-x";
  OverlayFixture fs_;
  mode_t old_umask_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Acl, DefaultAcl, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "InLower" : "InUpper"; });

TEST_P(DefaultAcl, IsInheritedByFiles) {
  EXPECT_OK(create_file(fs_ / "d/f", "", 0666));
  EXPECT_EQ(get_acl(fs_ / "d/f"), "u::rw-,u:7:rwx,g::r-x,m::rw-,o::r--");
  EXPECT_EQ(octal(mode_of(fs_ / "d/f")), "0664");
  EXPECT_EQ(get_acl(fs_.upper("d/f")), get_acl(fs_ / "d/f"));
}

TEST_P(DefaultAcl, IsInheritedByDirectoriesWithTheDefault) {
  EXPECT_OK(::mkdir((fs_ / "d/s").c_str(), 0777));
  EXPECT_EQ(get_acl(fs_ / "d/s"), "u::rwx,u:7:rwx,g::r-x,m::rwx,o::r-x");
  EXPECT_EQ(get_acl(fs_ / "d/s", true), kDefault);
  EXPECT_EQ(octal(mode_of(fs_ / "d/s")), "0775");
  EXPECT_OK(create_file(fs_ / "d/s/f", "", 0600));
  EXPECT_EQ(get_acl(fs_ / "d/s/f"), "u::rw-,u:7:rwx,g::r-x,m::---,o::---");
}

TEST_P(DefaultAcl, IsInheritedByFifos) {
  EXPECT_OK(::mkfifo((fs_ / "d/p").c_str(), 0666));
  EXPECT_EQ(octal(mode_of(fs_ / "d/p")), "0664");
  EXPECT_EQ(get_acl(fs_ / "d/p"), "u::rw-,u:7:rwx,g::r-x,m::rw-,o::r--");
}

TEST_P(DefaultAcl, IsNotForSymlinks) {
  EXPECT_OK(::symlink("x", (fs_ / "d/l").c_str()));
  EXPECT_EQ(octal(mode_of(fs_ / "d/l")), "0777");
  EXPECT_EQ(list_xattrs(fs_ / "d/l"), (Names{}));
}

TEST_P(DefaultAcl, IsInheritedOverAWhiteoutToo) {
  EXPECT_OK(create_file(fs_ / "d/f", "", 0666));
  EXPECT_OK(::unlink((fs_ / "d/f").c_str()));
  EXPECT_OK(create_file(fs_ / "d/f", "", 0666));
  EXPECT_EQ(octal(mode_of(fs_ / "d/f")), "0664");
}

TEST_P(DefaultAcl, DoesNotTouchAFileThatIsMovedIn) {
  EXPECT_OK(create_file(fs_ / "f", "", 0640));
  EXPECT_OK(::rename((fs_ / "f").c_str(), (fs_ / "d/f").c_str()));
  EXPECT_EQ(list_xattrs(fs_ / "d/f"), (Names{}));
  EXPECT_EQ(octal(mode_of(fs_ / "d/f")), "0600");
}

TEST(Acl, CopyUpDoesNotInheritFromTheUppersDefault) {
  // The upper's parent has a default ACL: the copy must have the lower's mode and none of it.
  OverlayFixture fs({.lower = {{"f", File{"x", 0640}}, {"g", File{"x", 0604}}}});
  fs.unmount();
  EXPECT_OK(set_acl(fs.upper(), "u::rwx,u:7:rwx,g::r-x,m::rwx,o::r-x", true));
  EXPECT_OK(set_acl(fs.work(), "u::rwx,u:7:rwx,g::r-x,m::rwx,o::r-x", true));
  fs.mount();
  EXPECT_OK(append_file(fs / "f", "y"));
  EXPECT_OK(::chmod((fs / "g").c_str(), 0600));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0640");
  EXPECT_EQ(get_acl(fs / "f"), "u::rw-,g::r--,o::---");
  EXPECT_EQ(get_acl(fs / "g"), "u::rw-,g::---,o::---");
}

TEST(Acl, NoaclMountRefusesThem) {
  NOT_ON(kAnyKernel, "kernel overlayfs has no noacl");
  OverlayFixture fs({.lower = {{"f", File{"x"}}}, .options = "noacl"});
  EXPECT_ERRNO(set_acl(fs / "f", "u::rw-,u:7:rw-,g::r--,m::rw-,o::r--"), EOPNOTSUPP);
  EXPECT_EQ(get_xattr(fs / "f", "system.posix_acl_access"), "<EOPNOTSUPP>");
}

}  // namespace
}  // namespace vellum::test
