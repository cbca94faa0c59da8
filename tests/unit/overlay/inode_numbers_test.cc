#include "overlay/inode_numbers.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

namespace vellum::overlay {
namespace {

constexpr dev_t kA = 10, kB = 20, kLate = 30;
constexpr std::uint64_t kHuge = 1ULL << 60;  // a number that leaves the index no room

struct Numbers {
  Numbers(XinoMode mode, bool ino32, std::initializer_list<dev_t> devices) : it(mode, ino32) {
    for (dev_t device : devices) it.add_device(device);
  }
  InodeNumbers it;
};

TEST(InodeNumbers, OneDeviceShowsRealNumbers) {
  for (XinoMode mode : {XinoMode::kOff, XinoMode::kAuto, XinoMode::kOn}) {
    Numbers numbers(mode, false, {kA, kA, kA});
    for (std::uint64_t ino : {std::uint64_t{2}, std::uint64_t{0xffffffff}, kHuge}) {
      EXPECT_EQ(numbers.it.present(kA, ino), ino);
    }
  }
}

TEST(InodeNumbers, UpperKeepsRealNumbersWithXino) {
  Numbers numbers(XinoMode::kAuto, false, {kA, kB});
  EXPECT_EQ(numbers.it.present(kA, 77), 77U);
  EXPECT_NE(numbers.it.present(kB, 77), 77U);
}

TEST(InodeNumbers, StableUniqueAndNeverReserved) {
  for (XinoMode mode : {XinoMode::kOff, XinoMode::kAuto, XinoMode::kOn}) {
    for (bool ino32 : {false, true}) {
      Numbers numbers(mode, ino32, {kA, kB});
      std::set<std::uint64_t> seen;
      for (dev_t device : {kA, kB, kLate}) {  // kLate: mounted inside a layer
        for (std::uint64_t ino : {std::uint64_t{2}, std::uint64_t{3}, std::uint64_t{0xfffffffff}, kHuge, kHuge + 1}) {
          std::uint64_t number = numbers.it.present(device, ino);
          EXPECT_TRUE(seen.insert(number).second) << device << ' ' << ino;
          EXPECT_GE(number, 2U);
          EXPECT_EQ(numbers.it.present(device, ino), number);
          EXPECT_TRUE(!ino32 || number <= 0xffffffffU);
        }
      }
    }
  }
}

TEST(InodeNumbers, XinoIsTheSameInTheNextMount) {
  Numbers first(XinoMode::kOn, false, {kA, kB}), second(XinoMode::kOn, false, {kA, kB});
  ASSERT_NE(first.it.present(kB, 5), 0U);
  for (std::uint64_t ino : {std::uint64_t{9}, std::uint64_t{5}, kHuge}) {
    EXPECT_EQ(first.it.present(kB, ino), second.it.present(kB, ino));
  }
}

TEST(InodeNumbers, ADeviceAnnouncedTwiceIsOne) {
  Numbers numbers(XinoMode::kOff, false, {kA, kA});
  EXPECT_EQ(numbers.it.present(kA, 12345), 12345U);
}

TEST(InodeNumbers, AdoptedUntilDisowned) {
  Numbers numbers(XinoMode::kAuto, false, {kA});
  EXPECT_EQ(numbers.it.adopted(5), std::nullopt);
  numbers.it.adopt(5, 500);
  EXPECT_EQ(numbers.it.adopted(5), 500U);
  numbers.it.adopt(5, 501);
  EXPECT_EQ(numbers.it.adopted(5), 501U);
  numbers.it.disown(5);
  EXPECT_EQ(numbers.it.adopted(5), std::nullopt);
  numbers.it.disown(5);
}

TEST(InodeNumbers, ThreadsAgree) {
  Numbers numbers(XinoMode::kOff, true, {kA, kB});
  std::vector<std::vector<std::uint64_t>> got(4);
  std::vector<std::thread> threads;
  for (auto& mine : got) {
    threads.emplace_back([&numbers, &mine] {
      for (std::uint64_t ino = 2; ino < 500; ++ino) mine.push_back(numbers.it.present(ino % 2 != 0 ? kA : kB, ino));
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& other : got) EXPECT_EQ(other, got[0]);
  EXPECT_EQ(std::set(got[0].begin(), got[0].end()).size(), got[0].size());
}

}  // namespace
}  // namespace vellum::overlay
