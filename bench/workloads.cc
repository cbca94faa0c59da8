#include "workloads.h"

#include <fnmatch.h>

#include <sstream>

#include "workload_loops.h"

namespace vellum::bench {

const std::vector<Workload>& all_workloads() {
  static const std::vector<Workload> all = [] {
    std::vector<Workload> table = name_workloads();
    for (auto* more : {data_workloads, tool_workloads}) {
      for (Workload& workload : more()) table.push_back(std::move(workload));
    }
    return table;
  }();
  return all;
}

bool matches(const std::string& globs, const std::string& name) {
  std::istringstream list(globs);
  for (std::string glob; std::getline(list, glob, ',');) {
    if (::fnmatch(glob.c_str(), name.c_str(), 0) == 0) return true;
  }
  return false;
}

}  // namespace vellum::bench
