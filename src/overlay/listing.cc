#include "overlay/listing.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <limits>

namespace vellum::overlay {

std::size_t Listing::after(std::uint64_t cookie) const {
  if (cookies_.empty()) return static_cast<std::size_t>(std::min<std::uint64_t>(cookie, entries_.size()));
  auto next = std::upper_bound(cookies_.begin(), cookies_.end(), cookie);
  return static_cast<std::size_t>(next - cookies_.begin());
}

void Listing::follow(const Listing& before) {
  if (before.entries_.empty()) return;
  std::uint64_t next = before.cookie(before.entries_.size() - 1) + 1;
  if (next + entries_.size() > std::numeric_limits<std::uint32_t>::max()) return;  // begins anew

  absl::flat_hash_map<std::string_view, std::uint32_t> fresh;
  fresh.reserve(entries_.size());
  for (std::uint32_t at = 0; at < entries_.size(); ++at) fresh.emplace(name(entries_[at]), at);
  std::vector<ListingEntry> ordered;
  ordered.reserve(entries_.size());
  cookies_.reserve(entries_.size());
  std::vector<bool> placed(entries_.size());
  for (std::size_t at = 0; at < before.entries_.size(); ++at) {
    auto still = fresh.find(before.name(before.entries_[at]));
    if (still == fresh.end()) continue;
    ordered.push_back(entries_[still->second]);
    cookies_.push_back(static_cast<std::uint32_t>(before.cookie(at)));
    placed[still->second] = true;
  }
  for (std::size_t at = 0; at < entries_.size(); ++at) {
    if (placed[at]) continue;
    ordered.push_back(entries_[at]);
    cookies_.push_back(static_cast<std::uint32_t>(next++));
  }
  entries_ = std::move(ordered);
}

}  // namespace vellum::overlay
