#include "overlay/xattr_names.h"

#include <gtest/gtest.h>

#include <vector>

namespace vellum::overlay {
namespace {

using namespace std::string_literals;

TEST(XattrNames, OrdinaryNamesPassBothWays) {
  for (const char* name : {"user.a", "trusted.a", "security.capability", "system.posix_acl_access", "user.overlay",
                           "user.overlayx.y", "trusted.overlay", "user.fuseoverlayfs", "user.containers.x"}) {
    EXPECT_EQ(to_disk_xattr(name), name);
    EXPECT_EQ(from_disk_xattr(name), name);
  }
}

TEST(XattrNames, MarksAreHidden) {
  for (const char* name :
       {"trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "user.overlay.metacopy",
        "trusted.overlay.overlay", "user.overlay.", "user.fuseoverlayfs.opaque", "user.fuseoverlayfs.override_stat",
        "security.fuseoverlayfs.override_stat", "user.containers.override_stat", "trusted.overlay.vellum.origin"}) {
    EXPECT_EQ(from_disk_xattr(name), std::nullopt) << name;
  }
}

TEST(XattrNames, ACallersMarkIsEscapedOneLevelAndComesBack) {
  struct Case {
    const char *seen, *disk;
  };
  for (auto [seen, disk] : {Case{"trusted.overlay.opaque", "trusted.overlay.overlay.opaque"},
                            Case{"user.overlay.opaque", "user.overlay.overlay.opaque"},
                            Case{"trusted.overlay.overlay.opaque", "trusted.overlay.overlay.overlay.opaque"},
                            Case{"user.overlay.overlay.overlay.x", "user.overlay.overlay.overlay.overlay.x"}}) {
    EXPECT_EQ(to_disk_xattr(seen), disk);
    EXPECT_EQ(from_disk_xattr(disk), seen);
  }
}

TEST(XattrNames, NothingACallerNamesIsAMarkOnDisk) {
  for (const char* name : {"trusted.overlay.opaque", "user.overlay.whiteout", "trusted.overlay.redirect",
                           "user.overlay.overlay.opaque", "trusted.overlay."}) {
    auto disk = to_disk_xattr(name);
    ASSERT_TRUE(disk);
    EXPECT_TRUE(disk->starts_with("trusted.overlay.overlay.") || disk->starts_with("user.overlay.overlay.")) << *disk;
  }
}

TEST(XattrNames, PeersMarksCannotBeSet) {
  for (const char* name : {"user.fuseoverlayfs.opaque", "security.fuseoverlayfs.x", "user.containers.override_stat"}) {
    EXPECT_EQ(to_disk_xattr(name).error(), EPERM) << name;
  }
}

TEST(XattrNames, AnEscapedNameMayGetTooLong) {
  const std::string fits = "user.overlay." + std::string(255 - 13 - 8, 'x');
  ASSERT_TRUE(to_disk_xattr(fits));
  EXPECT_EQ(to_disk_xattr(fits)->size(), 255U);
  EXPECT_EQ(to_disk_xattr(fits + "x").error(), ERANGE);
  EXPECT_EQ(to_disk_xattr("user." + std::string(250, 'x'))->size(), 255U);  // nothing to escape, nothing to refuse
}

TEST(XattrNames, ListsThatMakeNoSense) {
  std::vector<std::string> seen;
  for_each_xattr("\0\0user.a\0user.unended"s, [&](std::string_view name) { seen.emplace_back(name); });
  EXPECT_EQ(seen, (std::vector<std::string>{"user.a", "user.unended"}));
}

TEST(XattrNames, AclNames) {
  EXPECT_TRUE(is_acl_xattr("system.posix_acl_access"));
  EXPECT_TRUE(is_acl_xattr("system.posix_acl_default"));
  EXPECT_FALSE(is_acl_xattr("system.posix_acl_"));
  EXPECT_FALSE(is_acl_xattr("user.posix_acl_access"));
}

}  // namespace
}  // namespace vellum::overlay
