#include "overlay/acl.h"

#include <cstring>
#include <vector>

namespace vellum::overlay {
namespace {

constexpr std::uint32_t kVersion = 2;
constexpr std::uint16_t kUserObj = 0x01, kUser = 0x02, kGroupObj = 0x04, kGroup = 0x08, kMask = 0x10, kOther = 0x20;

struct AclEntry {  // little-endian on disk, as on every machine this runs on
  std::uint16_t tag;
  std::uint16_t perm;
  std::uint32_t id;
};
static_assert(sizeof(AclEntry) == 8);

Result<std::vector<AclEntry>> parse(std::string_view acl) {
  if (acl.size() < 4 || (acl.size() - 4) % sizeof(AclEntry) != 0) return fail(EINVAL);
  std::uint32_t version = 0;
  std::memcpy(&version, acl.data(), sizeof version);
  if (version != kVersion) return fail(EOPNOTSUPP);
  std::vector<AclEntry> entries((acl.size() - 4) / sizeof(AclEntry));
  if (!entries.empty()) std::memcpy(entries.data(), acl.data() + 4, acl.size() - 4);
  return entries;
}

std::string format(const std::vector<AclEntry>& entries) {
  std::string acl(4 + entries.size() * sizeof(AclEntry), '\0');
  std::memcpy(acl.data(), &kVersion, sizeof kVersion);
  if (!entries.empty()) std::memcpy(acl.data() + 4, entries.data(), entries.size() * sizeof(AclEntry));
  return acl;
}

}  // namespace

Result<Inherited> inherit_acl(std::string_view default_acl, std::uint32_t mode) {
  std::vector<AclEntry> entries = TRY(parse(default_acl));
  AclEntry *owner = nullptr, *group = nullptr, *mask = nullptr, *other = nullptr;
  bool extended = false;
  for (AclEntry& entry : entries) {
    switch (entry.tag) {
      case kUserObj: owner = &entry; break;
      case kGroupObj: group = &entry; break;
      case kMask:
        mask = &entry;
        extended = true;
        break;
      case kOther: other = &entry; break;
      default: extended = true;
    }
  }
  if (owner == nullptr || group == nullptr || other == nullptr) return fail(EINVAL);
  AclEntry* middle = mask != nullptr ? mask : group;
  owner->perm &= static_cast<std::uint16_t>((mode >> 6) & 7);
  middle->perm &= static_cast<std::uint16_t>((mode >> 3) & 7);
  other->perm &= static_cast<std::uint16_t>(mode & 7);
  Inherited result;
  result.mode = (mode & ~0777u) | static_cast<std::uint32_t>(owner->perm << 6) |
                static_cast<std::uint32_t>(middle->perm << 3) | other->perm;
  if (extended) result.access = format(entries);
  return result;
}

std::uint32_t mode_without_acl(std::string_view acl, std::uint32_t mode) {
  const auto entries = parse(acl);
  if (!entries) return mode & ~077u;
  std::uint32_t mask = 7, group = 7, other = mode & 7;
  for (const AclEntry& entry : *entries) {
    if (entry.tag == kMask) mask = entry.perm;
  }
  for (const AclEntry& entry : *entries) {
    if (entry.tag == kGroupObj) group &= entry.perm & mask;
    if (entry.tag != kUser && entry.tag != kGroup) continue;
    // Who is named is one of the group, or of the others, from now on.
    group &= entry.perm & mask;
    other &= entry.perm & mask;
  }
  return (mode & ~077u) | ((mode >> 3 & group) << 3) | other;
}

Result<std::string> map_acl_ids(std::string_view acl, const MapId& user, const MapId& group) {
  std::vector<AclEntry> entries = TRY(parse(acl));
  for (AclEntry& entry : entries) {
    if (entry.tag != kUser && entry.tag != kGroup) continue;
    auto mapped = entry.tag == kUser ? user(entry.id) : group(entry.id);
    if (!mapped) return fail(EINVAL);
    entry.id = *mapped;
  }
  return format(entries);
}

}  // namespace vellum::overlay
