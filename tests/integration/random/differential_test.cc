#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>

#include "differential.h"
#include "parameters.h"

namespace vellum::random_test {
namespace {

// For a failure that does not come again at once.
std::string how_often(Backend backend, std::uint64_t seed) {
  constexpr int kRuns = 30;
  int failed = 0;
  std::string last;
  for (int i = 0; i < kRuns; ++i) {
    Random random(seed);
    Case test = random_case(random, backend);
    const std::string failure = run_case(test, backend, random, parameters().ops);
    if (failure.empty()) continue;
    ++failed;
    last = "; the last time: " + failure;
  }
  return fmt::format("fails in {} of {} further runs{}", failed, kRuns, last);
}

// The same operations on an overlay and on a plain directory: same errors, same answers, same tree.
TEST(Differential, OverlayBehavesAsAPlainDirectory) {
  const Backend backend = tested_backend();
  if (!available(backend)) GTEST_FAIL() << name_of(backend) << " is not available (VELLUM_BIN unset?)";
  const Parameters& run = parameters();
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  std::uint64_t done = 0;
  for (; run.sequences == 0 ? seconds() < run.seconds : done < run.sequences; ++done) {
    const std::uint64_t seed = run.seed + done;
    Random random(seed);
    Case test = random_case(random, backend);
    const std::string failure = run_case(test, backend, random, run.ops);
    if (failure.empty()) continue;
    const std::string replay = fmt::format("replay with: --backend {} --seed {} --sequences 1 --ops {}\n  {}\n",
                                           name_of(backend), seed, run.ops, failure);
    const auto smaller = shrink(test, backend, 20);
    if (!smaller) GTEST_FAIL() << replay << how_often(backend, seed) << ":\n" << describe(test);
    GTEST_FAIL() << replay << "shrunk to:\n" << describe(smaller->first) << "  " << smaller->second;
  }
  fmt::print("{} sequences of {} operations on {} from seed {} in {:.1f} s\n", done, run.ops, name_of(backend),
             run.seed, seconds());
}

}  // namespace
}  // namespace vellum::random_test
