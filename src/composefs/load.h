// A tree out of an image: what dump, ls and a rewritten image are made from.
//
// Undoes what build.h does: overlayfs's own xattrs become backing path and digest, escaped ones lose one level, files
// that stand for whiteouts become whiteouts, and the real ones that hide the object store's names are left out.
// The image is not trusted: each directory is visited once, so no circle can trap it. Parts of an image may overlap, so
// what all directories, names, targets, contents and xattrs take is counted too: an image in which they are together
// larger than it has room for is damaged, and memory is bounded by the image's size. Errors: a line for people.
// Threads: safe.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "composefs/tree.h"
#include "erofs/image.h"

namespace vellum::composefs {

struct LoadOptions {
  std::vector<std::string> only;  // names at the top; empty: all
};

std::expected<Tree, std::string> load_tree(const erofs::Image& image, const LoadOptions& options = {});

}  // namespace vellum::composefs
