#include "sys/fault_guard.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "unit/temp_dir.h"

namespace vellum::sys {
namespace {

constexpr std::size_t kPage = 4096, kPages = 8;

// A file of pages: 'a', 'b', ... That a disk fails is shown by a file that is cut short: the same signal.
class FaultGuardTest : public ::testing::Test {
 protected:
  // Before the first guard looks what there was: a sanitizer's own handler would report what is meant to happen.
  static void SetUpTestSuite() { ::signal(SIGBUS, SIG_DFL); }
  void SetUp() override {
    write();
    file_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    auto mapping = FileMapping::map(file_, kPage * kPages);
    ASSERT_TRUE(mapping);
    mapping_ = std::move(*mapping);
    auto guard = FaultGuard::create(mapping_, file_);
    ASSERT_TRUE(guard) << guard.error().message();
    guard_ = std::move(*guard);
  }
  void write() const {
    std::string content;
    for (std::size_t i = 0; i < kPages; ++i) content += std::string(kPage, static_cast<char>('a' + i));
    vellum::testing::write_file(path_, content);
  }
  void cut(std::size_t pages) const {
    ASSERT_EQ(::ftruncate(FdRef(file_).raw(), static_cast<off_t>(pages * kPage)), 0);
  }
  // The byte in the middle of a page, or '!': not to be used.
  char read(std::size_t page) {
    const auto mark = guard_->mark();
    const char byte = fetch(mapping_.bytes().data() + page * kPage + kPage / 2);
    return guard_->whole_since(mark) ? byte : '!';
  }
  // What is read while another thread maps the file again is not used: no race to report.
  __attribute__((noinline, no_sanitize("thread"))) static char fetch(const std::byte* from) {
    return static_cast<char>(*static_cast<const volatile std::byte*>(from));
  }

  const vellum::testing::TempDir dir_{"/dev/shm"};
  const std::string path_ = dir_ / "file";
  UniqueFd file_;
  FileMapping mapping_;
  std::unique_ptr<FaultGuard> guard_;
};

TEST_F(FaultGuardTest, AFaultCostsThatReadAlone) {
  EXPECT_EQ(read(2), 'c');
  cut(2);
  EXPECT_EQ(read(2), '!');
  EXPECT_EQ(guard_->last_fault(), 2 * kPage + kPage / 2);
  EXPECT_EQ(read(1), 'b');
  EXPECT_EQ(read(7), '!');
  EXPECT_EQ(read(2), '!');
  write();
  EXPECT_EQ(read(2), 'c');
  EXPECT_EQ(read(7), 'h');
}

TEST_F(FaultGuardTest, WhoReadMeanwhileIsToldToo) {
  const auto mark = guard_->mark();
  cut(2);
  EXPECT_EQ(read(3), '!');
  EXPECT_FALSE(guard_->whole_since(mark));
}

TEST_F(FaultGuardTest, ManyReadersGetTheFilesBytesOrNone) {
  std::atomic<bool> over{false};
  std::atomic<int> wrong{0}, right{0}, told{0};
  {
    std::vector<std::jthread> readers;
    for (std::size_t t = 0; t < 4; ++t)
      readers.emplace_back([&, t] {
        for (std::size_t i = t; !over; ++i) {
          const std::size_t page = i % kPages;
          const char byte = read(page);
          ++(byte == '!' ? told : byte == static_cast<char>('a' + page) ? right : wrong);
        }
      });
    for (int i = 0; i < 300; ++i) {
      cut(static_cast<std::size_t>(i) % kPages);
      std::this_thread::yield();
      write();
    }
    over = true;
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(right, 0);
  EXPECT_GT(told, 0);
}

TEST_F(FaultGuardTest, ACopyHasNoFaults) {
  cut(2);
  EXPECT_EQ(read(3), '!');
  EXPECT_EQ(guard_->detach().error(), EIO);  // the copy cannot be had
  EXPECT_EQ(read(3), '!');
  EXPECT_EQ(read(0), 'a');
  write();
  ASSERT_TRUE(guard_->detach());
  cut(0);
  EXPECT_EQ(read(3), 'd');
}

TEST_F(FaultGuardTest, OtherFaultsAreWhatTheyWere) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto other = FileMapping::map(file_, kPage * kPages);
  ASSERT_TRUE(other);
  cut(2);
  const ::testing::KilledBySignal as_ever(SIGBUS);
  EXPECT_EXIT(static_cast<void>(*static_cast<const volatile std::byte*>(other->bytes().data() + 5 * kPage)), as_ever,
              "");
  EXPECT_EXIT(::raise(SIGBUS), as_ever, "");
}

TEST_F(FaultGuardTest, ThereIsRoomForSoManyAndForTheNextWhenOneHasGone) {
  std::vector<std::unique_ptr<FaultGuard>> guards;
  for (;;) {
    auto guard = FaultGuard::create(mapping_, file_);
    if (!guard) {
      EXPECT_EQ(guard.error(), ENOSPC);
      break;
    }
    guards.push_back(std::move(*guard));
  }
  EXPECT_EQ(guards.size(), FaultGuard::kMost - 1);
  guards.pop_back();
  EXPECT_TRUE(FaultGuard::create(mapping_, file_));
}

}  // namespace
}  // namespace vellum::sys
