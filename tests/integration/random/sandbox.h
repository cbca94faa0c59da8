// Runs the whole test program inside its own pid and mount namespace, with tmpfs scratch space at /mnt.
//
// Whatever a test leaves behind (daemons, mounts, loop devices with autoclear) dies with the namespace, also when
// ctest kills the program. Needs root. Threads: call before any thread is started.
#pragma once

#include <functional>
#include <string>

namespace vellum::random_test {

// Two file systems of their own, so that layers can span devices.
inline const std::string kScratch = "/mnt/one";
inline const std::string kOtherScratch = "/mnt/two";

// Returns the body's exit status, seen from outside the namespace.
int run_in_sandbox(const std::function<int()>& body);

// An empty directory below `scratch` that nobody else uses.
std::string fresh_directory(const std::string& scratch = kScratch);
// rm -rf that stays on one file system and does not follow links.
void remove_tree(const std::string& path);

}  // namespace vellum::random_test
