// What a run of the bench does: filled in by main() from the command line, read by everybody else, changed by nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vellum::bench {

// With whose rights the mounts are made and the clients run.
enum class Who { kRoot, kUserNamespace, kPlainUser };
const char* name_of(Who who);

// How much there is of everything. The counts are chosen so that kernel overlayfs takes 50 ms or more where a
// workload allows it, and the slowest peer stays within seconds.
struct Sizes {
  unsigned files = 10'000;  // in tree/, spread over the layers
  unsigned file_bytes = 4096;
  unsigned directories = 100;    // of tree/, each in every layer
  unsigned many = 100'000;       // names of many/
  unsigned changes = 4000;       // creates, renames, unlinks, copy-ups
  unsigned data_mib = 256;       // the file that is read, and what is written
  unsigned big_mib = 512;        // the file that one append copies up
  unsigned io = 40'000;          // random reads and writes, of 4 KiB
  unsigned unpack = 20'000;      // files in the archive
  unsigned source_files = 2000;  // in the git repository
};

struct Settings {
  std::vector<Who> who{Who::kRoot};
  std::vector<std::string> places{"tmpfs"};  // tmpfs, disk
  std::vector<unsigned> layers{8};
  std::vector<unsigned> threads{1, 2};
  unsigned rounds = 5;
  std::string workloads = "*";  // comma-separated globs
  std::string base = "kernel";
  std::string disk = "/var/tmp";
  std::string binary;
  Sizes sizes;
  // A point of a series: what grows (files, names, layers), and how far. Not set for a plain run.
  std::string axis;
  std::uint64_t axis_value = 0;
  bool images = false;        // composefs images instead of stacked layers
  std::string c_tools;        // where composefs's own tools are, if anywhere
  unsigned cap_seconds = 60;  // a single run that takes longer is stopped, and shown as ">"
};

}  // namespace vellum::bench
