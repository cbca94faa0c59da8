// What we want to reach, as data. The table holds times relative to kernel overlayfs as root on tmpfs with 8 layers.
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
constexpr const char* kTargetCircumstances = "root, tmpfs, 8 layers";
constexpr double kGeometricMeanTarget = 2.5;
constexpr double kTwoThreads = 1.5;  // times the throughput of one

// Against Debian's fuse-overlayfs in the same run.
constexpr double kNotSlower = 1.05;      // in any workload; a twentieth is noise
constexpr double kFasterThanPeer = 3.0;  // times, in the geometric mean

// As a plain user and in a user namespace.
constexpr double kRootlessFasterThanPeer = 2.0;
constexpr double kRootlessStream = 1 / 0.6;  // of the base's time, sequential read and write

}  // namespace vellum::bench
