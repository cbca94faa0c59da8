// How the numbers of many engines share one mount. An engine's node and handle numbers take 48 bits; above them stands
// the view's. The top bit marks a face (faces.h); the root is the face with number 1. Threads: pure functions.
#pragma once

#include "fuse/filesystem.h"
#include "views/view.h"

namespace vellum::views {

constexpr unsigned kViewShift = 48;
constexpr std::uint64_t kInnerMask = (std::uint64_t{1} << kViewShift) - 1;
constexpr std::uint64_t kFaceBit = std::uint64_t{1} << 63;

constexpr bool is_face(fuse::NodeId id) { return id == fuse::NodeId::kRoot || (raw(id) & kFaceBit) != 0; }

constexpr std::uint64_t outer(ViewIndex view, std::uint64_t inner) {
  return std::uint64_t{view} << kViewShift | (inner & kInnerMask);
}
constexpr fuse::NodeId outer(ViewIndex view, fuse::NodeId inner) { return fuse::NodeId{outer(view, raw(inner))}; }
// A handle names its view even where the engine needs none.
constexpr std::uint64_t kNoHandle = kInnerMask;
constexpr fuse::HandleId outer(ViewIndex view, fuse::HandleId inner) {
  return fuse::HandleId{outer(view, inner == fuse::HandleId::kNone ? kNoHandle : raw(inner))};
}
template <class Id>
constexpr ViewIndex view_of(Id id) {
  return static_cast<ViewIndex>(raw(id) >> kViewShift & (kMaxViews - 1));
}
constexpr fuse::NodeId inner(fuse::NodeId id) { return fuse::NodeId{raw(id) & kInnerMask}; }
constexpr fuse::HandleId inner(fuse::HandleId id) {
  const std::uint64_t own = raw(id) & kInnerMask;
  return own == kNoHandle ? fuse::HandleId::kNone : fuse::HandleId{own};
}

}  // namespace vellum::views
