#include "overlay/layer.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <charconv>

#include "overlay/xattr_names.h"

namespace vellum::overlay {
namespace {

constexpr std::string_view kOverridePrefix = "user.containers.override_";

std::optional<Origin> parse_origin(std::string_view text) {
  Origin origin;
  auto colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto first = std::from_chars(text.data(), text.data() + colon, origin.fs_id, 16);
  auto second = std::from_chars(text.data() + colon + 1, text.data() + text.size(), origin.ino, 16);
  if (first.ec != std::errc() || second.ec != std::errc()) return std::nullopt;
  return origin;
}

// Takes the text up to the next ':' off the front.
std::string_view next_field(std::string_view& text) {
  auto colon = text.find(':');
  std::string_view field = text.substr(0, colon);
  text.remove_prefix(colon == std::string_view::npos ? text.size() : colon + 1);
  return field;
}

bool parse_number(std::string_view text, int base, std::uint32_t& out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// A file may stand for any other object that the layer could not hold. Nothing else changes its type: a fifo that says
// it is a file would be opened as one.
void parse_override_type(std::string_view type, sys::Statx& st) {
  if (!st.is_regular()) return;
  auto set = [&](mode_t format) { st.mode = (st.mode & 07777) | format; };
  if (type == "file") return set(S_IFREG);
  if (type == "symlink") return set(S_IFLNK);
  if (type == "pipe") return set(S_IFIFO);
  if (type == "socket") return set(S_IFSOCK);
  bool block = type.starts_with("block-");
  if (!block && !type.starts_with("char-")) return;
  type.remove_prefix(block ? 6 : 5);
  auto dash = type.find('-');
  std::uint32_t major_number = 0, minor_number = 0;
  if (dash == std::string_view::npos || !parse_number(type.substr(0, dash), 10, major_number) ||
      !parse_number(type.substr(dash + 1), 10, minor_number)) {
    return;
  }
  set(block ? S_IFBLK : S_IFCHR);
  st.rdev = makedev(major_number, minor_number);
}

}  // namespace

void parse_override(std::string_view value, sys::Statx& st) {
  std::uint32_t uid = 0, gid = 0, mode = 0;
  if (!parse_number(next_field(value), 10, uid) || !parse_number(next_field(value), 10, gid) ||
      !parse_number(next_field(value), 8, mode)) {
    return;
  }
  st.uid = uid;
  st.gid = gid;
  st.mode = (st.mode & S_IFMT) | (mode & 07777);
  if (!value.empty()) parse_override_type(value, st);
}

std::string format_override(const sys::Statx& st) {
  std::string type;
  switch (st.mode & S_IFMT) {
    case S_IFDIR: type = "dir"; break;
    case S_IFLNK: type = "symlink"; break;
    case S_IFIFO: type = "pipe"; break;
    case S_IFSOCK: type = "socket"; break;
    case S_IFBLK: type = fmt::format("block-{}-{}", major(st.rdev), minor(st.rdev)); break;
    case S_IFCHR: type = fmt::format("char-{}-{}", major(st.rdev), minor(st.rdev)); break;
    default: type = "file";
  }
  return fmt::format("{}:{}:{:o}:{}", st.uid, st.gid, st.mode & 07777, type);
}

Result<std::string> attribute_on_disk(const Layer& layer, std::string_view name) {
  if (layer.plain) return std::string(name);
  if (layer.override_name == kOverrideContainers && name.starts_with("security.")) {
    return std::string(kOverridePrefix) + std::string(name);
  }
  return to_disk_xattr(name);
}

std::optional<std::string> attribute_shown(const Layer& layer, std::string_view on_disk) {
  if (layer.plain) return std::string(on_disk);
  if (layer.override_name == kOverrideContainers && on_disk.starts_with(kOverridePrefix) &&
      on_disk.substr(kOverridePrefix.size()).starts_with("security.")) {
    return std::string(on_disk.substr(kOverridePrefix.size()));
  }
  return from_disk_xattr(on_disk);
}

std::string format_origin(const Origin& origin) {
  char text[40];
  char* end = std::to_chars(text, text + 17, origin.fs_id, 16).ptr;
  *end++ = ':';
  end = std::to_chars(end, text + sizeof text, origin.ino, 16).ptr;
  return std::string(text, end);
}

Result<Layer> open_layer(LayerIndex index, const std::string& path, bool use_xattrs, bool trusted) {
  Layer layer;
  layer.index = index;
  layer.path = path;
  sys::UniqueFd root = TRY(sys::open(path.c_str(), O_RDONLY | O_DIRECTORY));
  sys::Statx st = TRY(sys::statx(root, ""));
  layer.device = st.dev;
  layer.fs_id = TRY(sys::fs_id(root));
  layer.local = sys::on_local_fs(root);
  layer.trusted = trusted;
  if (use_xattrs) {
    auto list = sys::listxattr(root, "");
    if (!list && list.error() != EOPNOTSUPP) return fail(list.error());
    layer.has_xattrs = list.has_value();
  }
  if (layer.has_xattrs) {
    for (const char* name : {kOverrideContainers, kOverridePrivileged, kOverrideUser}) {
      if (layer.override_name.empty() && sys::getxattr(root, "", name)) layer.override_name = name;
    }
  }
  layer.root = std::make_shared<const sys::UniqueFd>(std::move(root));
  return layer;
}

Result<Marks> read_marks(const Layer& layer, sys::FdRef dir, const char* name) {
  if (layer.plain) return Marks{};
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
    std::string_view mark;
    if (attribute.starts_with(kTrustedPrefix))
      mark = attribute.substr(kTrustedPrefix.size());
    else if (attribute.starts_with(kUserPrefix))
      mark = attribute.substr(kUserPrefix.size());
    else if (attribute == "user.fuseoverlayfs.opaque")
      mark = "opaque";
    if (mark.empty()) return;
    bool believed = attribute.starts_with(kTrustedPrefix) || !layer.trusted;
    if (mark == "opaque") {
      std::string how = value(attribute);
      marks.opaque = marks.opaque || how == "y";
      marks.xattr_whiteouts = marks.xattr_whiteouts || how == "x";
    } else if (mark == "whiteout") {
      marks.whiteout = true;
    } else if (mark == "metacopy" && believed) {
      marks.metacopy = true;
    } else if (mark == "impure") {
      marks.impure = true;
    } else if (mark == "redirect" && believed) {
      std::string target = value(attribute);
      if (!target.empty() && target.find('\0') == std::string::npos) marks.redirect = std::move(target);
    } else if (mark == "vellum.origin" && believed) {
      marks.origin = parse_origin(value(attribute));
    }
  });
  return marks;
}

}  // namespace vellum::overlay
