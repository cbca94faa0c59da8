// The text of `fuse-overlayfs --help`. The same options, at length: docs/options.md and vellum-overlay(1).
#pragma once

#include <string_view>

namespace vellum::cli {

std::string_view overlay_help();

}  // namespace vellum::cli
