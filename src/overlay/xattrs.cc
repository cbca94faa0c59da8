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
  auto disk = to_disk_xattr(name);
  if (!disk) return fail(disk.error() == EPERM ? ENODATA : disk.error().value());
  ReadLock tree(tree_mutex_);
  ReadLock lock(node->mutex);
  Place place = TRY(place_of(*node));
  std::string value = TRY(sys::getxattr(place.fd(), place.name, disk->c_str()));
  if (is_acl_xattr(name) && !(uids_.trivial() && gids_.trivial())) return map_acl(value, false);
  return value;
}

Result<std::string> Overlay::listxattr(const fuse::Caller& caller, fuse::NodeId id) {
  if (options_.no_xattrs) return fail(EOPNOTSUPP);
  NodeRef node = TRY(nodes_.get(id));
  ReadLock tree(tree_mutex_);
  ReadLock lock(node->mutex);
  Place place = TRY(place_of(*node));
  std::string names = visible_xattrs(TRY(sys::listxattr(place.fd(), place.name)));
  // The kernel asks the backing file system to keep trusted.* from others, but passes our list on as it is.
  bool hide_trusted = caller.uid != 0;
  if (!options_.no_acl && !hide_trusted) return names;
  std::string rest;
  for_each_xattr(names, [&](std::string_view name) {
    if (options_.no_acl && is_acl_xattr(name)) return;
    if (hide_trusted && name.starts_with("trusted.")) return;
    rest.append(name).push_back('\0');
  });
  return rest;
}

Status Overlay::setxattr(const fuse::Caller&, fuse::NodeId id, std::string_view name,
                         std::span<const std::byte> value, fuse::XattrFlags flags) {
  if (options_.no_xattrs || (options_.no_acl && is_acl_xattr(name))) return fail(EOPNOTSUPP);
  if (upper_ == nullptr) return fail(EROFS);
  if (name == kStats) return fail(EPERM);
  NodeRef node = TRY(nodes_.get(id));
  std::string disk = TRY(to_disk_xattr(name));
  std::string bytes(reinterpret_cast<const char*>(value.data()), value.size());
  if (is_acl_xattr(name) && !(uids_.trivial() && gids_.trivial())) bytes = TRY(map_acl(bytes, true));
  ReadLock tree(tree_mutex_);
  TRY(copy_up(*node, {.metadata_only = true, .truncate_to = {}}));
  WriteLock lock(node->mutex);
  Place place = TRY(place_of(*node));
  int how = (flags.create ? XATTR_CREATE : 0) | (flags.replace ? XATTR_REPLACE : 0);
  TRY(sys::setxattr(place.fd(), place.name, disk.c_str(), bytes, how));
  if (flags.acl_kill_sgid) {
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
  std::string disk = TRY(to_disk_xattr(name));
  ReadLock tree(tree_mutex_);
  {
    // Nothing to remove is no reason to copy.
    ReadLock lock(node->mutex);
    Place place = TRY(place_of(*node));
    if (!is_acl_xattr(name)) TRY(sys::getxattr(place.fd(), place.name, disk.c_str()));
  }
  TRY(copy_up(*node, {.metadata_only = true, .truncate_to = {}}));
  WriteLock lock(node->mutex);
  Place place = TRY(place_of(*node));
  return sys::removexattr(place.fd(), place.name, disk.c_str());
}

}  // namespace vellum::overlay
