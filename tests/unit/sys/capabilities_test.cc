#include "sys/capabilities.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "unit/temp_dir.h"

namespace vellum::sys {
namespace {

TEST(Privileges, TellsTheIds) {
  Privileges got = privileges();
  EXPECT_EQ(got.euid, ::geteuid());
  EXPECT_EQ(got.egid, ::getegid());
  EXPECT_TRUE(!got.sys_admin || testing::is_root());
}

// Of one thread, as everything here is.
void in_thread(const std::function<void()>& what) { std::thread(what).join(); }

TEST(Capabilities, DroppedOnesAreGoneForThisThreadAndComeBack) {
  if (!testing::is_root()) GTEST_SKIP() << "needs capabilities to drop";
  in_thread([] {
    auto now = Capabilities::of_thread();
    ASSERT_TRUE(now);
    ASSERT_TRUE(now->effective(CAP_FSETID));
    now->drop(CAP_FSETID);
    ASSERT_TRUE(now->apply());
    EXPECT_FALSE(Capabilities::of_thread()->effective(CAP_FSETID));
    EXPECT_TRUE(Capabilities::of_thread()->effective(CAP_CHOWN));
    now->keep_only({CAP_SETUID});
    ASSERT_TRUE(now->apply());
    EXPECT_FALSE(Capabilities::of_thread()->effective(CAP_CHOWN));
    EXPECT_TRUE(Capabilities::of_thread()->effective(CAP_SETUID));
    now->raise_all();
    ASSERT_TRUE(now->apply());
    EXPECT_TRUE(Capabilities::of_thread()->effective(CAP_FSETID));
  });
  EXPECT_TRUE(Capabilities::of_thread()->effective(CAP_FSETID));
}

}  // namespace
}  // namespace vellum::sys
