// `vellum stats MOUNT [--json]`: reads the counters of a running mount from the virtual xattr system.vellum.stats
// of its root and prints them. Returns the exit code; errors go to stderr in one line.
#pragma once

#include <string>

namespace vellum::cli {

struct StatsCommand {
  std::string mountpoint;
  bool json = false;
};

int run_stats(const StatsCommand& command);

}  // namespace vellum::cli
