#include "targets.h"

namespace vellum::bench {

const std::vector<Target>& targets() {
  static const std::vector<Target> table{
      {"read_seq", 1.15},
      {"read_seq_warm", 1.15},
      {"read_seq_2t", 1.15},
      {"read_rand", 1.15},
      {"read_rand_2t", 1.15},
      {"mmap_read", 1.15},
      {"write_seq", 1.15},
      {"write_4k", 1.15},
      {"walk_stat_warm", 1.2},
      {"lookup_warm", 1.2},
      {"walk_stat_cold", 2},
      {"lookup_cold", 4},
      {"miss_cold", 4},
      {"lookup_cold_2t", 5},
      {"open_read_close_cold", 7},
      {"open_read_close_warm", 8},
      {"open_read_close_ro_warm", 1.2},
      {"create_write_4k", 7},
      {"mkdir", 7},
      {"unlink", 5},
      {"unlink_lower", 7},
      {"rename", 10},
      {"chmod_lower", 4},
      {"append_512m", 1.1},
  };
  return table;
}

std::optional<double> target_of(const std::string& workload) {
  for (const Target& target : targets()) {
    if (target.workload == workload) return target.at_most;
  }
  return std::nullopt;
}

}  // namespace vellum::bench
