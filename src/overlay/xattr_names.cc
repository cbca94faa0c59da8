#include "overlay/xattr_names.h"

namespace vellum::overlay {
namespace {

constexpr std::string_view kReserved[] = {"user.fuseoverlayfs.", "security.fuseoverlayfs.",
                                          "user.containers.override_"};

// "overlay.X" behind the namespace's prefix, or nothing.
std::optional<std::string_view> overlay_prefix(std::string_view name) {
  if (name.starts_with(kTrustedPrefix)) return kTrustedPrefix;
  if (name.starts_with(kUserPrefix)) return kUserPrefix;
  return std::nullopt;
}

bool reserved(std::string_view name) {
  for (std::string_view prefix : kReserved) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

}  // namespace

Result<std::string> to_disk_xattr(std::string_view name) {
  if (reserved(name)) return fail(EPERM);
  auto prefix = overlay_prefix(name);
  if (!prefix) return std::string(name);
  std::string disk(*prefix);
  disk += "overlay.";
  disk += name.substr(prefix->size());
  if (disk.size() > 255) return fail(ERANGE);
  return disk;
}

std::optional<std::string> from_disk_xattr(std::string_view name) {
  if (reserved(name)) return std::nullopt;
  auto prefix = overlay_prefix(name);
  if (!prefix) return std::string(name);
  std::string_view rest = name.substr(prefix->size());
  if (!rest.starts_with("overlay.")) return std::nullopt;
  return std::string(*prefix) + std::string(rest.substr(8));
}

bool is_acl_xattr(std::string_view name) {
  return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

}  // namespace vellum::overlay
