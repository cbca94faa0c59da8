// Where the bench runs: a mount and a pid namespace of its own, below one temporary directory (a tmpfs) and one on the
// disk, with the rights that are measured. When it ends, or is interrupted, the namespaces take every mount and daemon
// with them, and the directories are removed. Nothing outside is written.
// Errors: Failure. Threads: none; to be used before any are made.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "settings.h"

namespace vellum::bench {

struct Stage {
  std::string memory;  // a directory on a tmpfs
  std::string disk;    // a directory on the disk
  const std::string& place(const std::string& name) const { return name == "disk" ? disk : memory; }
};

// Runs `body` on a stage, in a process of its own, and returns its exit code (or 128 + signal).
int run_on_stage(const Settings& settings, const std::function<int(const Stage&)>& body);

// In a child process with the rights of `who` (its `place` directories belong to it): gives back what `body` returned.
// Daemons that `body` starts become its children. Called from the stage's body.
std::string run_as(Who who, const Stage& stage, const std::function<std::string(const Stage&)>& body);

// For a plain user the child above keeps root's rights, to mount kernel overlayfs and to clean up; this takes them
// away, for clients and daemons. For the others it does nothing.
void take_rights_of_client(Who who);

}  // namespace vellum::bench
