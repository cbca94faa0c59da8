// One run of one workload on one mount, in a process of its own with the client's rights, so that a run that takes too
// long can be stopped. Times are the wall clock of the loop alone.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "systems.h"
#include "workloads.h"

namespace vellum::bench {

struct Run {
  double seconds = 0;  // of the whole loop
  std::uint64_t ops = 0;
  bool too_long = false;  // stopped; `seconds` is the cap
  std::string error;      // not empty: the run failed, the rest means nothing
  double daemon_cpu = 0;  // seconds, of the daemon during the loop; 0 where there is none
  long daemon_peak_kib = 0;
  // By FUSE operation, during the loop; only of ours.
  std::optional<std::map<std::string, double>> requests;
};

// For clients that show an environment (see System). First in main(): starts the program again.
void reserve_environment(char** arguments);

Run run_client(const Workload& workload, const Scene& scene, unsigned threads, const Mounted& mounted,
               unsigned cap_seconds);

// Runs `act` in a child with the rights of a client. Failure if it fails.
void do_as_client(Who who, const std::function<void()>& act);

}  // namespace vellum::bench
