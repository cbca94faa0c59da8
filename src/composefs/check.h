// Checks that every object of a tree is in the object directories, complete and unaltered. Several threads; the sink
// is called by one at a time. Source: digests and sizes that the image has.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "composefs/tree.h"
#include "sys/fd.h"

namespace vellum::composefs {

enum class Fault { kMissing, kUnreadable, kSize, kDigest, kNoDigest };
struct BadObject {
  Fault fault = Fault::kMissing;
  std::string_view object;  // its path in the store
  std::string path;         // a file of the tree that needs it
  std::string detail;       // what was expected and found
};

struct CheckCounts {
  std::uint64_t objects = 0, bytes = 0;
  std::uint64_t bad = 0;        // all that are not known to be good
  std::uint64_t unchecked = 0;  // of these: there, and of the right size, but the image has no digest of them
};

struct CheckOptions {
  unsigned threads = 0;
  // Objects of which the image has no digest are a fault of their own kind.
  std::function<void(const BadObject&)> bad{};
  std::function<void(const CheckCounts& done, std::uint64_t objects, std::uint64_t bytes)> progress{};
};

CheckCounts check_objects(const Tree& tree, std::span<const sys::UniqueFd> directories, const CheckOptions& options);

}  // namespace vellum::composefs
