#include "composefs/shown_xattrs.h"

#include <array>
#include <cstring>

namespace vellum::composefs {
namespace {

using erofs::kXattrNone;
using erofs::kXattrTrusted;
using erofs::kXattrUser;
constexpr std::string_view kOverlay = "overlay.";

}  // namespace

Result<std::string_view> ShownXattrs::value(const erofs::Inode& inode, std::uint8_t index,
                                            std::string_view suffix) const {
  const auto found = TRY(image_.xattr(inode, index, suffix));
  if (!found) return fail(ENODATA);
  return *found;
}

Result<std::string_view> ShownXattrs::escaped_value(const erofs::Inode& inode, std::uint8_t index,
                                                    std::string_view suffix) const {
  std::array<char, erofs::kNameMax + 1> name;
  if (kOverlay.size() + suffix.size() > name.size()) return fail(ENODATA);
  std::memcpy(name.data(), kOverlay.data(), kOverlay.size());
  std::memcpy(name.data() + kOverlay.size(), suffix.data(), suffix.size());
  return value(inode, index, std::string_view(name.data(), kOverlay.size() + suffix.size()));
}

Result<std::string_view> ShownXattrs::get(const erofs::Inode& inode, std::string_view name, bool show_trusted) const {
  if (inode.xattrs_size == 0) return fail(ENODATA);
  const auto [index, suffix] = erofs::split_xattr_name(name);
  if (index == kXattrNone) return fail(ENODATA);  // the kernel's EROFS shows none either
  const bool overlay = suffix.starts_with(kOverlay);
  if (index == kXattrTrusted) {
    if (!show_trusted) return fail(ENODATA);
    if (!overlay || rule_ == XattrRule::kAsStored) return value(inode, index, suffix);
    if (rule_ == XattrRule::kMetadata) return fail(ENODATA);
    return escaped_value(inode, index, suffix);
  }
  if (index == kXattrUser && overlay && rule_ == XattrRule::kMetadata) {
    if (const auto stored = value(inode, kXattrTrusted, suffix); stored || stored.error() != ENODATA) return stored;
    const std::string_view inner = suffix.substr(kOverlay.size());
    if (!inner.starts_with(kOverlay)) return fail(ENODATA);
    return value(inode, kXattrUser, inner);
  }
  return value(inode, index, suffix);
}

Result<std::string> ShownXattrs::list(const erofs::Inode& inode, bool show_trusted) const {
  std::string names;
  const auto escaped = TRY(escaped_trusted(inode));
  const auto add = [&names](std::string_view prefix, std::string_view escape, std::string_view suffix) {
    names.append(prefix).append(escape).append(suffix).push_back('\0');
  };
  TRY(image_.read_xattrs(inode, [&](const erofs::Xattr& xattr) {
    const std::string_view prefix = erofs::kXattrPrefixes[xattr.index];
    if (xattr.index == kXattrNone) return true;
    const bool overlay = xattr.suffix.starts_with(kOverlay);
    if (!overlay || rule_ == XattrRule::kAsStored || (xattr.index != kXattrTrusted && xattr.index != kXattrUser)) {
      if (xattr.index != kXattrTrusted || show_trusted) add(prefix, "", xattr.suffix);
      return true;
    }
    if (xattr.index == kXattrTrusted) {
      const std::string_view inner = xattr.suffix.substr(kOverlay.size());
      if (rule_ == XattrRule::kMetadata)
        add(erofs::kXattrPrefixes[kXattrUser], "", xattr.suffix);
      else if (inner.starts_with(kOverlay) && show_trusted)
        add(prefix, "", inner);
      return true;
    }
    if (rule_ == XattrRule::kStandalone) {
      add(prefix, "", xattr.suffix);
      return true;
    }
    // Shown under the name that the escaped trusted one has too: whoever has both shows it once.
    if (!escaped.contains(xattr.suffix)) add(prefix, kOverlay, xattr.suffix);
    return true;
  }));
  return names;
}

// A set, because an image may hold any number of them.
Result<absl::flat_hash_set<std::string_view>> ShownXattrs::escaped_trusted(const erofs::Inode& inode) const {
  absl::flat_hash_set<std::string_view> found;
  if (rule_ != XattrRule::kMetadata) return found;
  TRY(image_.read_xattrs(inode, [&](const erofs::Xattr& xattr) {
    if (xattr.index != kXattrTrusted || !xattr.suffix.starts_with(kOverlay)) return true;
    const std::string_view inner = xattr.suffix.substr(kOverlay.size());
    if (inner.starts_with(kOverlay)) found.insert(inner);
    return true;
  }));
  return found;
}

}  // namespace vellum::composefs
