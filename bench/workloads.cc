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

const std::vector<Workload>& image_workloads() {
  static const std::vector<Workload> all = [] {
    std::vector<Workload> table = image_only_workloads();
    for (const Workload& workload : all_workloads()) {
      if (matches("walk_stat_*,lookup_*,open_read_close_cold,open_read_close_warm,read_seq*,mmap_read,tar_c",
                  workload.name))
        table.push_back(workload);
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
