#include "sys/uring_permit.h"

#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <optional>
#include <string>

#include "unit/temp_dir.h"

namespace vellum::sys {
namespace {

class UringPermitTest : public ::testing::Test {
 protected:
  void write(const std::string& value) { std::ofstream(path_) << value; }
  std::string read() {
    std::string value;
    std::getline(std::ifstream(path_), value);
    return value;
  }
  vellum::testing::TempDir dir_;
  std::string path_ = dir_.path() + "/switch";
};

TEST_F(UringPermitTest, TurnsOnAndOffAgain) {
  write("N\n");
  {
    const auto permit = UringPermit::take(path_.c_str());
    ASSERT_TRUE(permit);
    EXPECT_EQ(read(), "Y");
  }
  EXPECT_EQ(read(), "N");
}

TEST_F(UringPermitTest, LeavesOnWhatWasOn) {
  write("Y\n");
  ASSERT_TRUE(UringPermit::take(path_.c_str()));
  EXPECT_EQ(read(), "Y");
}

TEST_F(UringPermitTest, TheSecondWaitsForTheFirst) {
  write("N\n");
  auto first = UringPermit::take(path_.c_str());
  std::optional<UringPermit> held(std::move(*first));
  auto second = std::async(std::launch::async, [this] {
    const auto permit = UringPermit::take(path_.c_str());
    return permit && read() == "Y";
  });
  EXPECT_EQ(second.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  held.reset();
  EXPECT_TRUE(second.get());
  EXPECT_EQ(read(), "N");
}

TEST_F(UringPermitTest, WhatIsKeptStaysOn) {
  write("Y\n");
  auto kept = UringPermit::keep(path_.c_str());
  ASSERT_TRUE(kept);
  std::optional<UringPermit> held(std::move(*kept));
  EXPECT_TRUE(UringPermit::keep(path_.c_str()));  // several may
  auto taker = std::async(std::launch::async, [this] { return UringPermit::take(path_.c_str()).has_value(); });
  EXPECT_EQ(taker.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  held.reset();
  EXPECT_TRUE(taker.get());
  EXPECT_EQ(read(), "Y");
}

TEST_F(UringPermitTest, WhatIsOnForAMomentIsNotKept) {
  write("N\n");
  EXPECT_EQ(UringPermit::keep(path_.c_str()).error(), EOPNOTSUPP);
  auto taken = UringPermit::take(path_.c_str());
  std::optional<UringPermit> held(std::move(*taken));
  auto keeper = std::async(std::launch::async, [this] { return UringPermit::keep(path_.c_str()).error(); });
  EXPECT_EQ(keeper.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  held.reset();
  EXPECT_EQ(keeper.get(), EOPNOTSUPP);
}

TEST_F(UringPermitTest, SaysWhyNot) {
  EXPECT_EQ(UringPermit::keep(path_.c_str()).error(), ENOENT);
  EXPECT_EQ(UringPermit::take(path_.c_str()).error(), ENOENT);
}

}  // namespace
}  // namespace vellum::sys
