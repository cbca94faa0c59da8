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
  Status inner;
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
      const bool escaped = xattr.suffix.substr(kOverlay.size()).starts_with(kOverlay);
      if (rule_ == XattrRule::kMetadata)
        add(erofs::kXattrPrefixes[kXattrUser], "", xattr.suffix);
      else if (escaped && show_trusted)
        add(prefix, "", xattr.suffix.substr(kOverlay.size()));
      return true;
    }
    if (rule_ == XattrRule::kStandalone) {
      add(prefix, "", xattr.suffix);
      return true;
    }
    // Shown under the name that the escaped trusted one has too: whoever has both shows it once.
    const auto twin = escaped_value(inode, kXattrTrusted, xattr.suffix);
    if (!twin && twin.error() != ENODATA) inner = fail(twin.error());
    if (!twin) add(prefix, kOverlay, xattr.suffix);
    return inner.has_value();
  }));
  TRY(std::move(inner));
  return names;
}

}  // namespace vellum::composefs
