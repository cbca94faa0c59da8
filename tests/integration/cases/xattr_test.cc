// Extended attributes of callers.
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

// tmpfs and btrfs hold large values; ext4 keeps all of a file's in one block.
bool upper_holds_large_values() { return default_upper_store() != Store::kExt4; }

enum class From { kLower, kUpper };
class EveryLayerXattr : public ::testing::TestWithParam<From> {
 protected:
  static OverlaySpec with(Tree tree) {
    if (GetParam() == From::kLower) return {.lower = std::move(tree)};
    return {.lower = {{"other", File{}}}, .upper = std::move(tree)};
  }
};
INSTANTIATE_TEST_SUITE_P(Xattr, EveryLayerXattr, ::testing::Values(From::kLower, From::kUpper),
                         [](const auto& param) { return param.param == From::kLower ? "Lower" : "Upper"; });

TEST_P(EveryLayerXattr, SetGetListRemove) {
  OverlayFixture fs(with({{"f", File{.content = "x", .xattrs = {{"user.old", "o"}}}}, {"d", Dir{}}}));
  for (const char* name : {"f", "d"}) {
    EXPECT_OK(set_xattr(fs / name, "user.new", "n")) << name;
    EXPECT_EQ(get_xattr(fs / name, "user.new"), "n");
    EXPECT_EQ(get_xattr(fs.upper(name), "user.new"), "n");
  }
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{"user.new", "user.old"}));
  EXPECT_OK(::removexattr((fs / "f").c_str(), "user.old"));
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{"user.new"}));
  fs.remount();
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{"user.new"}));
  EXPECT_EQ(read_file(fs / "f"), "x");
}

TEST_P(EveryLayerXattr, CreateAndReplaceFlags) {
  OverlayFixture fs(with({{"f", File{.content = "x", .xattrs = {{"user.a", "1"}}}}}));
  EXPECT_ERRNO(set_xattr(fs / "f", "user.a", "2", XATTR_CREATE), EEXIST);
  EXPECT_ERRNO(set_xattr(fs / "f", "user.b", "2", XATTR_REPLACE), ENODATA);
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{"user.a"}));
  EXPECT_OK(set_xattr(fs / "f", "user.a", "2", XATTR_REPLACE));
  EXPECT_OK(set_xattr(fs / "f", "user.b", "3", XATTR_CREATE));
  EXPECT_EQ(get_xattr(fs / "f", "user.a"), "2");
  EXPECT_EQ(get_xattr(fs / "f", "user.b"), "3");
}

TEST_P(EveryLayerXattr, MissingOneIsEnodata) {
  OverlayFixture fs(with({{"f", File{}}}));
  EXPECT_EQ(get_xattr(fs / "f", "user.none"), "<ENODATA>");
  EXPECT_ERRNO(::removexattr((fs / "f").c_str(), "user.none"), ENODATA);
}

TEST_P(EveryLayerXattr, SmallBufferIsErange) {
  OverlayFixture fs(with({{"f", File{.content = "", .xattrs = {{"user.a", "0123456789"}}}}}));
  char buffer[4];
  EXPECT_ERRNO(::getxattr((fs / "f").c_str(), "user.a", buffer, sizeof buffer), ERANGE);
  EXPECT_ERRNO(::listxattr((fs / "f").c_str(), buffer, sizeof buffer), ERANGE);
  EXPECT_EQ(::getxattr((fs / "f").c_str(), "user.a", nullptr, 0), 10);
  EXPECT_EQ(::listxattr((fs / "f").c_str(), nullptr, 0), 7);
}

TEST_P(EveryLayerXattr, EmptyAndBinaryValues) {
  OverlayFixture fs(with({{"f", File{}}}));
  std::string binary("\0\xff\n\0", 4);
  EXPECT_OK(set_xattr(fs / "f", "user.empty", ""));
  EXPECT_OK(set_xattr(fs / "f", "user.binary", binary));
  EXPECT_EQ(get_xattr(fs / "f", "user.empty"), "");
  EXPECT_EQ(get_xattr(fs / "f", "user.binary"), binary);
}

