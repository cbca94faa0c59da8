// Runs one random sequence on an overlay and on a plain directory that holds the merged copy, and says where
// they part. A failing sequence is shrunk by taking operations and layer entries out while it still fails.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mounts.h"
#include "operations.h"
#include "tree.h"

namespace vellum::random_test {

struct Case {
  std::vector<Tree> layers;  // bottom first; the last one is the upper layer if `has_upper_content`
  bool has_upper_content = false;
  bool spans_devices = false;
  WhiteoutStyle style = WhiteoutStyle::kDevice;
  std::string options;
  bool directories_move = false;  // rename of lower directories is expected to work
  bool compare_mtimes = true;
  Features features;
  std::vector<Op> ops;
};

std::string describe(const Case& test);

// Everything but the operations.
Case random_case(Random& random, Backend backend);

// Runs `test.ops` after making `more` further random ones, which are added to test.ops.
// Returns what went wrong, empty if nothing did.
std::string run_case(Case& test, Backend backend, Random& random, std::size_t more);

// A smaller case that still fails, and how it fails; nothing if it does not fail when it is run again.
std::optional<std::pair<Case, std::string>> shrink(const Case& test, Backend backend, double seconds);

}  // namespace vellum::random_test
