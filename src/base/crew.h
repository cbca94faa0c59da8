// Several threads for one piece of work.
//
//   run_crew(threads, [&] { while (const auto task = take()) do(*task); });
//
// `work` runs on the calling thread and on up to `threads` - 1 others, and is to do whatever is left. Returns when all
// of them are through. Where the system gives no more threads, fewer do the same. `work` must not throw.
#pragma once

#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace vellum {

template <class Work>
void run_crew(std::uint64_t threads, const Work& work) {
  std::vector<std::jthread> others;
  try {
    while (others.size() + 1 < threads) others.emplace_back([&work] { work(); });
  } catch (const std::system_error&) {
    // No more to be had.
  }
  work();
}

}  // namespace vellum
