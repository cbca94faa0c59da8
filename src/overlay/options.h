// What an overlay is made of, as typed values. Parsing of `-o` text is in src/cli/; checks that need the disk
// (does the layer exist, is workdir on upper's device) are made by Overlay::create, which names the option and
// the path in its error. Threads: a plain value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace vellum::overlay {

struct Common;

enum class XinoMode { kOff, kAuto, kOn };
enum class RedirectDir { kOff, kOn, kCopy, kFollow, kNofollow };
// kDeletedTree: .deleted/PATH, an empty regular file for each removed PATH; layers are read that way only if it is
// asked for.
enum class WhiteoutStyle { kAuto, kDevice, kDotWh, kXattr, kDeletedTree };
// Where owner, mode and type are kept when the upper cannot hold them itself.
enum class XattrPermissions { kOff, kPrivileged, kContainers };

// `length` ids starting at `on_disk` are presented as those starting at `presented`. Ranges may end at 2^32-1.
struct IdRange {
  std::uint32_t on_disk = 0;
  std::uint32_t presented = 0;
  std::uint64_t length = 0;
};

constexpr std::size_t kMaxLowers = 500;  // as kernel overlayfs

struct Options {
  std::vector<std::string> lower_dirs;  // topmost first
  std::string upper_dir;                // empty: read-only
  std::string work_dir;

  std::vector<IdRange> uid_map, gid_map;
  bool squash_to_root = false;
  std::optional<std::uint32_t> squash_to_uid, squash_to_gid;

  unsigned workdir_tries = 100;  // to lock workdir, 20 ms apart: a mount that ends still holds it
  double timeout_seconds = 1e9;
  bool fsync = true;
  bool is_volatile = false;
  bool writeback = true;
  bool handles = false;           // OPEN and OPENDIR even where the kernel could do without
  bool lower_passthrough = true;  // lower files too, not only upper ones, where the mount has passthrough
  bool no_xattrs = false;
  bool no_acl = false;
  bool user_xattr = false;  // overlay xattrs under user.overlay. even as root
  bool metacopy = false;
  bool static_nlink = false;
  bool ino32 = false;
  bool fast_ino = false;
  bool nfs_filehandles = false;
  XattrPermissions xattr_permissions = XattrPermissions::kOff;
  XinoMode xino = XinoMode::kAuto;
  RedirectDir redirect_dir = RedirectDir::kOff;
  WhiteoutStyle whiteouts = WhiteoutStyle::kAuto;

  // No layers but upper_dir, which is shown as it is: no work directory, no whiteouts, no marks, every name and
  // attribute.
  bool plain = false;
  // For layers that a user names and the user's rights: a copy whose owner cannot be kept belongs to whoever makes it,
  // and no layer says by attributes who owns its files.
  bool any_owner = false;
  std::shared_ptr<Common> common;  // with other overlays of the process; null: by itself
  std::string rights;              // whose: names that were read with other rights are not shared
};

}  // namespace vellum::overlay
