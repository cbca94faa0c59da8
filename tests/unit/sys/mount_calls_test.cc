#include "sys/mount_calls.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "sys/file.h"
#include "unit/temp_dir.h"

namespace vellum::sys {
namespace {

bool in_memory(const std::string& path) {
  return lives_in_memory(sys::open(path.c_str(), O_PATH | O_DIRECTORY).value());
}

TEST(LivesInMemory, UnlessADiskMayLieBelow) {
  ASSERT_EQ(::geteuid(), 0U) << "mounting takes root";
  ASSERT_TRUE(enter_private_mount_namespace());
  const testing::TempDir room;
  const std::string top = room.path() + "/a b";  // a blank is \040 in the table of mounts
  ASSERT_EQ(::mkdir(top.c_str(), 0755), 0);
  ASSERT_EQ(::mount("none", top.c_str(), "tmpfs", 0, ""), 0);
  EXPECT_TRUE(in_memory(top));
  for (const char* name : {"/upper", "/upper/deep", "/upper/deep/er", "/upper2"})
    ASSERT_EQ(::mkdir((top + name).c_str(), 0755), 0);
  EXPECT_TRUE(in_memory(top + "/upper"));
  ASSERT_EQ(::mount("/proc", (top + "/upper/deep/er").c_str(), nullptr, MS_BIND, nullptr), 0);
  EXPECT_FALSE(in_memory(top + "/upper"));
  EXPECT_FALSE(in_memory(top));
  EXPECT_TRUE(in_memory(top + "/upper2"));
  ASSERT_EQ(::umount(((top + "/upper/deep/er")).c_str()), 0);
  EXPECT_TRUE(in_memory(top + "/upper"));
  EXPECT_FALSE(in_memory("/proc"));
  EXPECT_EQ(::umount(top.c_str()), 0);
}

}  // namespace
}  // namespace vellum::sys
