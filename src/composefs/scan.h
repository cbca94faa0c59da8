// The tree of a directory: attributes, xattrs, targets, and the digest of every file's content. Small files' content is
// taken into the tree itself; that of others goes to an object store, if one is given.
//
// Directories and files are spread over threads; a file that is big enough is digested by all of them. Symlinks are
// never followed below the directory. A file that is replaced or changed while it is read is an error (EBUSY), not a
// wrong digest; digests are always computed. Memory: the tree, and a few buffers. Errors: a line for people that names
// the path.
#pragma once

#include <expected>
#include <string>

#include "composefs/store.h"
#include "composefs/tree.h"

namespace vellum::composefs {

struct ScanOptions {
  bool use_epoch = false;     // all times 0
  bool skip_devices = false;  // whiteouts are devices
  bool skip_xattrs = false;
  bool user_xattrs = false;  // no others
  // Names of one file become hard links of one inode. mkcomposefs makes each a file of its own.
  bool hard_links = false;
  unsigned threads = 0;    // 0: default_threads()
  Store* store = nullptr;  // where content goes
};

std::expected<Tree, std::string> scan(const std::string& path, const ScanOptions& options = {});

}  // namespace vellum::composefs
