// What we want to reach, as data: times relative to kernel overlayfs on tmpfs with 8 layers as root.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace vellum::bench {

struct Target {
  std::string workload;
  double at_most;
};
const std::vector<Target>& targets();
std::optional<double> target_of(const std::string& workload);
constexpr double kGeometricMeanTarget = 2.5;
constexpr double kFasterThanPeer = 3.0;  // than fuse-overlayfs, in the geometric mean

}  // namespace vellum::bench
