// One random operation as a value: it can be made, printed, run on any directory, and compared between two.
//
// Running an operation on the overlay and on a plain directory must give the same Outcome. An Op carries all its
// arguments, so a recorded sequence means the same after other operations are taken out of it (shrinking).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tree.h"

namespace vellum::random_test {

enum class OpKind {
  kCreate,
  kWrite,
  kRead,
  kTruncate,
  kMkdir,
  kSymlink,
  kMknod,
  kLink,
  kUnlink,
  kRmdir,
  kRename,
  kChmod,
  kChown,
  kUtimens,
  kSetxattr,
  kRemovexattr,
  kGetxattr,
  kSetAcl,
  kOpenUnlinkWrite,
  kTmpfile,
  kReaddir,
  kCopy,
  kStat,
  kAccess,
  kHold,
  kHeldWrite,
  kHeldRead,
  kHeldStat,
  kHeldChmod,
  kHeldTruncate,
  kRelease,
  kListWhileChanging,
  kRemoveTree,
  kRemount,
  kCount
};

struct Op {
  OpKind kind = OpKind::kStat;
  std::string path, other;  // `other`: rename's and link's new name, a symlink's target, an xattr's name
  std::string data;
  std::uint64_t number = 0;  // offset, size, slot: as the kind needs
  std::uint64_t mode = 0;    // mode or flags
  uid_t uid = 0, gid = 0;    // chown's owner
  bool as_user = false;      // run as uid and gid 1000
  mode_t umask = 022;
};

std::string describe(const Op& op);
Op random_op(Random& random, const Features& features, const std::vector<std::string>& existing_paths);

struct Outcome {
  int error = 0;
  std::string text;                  // whatever else was seen: data read, names listed, attributes
  std::vector<std::int64_t> mtimes;  // compared with some slack
};

// Empty when equal, else what differs.
std::string difference(const Outcome& expected, const Outcome& got, bool compare_mtimes = true);

// The root under which operations run, with the files it holds open between them.
class Workplace {
 public:
  explicit Workplace(std::string root) : root_(std::move(root)) {}
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  ~Workplace() { release_all(); }

  Outcome run(const Op& op);
  void release_all();
  const std::string& root() const { return root_; }
  std::string full(const std::string& path) const { return root_ + "/" + path; }

 private:
  Outcome perform(const Op& op);

  std::string root_;
  std::map<std::uint64_t, int> held_;
};

// What mv does when rename says EXDEV: a copy of everything, then removal of the source.
Outcome move_by_copying(Workplace& place, const Op& rename);

}  // namespace vellum::random_test