TEST(Xattr, ValueOf64KiB) {
  if (!upper_holds_large_values()) return;
  OverlayFixture fs({.lower = {{"f", File{}}}});
  std::string value(65536, 'v');
  EXPECT_OK(set_xattr(fs / "f", "user.big", value));
  EXPECT_EQ(get_xattr(fs / "f", "user.big") == value, true);
  EXPECT_EQ(get_xattr(fs.upper("f"), "user.big") == value, true);
  EXPECT_ERRNO(set_xattr(fs / "f", "user.big", std::string(65537, 'v')), E2BIG);
}

TEST(Xattr, ValueOf64KiBIsCopiedUp) {
  if (!upper_holds_large_values()) return;
  std::string value(65536, 'v');
  OverlayFixture fs({.lower = {{"f", File{.content = "x", .xattrs = {{"user.big", value}}}}}});
  EXPECT_OK(append_file(fs / "f", "y"));
  EXPECT_EQ(get_xattr(fs.upper("f"), "user.big") == value, true);
}

TEST(Xattr, ThousandNames) {
  if (!upper_holds_large_values()) return;
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  for (int i = 0; i < 1000; ++i) {
    ASSERT_OK(set_xattr(fs / "f", "user.name" + std::to_string(i), std::to_string(i))) << i;
  }
  EXPECT_EQ(list_xattrs(fs / "f").size(), 1000u);
  EXPECT_EQ(get_xattr(fs / "f", "user.name777"), "777");
}

TEST(Xattr, NameOf255BytesAndOneMore) {
  OverlayFixture fs({.lower = {{"f", File{}}}});
  std::string name = "user." + std::string(250, 'n');
  EXPECT_OK(set_xattr(fs / "f", name, "1"));
  EXPECT_EQ(get_xattr(fs / "f", name), "1");
  EXPECT_ERRNO(set_xattr(fs / "f", name + "n", "1"), ERANGE);
}

TEST(Xattr, UnknownNamespaceIsEopnotsupp) {
  OverlayFixture fs({.lower = {{"f", File{}}}});
  EXPECT_ERRNO(set_xattr(fs / "f", "nonsense.a", "1"), EOPNOTSUPP);
  EXPECT_ERRNO(set_xattr(fs / "f", "user.", "1"), EINVAL);
}

TEST(Xattr, UserOnesAreNotForSymlinksAndSpecialFiles) {
  OverlayFixture fs({.lower = {{"l", Symlink{"x"}}, {"p", Fifo{}}}});
  EXPECT_ERRNO(set_xattr(fs / "l", "user.a", "1"), EPERM);
  EXPECT_ERRNO(set_xattr(fs / "p", "user.a", "1"), EPERM);
  EXPECT_EQ(get_xattr(fs / "l", "user.a"), "<ENODATA>");
  EXPECT_EQ(list_xattrs(fs / "l"), (Names{}));
}

TEST(Xattr, TrustedOnesForRootOnly) {
  NOT_ON(kUnprivileged, "trusted. xattrs need CAP_SYS_ADMIN in the first user namespace");
  OverlayFixture fs({.lower = {{"f", File{"x", 0666}}, {"l", Symlink{"x"}}}});
  EXPECT_OK(set_xattr(fs / "f", "trusted.a", "1"));
  EXPECT_OK(set_xattr(fs / "l", "trusted.a", "1"));
  EXPECT_EQ(get_xattr(fs / "f", "trusted.a"), "1");
  EXPECT_EQ(get_xattr(fs / "l", "trusted.a"), "1");
  EXPECT_EQ(get_xattr(fs.upper("l"), "trusted.a"), "1");
  EXPECT_EQ(as_ids(7, 7, [&] { return set_xattr(fs / "f", "trusted.b", "1") < 0 ? errno : 0; }), EPERM);
  EXPECT_EQ(as_ids(7, 7, [&] { return get_xattr(fs / "f", "trusted.a") == "<ENODATA>" ? 0 : 1; }), 0);
}

