// POSIX ACLs in their xattr form (system.posix_acl_*): what a new object inherits, and id mapping inside them.
// A malformed value is EINVAL. Threads: pure functions. Source: acl(5), linux/posix_acl_xattr.h.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace vellum::overlay {

constexpr const char* kAccessAcl = "system.posix_acl_access";
constexpr const char* kDefaultAcl = "system.posix_acl_default";

struct Inherited {
  std::uint32_t mode = 0;  // permission bits for the new object
  std::string access;      // its access ACL; empty if the mode says it all
};

// What an object created with `mode` in a directory with this default ACL gets (acl(5), "Object creation").
Result<Inherited> inherit_acl(std::string_view default_acl, std::uint32_t mode);

// What remains of `mode` where an access ACL cannot be kept: for nobody more than the ACL gave them.
std::uint32_t mode_without_acl(std::string_view acl, std::uint32_t mode);

// The same ACL with every user id and group id replaced. A function that returns nothing: EINVAL.
using MapId = std::function<std::optional<std::uint32_t>(std::uint32_t)>;
Result<std::string> map_acl_ids(std::string_view acl, const MapId& user, const MapId& group);

}  // namespace vellum::overlay
