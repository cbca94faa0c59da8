// From a directory or a dump file to an image: what mkcomposefs and `vellum image create` have in common.
// Threads: one that calls; the work itself takes several.
#pragma once

#include <cstdint>
#include <string>

#include "composefs/build.h"
#include "composefs/scan.h"

namespace vellum::cli {

struct ImageCreate {
  std::string source;
  std::string image;  // "-": standard output; empty: none is written
  std::string digest_store;
  bool from_dump = false;
  bool print_digest = false;
  composefs::ScanOptions scan;
  composefs::Versions versions;
};

// The exit status; says on standard error what went wrong.
int create_image(const std::string& program, const ImageCreate& what);

}  // namespace vellum::cli
