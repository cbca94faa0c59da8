#include "overlay/layer.h"

#include <charconv>

#include "overlay/xattr_names.h"

namespace vellum::overlay {
namespace {

std::optional<Origin> parse_origin(std::string_view text) {
  Origin origin;
  auto colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto first = std::from_chars(text.data(), text.data() + colon, origin.fs_id, 16);
  auto second = std::from_chars(text.data() + colon + 1, text.data() + text.size(), origin.ino, 16);
  if (first.ec != std::errc() || second.ec != std::errc()) return std::nullopt;
  return origin;
}

bool is_override(std::string_view name) {
  return name == "user.containers.override_stat" || name == "user.fuseoverlayfs.override_stat" ||
         name == "security.fuseoverlayfs.override_stat";
}

}  // namespace

std::string format_origin(const Origin& origin) {
  char text[40];
  char* end = std::to_chars(text, text + 17, origin.fs_id, 16).ptr;
  *end++ = ':';
  end = std::to_chars(end, text + sizeof text, origin.ino, 16).ptr;
  return std::string(text, end);
}

Result<Layer> open_layer(LayerIndex index, const std::string& path, bool use_xattrs) {
  Layer layer;
  layer.index = index;
  layer.path = path;
  sys::UniqueFd root = TRY(sys::open(path.c_str(), O_RDONLY | O_DIRECTORY));
  sys::Statx st = TRY(sys::statx(root, ""));
  layer.device = st.dev;
  layer.fs_id = TRY(sys::fs_id(root));
  layer.has_xattrs = use_xattrs && sys::listxattr(root, "").has_value();
  layer.root = std::make_shared<const sys::UniqueFd>(std::move(root));
  return layer;
}

Result<Marks> read_marks(const Layer& layer, sys::FdRef dir, const char* name) {
  Marks marks;
  if (!layer.has_xattrs) return marks;
  // Most objects have no attribute at all: one call says so.
  auto list = sys::listxattr(dir, name);
  if (!list) {
    if (list.error() == EOPNOTSUPP || list.error() == EACCES || list.error() == EPERM) return marks;
    return fail(list.error());
  }
  auto value = [&](std::string_view attribute) -> std::string {
    return sys::getxattr(dir, name, std::string(attribute).c_str()).value_or("");
  };
  for_each_xattr(*list, [&](std::string_view attribute) {
    if (attribute == "security.capability") marks.has_capability = true;
    if (attribute.starts_with("system.posix_acl_")) marks.has_acl = true;
    if (is_override(attribute)) marks.has_override = true;
    std::string_view mark;
    if (attribute.starts_with(kTrustedPrefix)) mark = attribute.substr(kTrustedPrefix.size());
    else if (attribute.starts_with(kUserPrefix)) mark = attribute.substr(kUserPrefix.size());
    else if (attribute == "user.fuseoverlayfs.opaque") mark = "opaque";
    if (mark.empty()) return;
    if (mark == "opaque") {
      std::string how = value(attribute);
      marks.opaque = marks.opaque || how == "y";
      marks.xattr_whiteouts = marks.xattr_whiteouts || how == "x";
    } else if (mark == "whiteout") {
      marks.whiteout = true;
    } else if (mark == "metacopy") {
      marks.metacopy = true;
    } else if (mark == "impure") {
      marks.impure = true;
    } else if (mark == "redirect") {
      std::string target = value(attribute);
      if (!target.empty() && target.find('\0') == std::string::npos) marks.redirect = std::move(target);
    } else if (mark == "vellum.origin") {
      marks.origin = parse_origin(value(attribute));
    }
  });
  return marks;
}

}  // namespace vellum::overlay
