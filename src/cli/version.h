// What `--version` says, for people and for the container tools that parse the first line.
// Threads: safe. Errors: none, a missing fusermount3 is said in the text.
#pragma once

#include <string>

namespace vellum::cli {

// "0.1.0"
std::string vellum_version();

// `fuse-overlayfs: version X`, then what mounts for plain users, then the protocol we speak. X is the version of
// the peer whose command line and formats we stand in for, because tools compare it with what they need.
std::string overlay_version_text();

}  // namespace vellum::cli
