// Series: the same workloads while one thing grows: the files of the tree, the names of one directory, the layers.
// What holds is read from the table: time per operation is to stay the same.
#pragma once

#include <string>
#include <vector>

#include "results.h"
#include "settings.h"

namespace vellum::bench {

// One run per point of each series, with the rounds, rights, place and sizes of `settings` otherwise.
std::vector<Settings> scaling_points(const Settings& settings, bool quick);

std::string scaling_text(const Results& results);

}  // namespace vellum::bench
