// One directory of the stack: its root fd, what was learnt of its file system, and the marks that overlay
// implementations leave on the objects in it. A layer is opened once; paths in it are resolved beneath the root.
// Threads: immutable after creation.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/file.h"

namespace vellum::overlay {

using DirFd = std::shared_ptr<const sys::UniqueFd>;
using LayerIndex = std::uint16_t;  // 0: upper, 1...: lower layers, topmost first

constexpr LayerIndex kFileItself = 0xffff;  // in a DirFdCache: not a directory of a layer, but the file's own fd

struct Layer {
  LayerIndex index = 0;
  std::string path;  // as the user gave it, for messages
  DirFd root;
  dev_t device = 0;
  std::uint64_t fs_id = 0;
  bool local = false;  // as sys::on_local_fs()
  bool has_xattrs = false;
  bool trusted = false;
  bool plain = false;  // nothing in it is a mark
  // Owner, mode and type of objects are in this attribute (xattr_permissions, or found on the layer's root).
  std::string override_name;
};

constexpr const char* kOverrideContainers = "user.containers.override_stat";
constexpr const char* kOverrideUser = "user.fuseoverlayfs.override_stat";
constexpr const char* kOverridePrivileged = "security.fuseoverlayfs.override_stat";

// Opens a layer's root. `index` 0 is upper.
// `trusted`: only trusted.overlay.* may say where data or directories are (see read_marks).
Result<Layer> open_layer(LayerIndex index, const std::string& path, bool use_xattrs, bool trusted);

// "uid:gid:octal mode[:type]" as fuse-overlayfs and containers/storage write it. parse changes what it names in st.
void parse_override(std::string_view value, sys::Statx& st);
std::string format_override(const sys::Statx& st);

// An attribute's name in this layer for the name a caller uses, and back (nothing: hidden). Beside what xattr_names.h
// says, layers with container overrides keep security.* where no privilege is needed.
Result<std::string> attribute_on_disk(const Layer& layer, std::string_view name);
std::optional<std::string> attribute_shown(const Layer& layer, std::string_view on_disk);

// Where an object came from before copy-up, so that its inode number outlives the mount.
struct Origin {
  std::uint64_t fs_id = 0;
  std::uint64_t ino = 0;
};

// What the extended attributes of one object in one layer say. All styles are read.
struct Marks {
  bool opaque = false;           // a directory that hides those below it
  bool xattr_whiteouts = false;  // a directory with whiteouts in xattr form (opaque=x)
  bool whiteout = false;         // an empty file that is a whiteout in xattr form
  bool metacopy = false;         // a file whose data is in a layer below
  bool impure = false;           // a directory with copied-up objects in it
  std::optional<std::string> redirect;
  std::optional<Origin> origin;
};
// Opaque and whiteout marks count under every prefix. Redirects, metacopy and origins make a name show something else:
// where the daemon has rights that a layer's users have not, only attributes that take privilege to write count.
Result<Marks> read_marks(const Layer& layer, sys::FdRef dir, const char* name);

// The names of the marks this mount writes: trusted.overlay.X as root, user.overlay.X otherwise.
class MarkNames {
 public:
  explicit MarkNames(bool trusted) : prefix_(trusted ? "trusted.overlay." : "user.overlay.") {}
  std::string operator()(std::string_view mark) const { return prefix_ + std::string(mark); }

 private:
  std::string prefix_;
};
std::string format_origin(const Origin& origin);

constexpr std::string_view kWhPrefix = ".wh.";
constexpr std::string_view kWhOpaque = ".wh..wh..opq";

// DT_* of a directory entry for st_mode.
constexpr std::uint8_t dirent_type(mode_t mode) { return static_cast<std::uint8_t>((mode & S_IFMT) >> 12); }

// Names starting with ".wh." are whiteouts of the AUFS style and never shown.
inline bool is_dot_wh(std::string_view name) { return name.starts_with(kWhPrefix); }
// Whether it is worth to look at the marks: a whiteout in xattr form is an empty file.
inline bool may_be_xattr_whiteout(const sys::Statx& st) { return st.is_regular() && st.size == 0; }
// Immutable or append-only, see chattr(1): its copy could be neither. Other file systems (EROFS) say so of everything.
inline bool is_protected(const Layer& layer, const sys::Statx& st) { return layer.local && st.protected_by_flag; }
inline bool is_device_whiteout(const sys::Statx& st) { return S_ISCHR(st.mode) && st.rdev == 0; }

}  // namespace vellum::overlay
