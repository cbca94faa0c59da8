#include "sys/caller_creds.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "sys/file.h"
#include "unit/temp_dir.h"

namespace vellum::sys {
namespace {

using testing::TempDir;

// In a thread of its own: the scope changes what belongs to the thread.
template <class Body>
void in_thread(Body body) {
  std::thread(body).join();
}

TEST(CallerCreds, NewFilesBelongToTheCaller) {
  if (!testing::is_root()) GTEST_SKIP() << "needs root";
  TempDir dir;
  UniqueFd root = open(dir.path().c_str(), O_PATH | O_DIRECTORY).value();
  in_thread([&] {
    {
      CallerCreds creds(1234, 5678, 027);
      EXPECT_TRUE(creds.owned());
      EXPECT_TRUE(openat(root, "f", O_CREAT | O_WRONLY, 0666));
      EXPECT_TRUE(mkdir(root, "d", 0777));
    }
    EXPECT_TRUE(openat(root, "after", O_CREAT | O_WRONLY, 0666));
  });
  auto file = statx(root, "f").value();
  EXPECT_EQ(file.uid, 1234U);
  EXPECT_EQ(file.gid, 5678U);
  EXPECT_EQ(file.mode & 07777, 0640U);
  EXPECT_EQ(statx(root, "d")->mode & 07777, 0750U);
  auto after = statx(root, "after").value();
  EXPECT_EQ(after.uid, 0U) << "the scope is over";
  EXPECT_EQ(after.mode & 07777, 0666U) << "and the umask is none";
}

TEST(CallerCreds, KeepsCapabilities) {
  if (!testing::is_root()) GTEST_SKIP() << "needs root";
  TempDir dir;
  UniqueFd root = open(dir.path().c_str(), O_PATH | O_DIRECTORY).value();
  ASSERT_EQ(::chmod(dir.path().c_str(), 0700), 0);
  in_thread([&] {
    CallerCreds creds(1234, 5678, 0);
    EXPECT_TRUE(openat(root, "f", O_CREAT | O_WRONLY, 0600)) << "a directory closed to uid 1234";
  });
}

TEST(CallerCreds, ThreadsDoNotDisturbEachOther) {
  if (!testing::is_root()) GTEST_SKIP() << "needs root";
  TempDir dir;
  UniqueFd root = open(dir.path().c_str(), O_PATH | O_DIRECTORY).value();
  std::vector<std::thread> threads;
  for (std::uint32_t id = 1; id <= 4; ++id) {
    threads.emplace_back([&root, id] {
      for (int i = 0; i < 200; ++i) {
        const std::string name = std::to_string(id) + "-" + std::to_string(i);
        {
          CallerCreds creds(1000 + id, 2000 + id, id);
          ASSERT_TRUE(openat(root, name.c_str(), O_CREAT | O_WRONLY, 0777));
        }
        auto st = statx(root, name.c_str()).value();
        ASSERT_EQ(st.uid, 1000 + id);
        ASSERT_EQ(st.gid, 2000 + id);
        ASSERT_EQ(st.mode & 0777, 0777 & ~id);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(CallerCreds, OneselfNeedsNoRights) {
  in_thread([] {
    CallerCreds creds(::geteuid(), ::getegid(), 0);
    EXPECT_TRUE(creds.owned());
  });
}

}  // namespace
}  // namespace vellum::sys