TEST(Xattr, TrustedOnesAreNotListedToOthers) {
  NOT_ON(kUnprivileged, "trusted. xattrs need CAP_SYS_ADMIN in the first user namespace");
  OverlayFixture fs({.lower = {{"f", File{.content = "x", .xattrs = {{"trusted.a", "1"}, {"user.b", "1"}}}}}});
  EXPECT_EQ(as_ids(7, 7, [&] { return list_xattrs(fs / "f") == Names{"user.b"} ? 0 : 1; }), 0);
}

TEST(Xattr, SecurityOnes) {
  NOT_ON(kUnprivileged, "security. xattrs need CAP_SYS_ADMIN in the first user namespace");
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  EXPECT_OK(set_xattr(fs / "f", "security.test", "1"));
  EXPECT_EQ(get_xattr(fs / "f", "security.test"), "1");
  EXPECT_EQ(get_xattr(fs.upper("f"), "security.test"), "1");
}

TEST(Xattr, CapabilitySetThroughTheMount) {
  NOT_ON(kVellumUser, "needs CAP_SETFCAP");
  OverlayFixture fs({.lower = {{"f", File{"x", 0755}}}});
  std::string cap("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
  EXPECT_OK(set_xattr(fs / "f", "security.capability", cap));
  EXPECT_NE(run("getcap '" + (fs / "f") + "'").output.find("cap_net_raw=ep"), std::string::npos);
  EXPECT_NE(run("getcap '" + fs.upper("f") + "'").output.find("cap_net_raw=ep"), std::string::npos);
}

TEST(Xattr, OwnerWithoutWritePermissionMayNotSetUserOnes) {
  NOT_ON(kVellumUser, "a plain user owns one uid only");
  OverlayFixture fs({.lower = {{"f", File{.content = "x", .mode = 0444, .uid = 8, .gid = 8}}}});
  EXPECT_EQ(as_ids(7, 7, [&] { return set_xattr(fs / "f", "user.b", "1") < 0 ? errno : 0; }), EACCES);
  EXPECT_EQ(as_ids(7, 7, [&] { return get_xattr(fs / "f", "user.b") == "<ENODATA>" ? 0 : 1; }), 0);
}

TEST(Xattr, ThroughDescriptors) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  Fd fd(fs / "f", O_RDONLY);
  EXPECT_OK(::fsetxattr(fd, "user.a", "1", 1, 0));
  char value = 0;
  EXPECT_EQ(::fgetxattr(fd, "user.a", &value, 1), 1);
  EXPECT_EQ(value, '1');
  EXPECT_EQ(get_xattr(fs / "f", "user.a"), "1");
  EXPECT_OK(::fremovexattr(fd, "user.a"));
  EXPECT_EQ(list_xattrs(fs / "f"), (Names{}));
}

TEST(Xattr, OfTheMountsRoot) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  EXPECT_OK(set_xattr(fs.root(), "user.a", "1"));
  EXPECT_EQ(get_xattr(fs.root(), "user.a"), "1");
  EXPECT_EQ(get_xattr(fs.upper(), "user.a"), "1");
}

TEST(Xattr, NoxattrsMountRefusesThem) {
  NOT_ON(kAnyKernel, "kernel overlayfs has no noxattrs");
  OverlayFixture fs({.lower = {{"f", File{.content = "x", .xattrs = {{"user.a", "1"}}}}}, .options = "noxattrs=1"});
  EXPECT_EQ(get_xattr(fs / "f", "user.a"), "<EOPNOTSUPP>");
  EXPECT_ERRNO(set_xattr(fs / "f", "user.b", "1"), EOPNOTSUPP);
  EXPECT_EQ(read_file(fs / "f"), "x");
}

}  // namespace
}  // namespace vellum::test
