// `vellum views MOUNTPOINT`: mounts over a directory in place, and serves every process its own view of it.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace vellum::cli {

struct ViewsCommand {
  std::string mountpoint;
  std::vector<std::string> options;  // -o lists, as of `vellum overlay`
  std::string prefix = "WRAPPER";
  std::vector<std::string> denied;
  std::string whiteouts;
  unsigned shared_depth = 1;
  unsigned idle_milliseconds = 5000;
  bool strict = false;
  bool foreground = false;
  bool debug = false;
  bool list = false;  // show the live views instead
  bool json = false;
};

int mount_views(const ViewsCommand& command);

}  // namespace vellum::cli
