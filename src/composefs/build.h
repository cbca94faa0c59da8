// The composefs image of a tree: the one that mkcomposefs makes, bit for bit.
//
// On the way from the tree to the image: xattrs of overlayfs are escaped one level; files whose content lies in the
// object store get overlayfs's metacopy and redirect; whiteouts become files that overlayfs shows as whiteouts; the
// root becomes opaque and hides the names that the object store has at its top (00 ... ff).
// Errors: EINVAL (version), EFBIG (a file too large), ERANGE (an inode's xattrs do not fit). Threads: safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "composefs/tree.h"

namespace vellum::composefs {

inline constexpr std::uint32_t kMostVersion = 1;

// The version is `least`, or 1 if that is allowed and the tree has whiteouts, which version 0 shows less well.
struct Versions {
  std::uint32_t least = 0, most = kMostVersion;
};

Result<std::vector<std::byte>> build_image(const Tree& tree, Versions versions = {});

}  // namespace vellum::composefs
