// Trees as plain values: what a layer holds, how layers merge by the rules, and how they are written to disk.
//
// The merge here is the test's own reading of the rules (upper hides lower, directories unite, whiteouts remove,
// opaque directories cut off), so that a lookup is checked by something that shares no code with the engine.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace vellum::random_test {

using Random = std::mt19937_64;

// True `percent` times of a hundred.
bool chance(Random& random, unsigned percent);
std::uint64_t below(Random& random, std::uint64_t limit);
template <class Container>
const auto& pick(Random& random, const Container& from) {
  return from[below(random, from.size())];
}

enum class Kind { kFile, kDirectory, kSymlink, kFifo, kDevice, kWhiteout };

struct Node {
  Kind kind = Kind::kFile;
  mode_t mode = 0644;
  uid_t uid = 0;
  gid_t gid = 0;
  std::int64_t mtime = 1'000'000'000;
  std::string data;     // content, or a symlink's target
  std::string link_to;  // another name of this file in the same tree
  bool opaque = false;
  std::map<std::string, std::string> xattrs;
};

// By path ("a/b"), so parents come before their children. The root itself is not in it.
using Tree = std::map<std::string, Node>;

enum class WhiteoutStyle { kDevice, kDotWh, kXattr };
std::string name_of(WhiteoutStyle style);

// What the readers of the layers at hand can express.
struct Features {
  bool hard_links = true;
  bool overlay_xattrs = true;  // names in trusted.overlay. and user.overlay. set by callers
  bool acls = true;
  bool special_xattrs = true;  // trusted., security.
  bool odd_names = true;
  bool long_names = true;  // of 255 bytes
  bool devices = true;
  bool symlinks_in_layers = true;
  bool empty_chown = true;  // chown(path, -1, -1)
  bool late_set_id = true;  // chmod may set setuid and setgid bits, even of a file that is open
};

const std::vector<std::string>& names(const Features& features);
std::string random_path(Random& random, const Features& features);
std::string random_content(Random& random);
// A valid POSIX ACL as xattr bytes: named user and group entries and a mask.
std::string random_acl(Random& random);
// A valid security.capability value.
std::string file_capability();

// Layers bottom first. Whiteouts stand only where a directory merges with one below, as every writer makes them.
std::vector<Tree> random_layers(Random& random, std::size_t count, const Features& features);
// Whether whiteouts stand only there.
bool well_formed(const std::vector<Tree>& layers_bottom_first);
Tree merged(const std::vector<Tree>& layers_bottom_first);
// Writes the tree into an existing directory.
void write_tree(const Tree& tree, const std::string& directory, WhiteoutStyle style);
std::string describe(const Tree& tree);
// Printable form of any bytes.
std::string quoted(const std::string& bytes);

}  // namespace vellum::random_test
