// Which extended attributes belong to the overlay and how a caller's own attributes of such names are kept.
//
// Overlay attributes (trusted.overlay.*, user.overlay.*, and fuse-overlayfs's own) are never shown to callers.
// What a caller sets under trusted.overlay.X or user.overlay.X is stored one level deeper, as
// trusted.overlay.overlay.X, so it can neither forge a marker nor be lost: overlays nest.
// Threads: pure functions. Source: kernel Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace vellum::overlay {

constexpr std::string_view kTrustedPrefix = "trusted.overlay.";
constexpr std::string_view kUserPrefix = "user.overlay.";

// The on-disk name for a name a caller uses. EPERM for names that are reserved and cannot be escaped.
Result<std::string> to_disk_xattr(std::string_view name);
// The name a caller sees for an on-disk name; nothing if it is hidden.
std::optional<std::string> from_disk_xattr(std::string_view name);

bool is_acl_xattr(std::string_view name);

// Calls fn(name) for each NUL-terminated name of a listxattr(2) answer.
template <class Fn>
void for_each_xattr(std::string_view list, Fn fn) {
  while (!list.empty()) {
    std::size_t end = list.find('\0');
    std::string_view name = list.substr(0, end);
    if (!name.empty()) fn(name);
    if (end == std::string_view::npos) return;
    list.remove_prefix(end + 1);
  }
}

}  // namespace vellum::overlay
