// What is measured: a table of named workloads. A workload is prepared in the client's process (paths are put
// together, files that it will rename or remove are made in the mount) and gives back a loop; only the loop is timed.
// The loop makes plain system calls on full paths, as programs do. Names are stable: results of other days carry them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parts.h"
#include "settings.h"

namespace vellum::bench {

struct Scene {
  std::string mount;  // the client's view: where the merged tree is
  Who who = Who::kRoot;
  Sizes sizes;
  Seeds seeds;
  // Of composefs images: a command that is mkcomposefs, one that mounts at second_mount, what images are made of (a
  // directory and a dump) and a directory to write into.
  std::string maker{}, mount_command{}, second_mount{}, source{}, dump{}, scratch{};
};

struct Loop {
  std::uint64_t steps = 1;  // run(from, to) is called with slices of [0, steps), one per thread
  std::uint64_t ops = 0;    // what the time is divided by
  std::function<void(std::uint64_t from, std::uint64_t to)> run;
};

struct Workload {
  std::string name;
  std::string what;  // for --list and the docs
  unsigned parts = kNothing;
  struct Traits {
    bool changes = false;     // the tree: no other workload may use it afterwards
    bool warm = false;        // a first pass is not timed
    unsigned passes = 1;      // that are timed, as one
    bool read_only = false;   // mounted without an upper directory
    bool threads = false;     // makes sense with several threads
    bool needs_root = false;  // not for a plain user
    bool tool = false;        // runs programs: their start is in the time
    bool makes_image = false;
    bool mounts = false;  // by itself
  } traits;
  std::function<Loop(const Scene&)> prepare;
};

const std::vector<Workload>& all_workloads();
// Of composefs images: those that make one, and those of the above that only read small and large files.
const std::vector<Workload>& image_workloads();
// Of a comma-separated list of globs; `name*_2t` variants are made by the caller.
bool matches(const std::string& globs, const std::string& name);

}  // namespace vellum::bench
