#include "sys/walk.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/temp_dir.h"

namespace vellum::sys {
namespace {

constexpr dev_t kNowhere = ~dev_t{0};

class Walk : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::mkdir(path("dir").c_str(), 0755), 0);
    ASSERT_EQ(::mkdir(path("dir/sub").c_str(), 0755), 0);
  }
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
  void link(const std::string& target, const std::string& name) {
    ASSERT_EQ(::symlink(target.c_str(), path(name).c_str()), 0);
  }
  Errno error(const std::string& name, dev_t device = kNowhere) {
    const auto walked = walk_outside(path(name), device);
    return walked ? Errno(0) : walked.error();
  }
  ino_t number(const std::string& name) const {
    struct ::stat st {};
    EXPECT_EQ(::stat(path(name).c_str(), &st), 0);
    return st.st_ino;
  }
  testing::TempDir directory_;
};

TEST_F(Walk, LeadsWhereThePathDoes) {
  link("dir", "relative");
  link(path("dir/sub"), "absolute");
  link("absolute", "twice");
  for (const char* name :
       {"dir/sub", "relative/sub", "absolute", "twice", "dir/../dir//./sub/", "relative/../dir/sub"}) {
    const auto walked = walk_outside(path(name), kNowhere);
    ASSERT_TRUE(walked) << name;
    EXPECT_EQ(place_of(*walked)->ino, number("dir/sub")) << name;
  }
}

TEST_F(Walk, DoesNotEnterTheDevice) {
  const dev_t here = place_of(*walk_outside(path("dir"), kNowhere))->device;
  const dev_t top = place_of(*walk_outside("/", kNowhere))->device;
  for (const char* name : {"dir", "dir/sub", "dir/none"}) EXPECT_EQ(error(name, here), ELOOP) << name;
  EXPECT_TRUE(here == top || walk_outside("/", here));
}

TEST_F(Walk, EndsInALoop) {
  link("loop", "loop");
  EXPECT_EQ(error("loop"), ELOOP);
  EXPECT_EQ(error("loop/x"), ELOOP);
}

TEST_F(Walk, FollowsNoMagicLink) {
  EXPECT_FALSE(walk_outside("/proc/self/cwd", kNowhere));
  link("/proc/self/root", "magic");
  EXPECT_EQ(error("magic"), ELOOP);
}

TEST_F(Walk, SaysWhatIsNotThere) {
  ASSERT_EQ(::mknod(path("file").c_str(), S_IFREG | 0644, 0), 0);
  EXPECT_EQ(error("none"), ENOENT);
  EXPECT_EQ(error("file"), ENOTDIR);
  EXPECT_EQ(error("file/x"), ENOTDIR);
  EXPECT_EQ(walk_outside("dir", kNowhere).error(), EINVAL);
}

}  // namespace
}  // namespace vellum::sys
