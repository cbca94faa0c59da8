// Which CPUs there are, and keeping a thread on one. Threads: safe. Errors: ENOENT without a readable /sys.
#pragma once

#include <vector>

#include "base/result.h"

namespace vellum::sys {

// How many CPUs the kernel has prepared for, as it counts them (those that may be plugged in later, too).
Result<unsigned> possible_cpus();
Result<std::vector<unsigned>> online_cpus();
// How many of them this process may run on; at least 1.
unsigned allowed_cpus();
// The calling thread runs nowhere else any more. EINVAL: not allowed there, or no such CPU.
Status stay_on_cpu(unsigned cpu);

// "0-3,8" as 0, 1, 2, 3, 8. EINVAL for anything else.
Result<std::vector<unsigned>> parse_cpu_list(const char* text);

}  // namespace vellum::sys
