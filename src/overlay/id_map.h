// Ids on disk and ids presented: the uidmapping=/gidmapping= and squash_to_* options.
// Without ranges both are the same. With ranges, an on-disk id outside all of them is presented as the overflow id
// (65534), and a presented id outside all of them cannot be stored. Ranges may end at 2^32-1.
// Threads: immutable.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "overlay/options.h"

namespace vellum::overlay {

class IdMap {
 public:
  static constexpr std::uint32_t kOverflow = 65534;

  IdMap() = default;
  IdMap(std::vector<IdRange> ranges, std::optional<std::uint32_t> squash_to)
      : ranges_(std::move(ranges)), squash_to_(squash_to) {}

  // Whether both directions are the identity.
  bool trivial() const { return ranges_.empty() && !squash_to_; }
  bool squashes() const { return squash_to_.has_value(); }

  std::uint32_t present(std::uint32_t on_disk) const {
    if (squash_to_) return *squash_to_;
    return map(on_disk, &IdRange::on_disk, &IdRange::presented).value_or(kOverflow);
  }
  // Nothing: the id cannot be stored.
  std::optional<std::uint32_t> store(std::uint32_t presented) const {
    return map(presented, &IdRange::presented, &IdRange::on_disk);
  }

 private:
  std::optional<std::uint32_t> map(std::uint32_t id, std::uint32_t IdRange::*from, std::uint32_t IdRange::*to) const {
    if (ranges_.empty()) return id;
    for (const IdRange& range : ranges_) {
      std::uint64_t first = range.*from;
      if (id >= first && id - first < range.length) return static_cast<std::uint32_t>(range.*to + (id - first));
    }
    return std::nullopt;
  }

  std::vector<IdRange> ranges_;
  std::optional<std::uint32_t> squash_to_;
};

}  // namespace vellum::overlay
