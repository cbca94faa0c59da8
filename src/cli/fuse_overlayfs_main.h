// The `fuse-overlayfs` face: reads the command line, says what is wrong with it, and mounts.
// Returns the exit code: 0 once the mount is usable (or, in the foreground, once it ended), 1 with one line on
// stderr and nothing mounted.
#pragma once

#include <span>
#include <string>

namespace vellum::cli {

// `program` is the name that messages start with; `arguments` come without argv[0].
int fuse_overlayfs_main(const std::string& program, std::span<const std::string> arguments);

}  // namespace vellum::cli
