// What the command line says about a random run. The seed is printed by every test, and replays it.
#pragma once

#include <cstdint>

namespace vellum::random_test {

struct Parameters {
  std::uint64_t seed = 0;       // random unless given
  std::uint64_t sequences = 0;  // 0: as many as fit into `seconds`
  std::uint64_t ops = 30;
  double seconds = 30;
};

const Parameters& parameters();
bool parse_parameters(int argc, char** argv);

}  // namespace vellum::random_test
