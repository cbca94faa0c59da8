#include "sys/cpus.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace vellum::sys {
namespace {

TEST(CpuList, ReadsRangesAndSingles) {
  EXPECT_EQ(*parse_cpu_list("0\n"), std::vector<unsigned>({0}));
  EXPECT_EQ(*parse_cpu_list("0-3"), std::vector<unsigned>({0, 1, 2, 3}));
  EXPECT_EQ(*parse_cpu_list("1,4-5,9\n"), std::vector<unsigned>({1, 4, 5, 9}));
}

TEST(CpuList, RefusesAnythingElse) {
  for (const char* text : {"", "\n", "a", "1-", "-1", "3-1", "1,,2", "1,", "0-99999999999", "1 2"})
    EXPECT_EQ(parse_cpu_list(text).error(), EINVAL) << text;
}

TEST(Cpus, OnlineOnesArePossible) {
  ASSERT_TRUE(possible_cpus());
  const auto online = online_cpus();
  ASSERT_TRUE(online);
  for (const unsigned cpu : *online) EXPECT_LT(cpu, *possible_cpus());
}

TEST(Cpus, AThreadStaysWhereItIsPut) {
  const unsigned last = online_cpus()->back();
  std::thread([last] {
    if (!stay_on_cpu(last)) return;  // a CPU that this process may not use
    EXPECT_EQ(::sched_getcpu(), static_cast<int>(last));
  }).join();
  EXPECT_FALSE(stay_on_cpu(60000));
}

}  // namespace
}  // namespace vellum::sys
