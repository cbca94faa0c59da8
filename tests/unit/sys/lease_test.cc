#include "sys/lease.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "sys/file.h"
#include "sys/mapping.h"
#include "sys/signals.h"
#include "unit/temp_dir.h"

namespace vellum::sys {
namespace {

class LeaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(block_signals({SIGIO}));
    vellum::testing::write_file(path_, text_);
  }
  UniqueFd opened(int flags) const { return UniqueFd(::open(path_.c_str(), flags | O_CLOEXEC)); }

  const vellum::testing::TempDir dir_{"/dev/shm"};  // whatever /tmp is: a tmpfs
  const std::string path_ = dir_ / "file";
  const std::string text_ = std::string(10000, 'x') + "end";
};

TEST_F(LeaseTest, WritersWaitAndWeAreAsked) {
  auto asked = SignalQueue::create({SIGIO});
  ASSERT_TRUE(asked);
  auto lease = ReadLease::take(opened(O_RDONLY));
  ASSERT_TRUE(lease) << lease.error().message();
  EXPECT_TRUE(opened(O_RDONLY));
  EXPECT_FALSE(opened(O_WRONLY | O_NONBLOCK));
  EXPECT_EQ(errno, EWOULDBLOCK);
  EXPECT_EQ(asked->next().value_or(0), SIGIO);
  EXPECT_TRUE(lease->give_back());
  EXPECT_TRUE(opened(O_WRONLY | O_NONBLOCK));
  EXPECT_EQ(lease->give_back().error(), ETIMEDOUT);
}

TEST_F(LeaseTest, NoneWhereSomebodyMayBeWriting) {
  const UniqueFd writer = opened(O_WRONLY);
  EXPECT_EQ(ReadLease::take(opened(O_RDONLY)).error(), EAGAIN);
  // A writable memfd counts as no writer.
  EXPECT_EQ(ReadLease::take(UniqueFd(::memfd_create("lease", MFD_CLOEXEC))).error(), EOPNOTSUPP);
  EXPECT_EQ(ReadLease::take(UniqueFd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC))).error(), EOPNOTSUPP);
}

TEST_F(LeaseTest, AMappingDetachedStaysAsItWas) {
  const UniqueFd file = opened(O_RDONLY);
  auto mapping = FileMapping::map(file, text_.size());
  ASSERT_TRUE(mapping);
  const auto* before = mapping->bytes().data();
  ASSERT_TRUE(mapping->detach(file));
  ASSERT_EQ(::truncate(path_.c_str(), 0), 0);
  EXPECT_EQ(mapping->bytes().data(), before);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(before), mapping->bytes().size()), text_);
  EXPECT_EQ(mapping->detach(file).error(), EIO);  // it is shorter now; nothing has changed
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(before), mapping->bytes().size()), text_);
}

}  // namespace
}  // namespace vellum::sys
