// The parts of the table of workloads, one file each.
#pragma once

#include <vector>

#include "workloads.h"

namespace vellum::bench {

std::vector<Workload> name_workloads();  // names and attributes: walk, lookup, mkdir, rename, copy-up of small files …
std::vector<Workload> data_workloads();  // contents: read, write, mmap, append
std::vector<Workload> tool_workloads();  // whole programs
std::vector<Workload> image_only_workloads();

}  // namespace vellum::bench
