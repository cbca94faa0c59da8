// What the trees hold: parts, each made once in the lower layers, and once more in a plain directory for the system
// that overlays nothing. All systems see the same names and contents.
#pragma once

#include <string>
#include <vector>

#include "settings.h"

namespace vellum::bench {

// Bits, so that a workload can need several.
enum Part : unsigned {
  kNothing = 0,
  kTree = 1,      // tree/dNN/fNNNNN: small files, file i in layer i mod layers; the directories are in every layer
  kMany = 2,      // many/: one directory with very many empty files, spread in the same way
  kData = 4,      // data/read.bin, in the lowest layer
  kBig = 8,       // data/big.bin, in the lowest layer
  kRepo = 16,     // repo/: a git repository with two branches, in the lowest layer
  kDpkg = 32,     // var/lib/dpkg of an empty system
  kSources = 64,  // src/: a C++ file and its many headers
};
constexpr unsigned kAllParts = 127;

// The path of file `i` of tree/, from the root of the mount on.
std::string tree_file(const Sizes& sizes, unsigned i);
std::string tree_dir(unsigned i);

// What is made once for all trees and copied into them, and what workloads read from outside the mount.
struct Seeds {
  std::string dir;
  std::string archive() const { return dir + "/unpack.tar"; }
  std::string package() const { return dir + "/package.deb"; }
};
void make_repo_seed(const Seeds& seeds, const Sizes& sizes);
void make_archive_seed(const Seeds& seeds, const Sizes& sizes);
void make_package_seed(const Seeds& seeds);

// `roots` are the lower layers, the topmost first; all the same directory where nothing is overlaid.
void make_part(Part part, const std::vector<std::string>& roots, const Sizes& sizes, const Seeds& seeds);

}  // namespace vellum::bench
