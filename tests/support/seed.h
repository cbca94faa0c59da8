// The seed of a random test: VELLUM_TEST_SEED, or a new one. Printed at once: a crash would take it along.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>

namespace vellum::test {

inline unsigned random_seed() {
  const char* given = std::getenv("VELLUM_TEST_SEED");
  const unsigned seed =
      given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 0)) : std::random_device{}();
  std::printf("VELLUM_TEST_SEED=%u\n", seed);
  std::fflush(stdout);
  return seed;
}

}  // namespace vellum::test
