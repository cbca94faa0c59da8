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
constexpr fuse::HandleId outer(ViewIndex view, fuse::HandleId inner) {
  return inner == fuse::HandleId::kNone ? inner : fuse::HandleId{outer(view, raw(inner))};
}
template <class Id>
constexpr ViewIndex view_of(Id id) {
  return static_cast<ViewIndex>(raw(id) >> kViewShift & (kMaxViews - 1));
}
template <class Id>
constexpr Id inner(Id id) {
  return Id{raw(id) & kInnerMask};
}

}  // namespace vellum::views
