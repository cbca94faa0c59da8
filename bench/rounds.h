// The order of things: trees are made once per set of circumstances; in each round every workload is run on every
// system, one system after the other, each with a fresh upper directory and a fresh mount. Which system begins moves
// on from workload to workload and from round to round.
#pragma once

#include "progress.h"
#include "results.h"
#include "settings.h"
#include "stage.h"
#include "systems.h"

namespace vellum::bench {

// A workload with a number of threads, as it is named in the results (`lookup_cold_2t`).
struct Planned {
  const Workload* workload;
  unsigned threads;
  std::string name;
};
std::vector<Planned> plan(const Settings& settings, Who who);

// Everything under the rights of `who`; called in the process that has them.
void run_rounds(const Settings& settings, const std::vector<System>& systems, Who who, const Stage& stage,
                Progress& progress, Results& results);

// How many runs that will be.
std::size_t count_runs(const Settings& settings, const std::vector<System>& systems, Who who);

}  // namespace vellum::bench
