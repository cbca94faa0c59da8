// Everything a caller can see of a tree, and how two trees differ.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace vellum::random_test {

// The mode without a setgid bit of files that their group may not execute. Linux clears it on a write by a stranger
// to the group; a FUSE server is told only to clear setgid of what the group may execute (FUSE_HANDLE_KILLPRIV_V2).
mode_t comparable_mode(mode_t mode);

struct Seen {
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  nlink_t links = 0;
  dev_t rdev = 0;
  off_t size = 0;
  std::int64_t mtime = 0;
  std::string data;  // content or target
  std::map<std::string, std::string> xattrs;
  std::string same_file_as;  // first path with the same inode
};

struct Snapshot {
  std::map<std::string, Seen> entries;  // "" is the root
  // Things no tree may show: an entry that lists but cannot be read, d_type or d_ino unlike stat's, one inode
  // number for two files.
  std::vector<std::string> oddities;
};

struct SnapshotOptions {
  bool strict = true;               // check inode numbers, and that . and .. are listed
  bool keep_overlay_xattrs = true;  // otherwise names in *.overlay.* and *.fuseoverlayfs.* are left out
};

Snapshot take_snapshot(const std::string& directory, const SnapshotOptions& options = {});

struct Comparison {
  bool links = true;   // nlink and which names are one file
  bool mtimes = true;  // of files, directories and symlinks, within seconds
};

// One line for each difference, empty when equal.
std::vector<std::string> differences(const Snapshot& expected, const Snapshot& got, const Comparison& comparison = {});

}  // namespace vellum::random_test
