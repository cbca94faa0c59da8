// Extended attributes and ACLs as callers see them.
#include <sys/xattr.h>

#include "overlay/acl.h"
#include "overlay/overlay.h"
#include "overlay/xattr_names.h"

namespace vellum::overlay {
namespace {

constexpr std::string_view kStats = "system.vellum.stats";

}  // namespace

// ACLs name users and groups: the same mapping as for owners.
Result<std::string> Overlay::map_acl(std::string_view value, bool to_disk) const {
  auto map = [to_disk](const IdMap& ids) {
    return [&ids, to_disk](std::uint32_t id) -> std::optional<std::uint32_t> {
      return to_disk ? ids.store(id) : std::optional(ids.present(id));
    };
  };
  return map_acl_ids(value, map(uids_), map(gids_));
}

Result<std::string> Overlay::getxattr(const fuse::Caller&, fuse::NodeId id, std::string_view name) {
  NodeRef node = TRY(nodes_.get(id));
  if (name == kStats && id == fuse::NodeId::kRoot && stats_text_) return stats_text_();
  if (options_.no_xattrs || (options_.no_acl && is_acl_xattr(name))) return fail(EOPNOTSUPP);
  ReadLock tree(tree_mutex_);
  CurrentLock<ReadLock> lock(nodes_, node);
  Place place = TRY(place_of(*node));
  auto disk = attribute_on_disk(*place.in, name);
  if (!disk) return fail(disk.error() == EPERM ? ENODATA : disk.error().value());
  auto value = sys::getxattr(place.fd(), place.name, disk->c_str());
  if (!is_acl_xattr(name)) return value;
  // A layer without ACLs has none: the kernel takes any other error for the answer to whether somebody may enter.
  if (!value && value.error() == EOPNOTSUPP) return fail(ENODATA);
  if (value && !(uids_.trivial() && gids_.trivial())) return map_acl(*value, false);
  return value;
}

Result<std::string> Overlay::listxattr(const fuse::Caller& caller, fuse::NodeId id) {
  if (options_.no_xattrs) return fail(EOPNOTSUPP);
  NodeRef node = TRY(nodes_.get(id));
  ReadLock tree(tree_mutex_);
  CurrentLock<ReadLock> lock(nodes_, node);
  Place place = TRY(place_of(*node));
  std::string on_disk = TRY(sys::listxattr(place.fd(), place.name));
  std::string names;
  for_each_xattr(on_disk, [&](std::string_view name) {
    auto shown = attribute_shown(*place.in, name);
    if (!shown || (options_.no_acl && is_acl_xattr(*shown))) return;
    // Other file systems keep trusted.* from others; here the list reaches the caller as it is.
    if (caller.uid != 0 && shown->starts_with("trusted.")) return;
    names.append(*shown).push_back('\0');
  });
  return names;
}

Status Overlay::setxattr(const fuse::Caller&, fuse::NodeId id, std::string_view name, std::span<const std::byte> value,
                         fuse::XattrFlags flags) {
  if (options_.no_xattrs || (options_.no_acl && is_acl_xattr(name))) return fail(EOPNOTSUPP);
  if (upper_ == nullptr) return fail(EROFS);
  if (name == kStats) return fail(EPERM);
  NodeRef node = TRY(nodes_.get(id));
  std::string disk = TRY(attribute_on_disk(*upper_, name));
  std::string bytes(reinterpret_cast<const char*>(value.data()), value.size());
  if (is_acl_xattr(name) && !(uids_.trivial() && gids_.trivial())) bytes = TRY(map_acl(bytes, true));
  TRY(copy_up(node, {.metadata_only = true, .truncate_to = {}}));
  const ChangeLock lock(*this, node);
  Place place = TRY(place_of(*node));
  if (!is_upper(place.layer)) return fail(ESTALE);
  int how = (flags.create ? XATTR_CREATE : 0) | (flags.replace ? XATTR_REPLACE : 0);
  TRY(sys::setxattr(place.fd(), place.name, disk.c_str(), bytes, how));
  changed_through(id, *node);
  if (flags.acl_kill_sgid &&
      name == kAccessAcl) {  // the kernel asks for it with a default ACL too, which changes no mode
    auto st = stat_at(*upper_, place.fd(), place.name);
    if (st && (st->mode & S_ISGID) != 0) {
      ignore(set_mode(place.fd(), place.name, st->mode & 07777 & ~static_cast<mode_t>(S_ISGID)));
    }
  }
  return {};
}

Status Overlay::removexattr(const fuse::Caller&, fuse::NodeId id, std::string_view name) {
  if (options_.no_xattrs || (options_.no_acl && is_acl_xattr(name))) return fail(EOPNOTSUPP);
  if (upper_ == nullptr) return fail(EROFS);
  NodeRef node = TRY(nodes_.get(id));
  std::string disk = TRY(attribute_on_disk(*upper_, name));
  {
    // Nothing to remove is no reason to copy.
    ReadLock tree(tree_mutex_);
    CurrentLock<ReadLock> lock(nodes_, node);
    Place place = TRY(place_of(*node));
    std::string here = TRY(attribute_on_disk(*place.in, name));
    if (!is_acl_xattr(name)) TRY(sys::getxattr(place.fd(), place.name, here.c_str()));
  }
  TRY(copy_up(node, {.metadata_only = true, .truncate_to = {}}));
  const ChangeLock lock(*this, node);
  Place place = TRY(place_of(*node));
  if (!is_upper(place.layer)) return fail(ESTALE);
  changed_through(id, *node);
  return sys::removexattr(place.fd(), place.name, disk.c_str());
}

}  // namespace vellum::overlay
