// Which xattrs of an image a mount shows, under which names.
//
// An image holds overlayfs's own attributes (trusted.overlay.redirect, metacopy, opaque), and, escaped by one more
// "overlay.", those that are content of the image. Who lies above decides what must be seen:
//   kMetadata    a kernel overlayfs with userxattr, which obeys user.overlay.* and takes one escape away:
//                trusted.overlay.X -> user.overlay.X (so trusted.overlay.overlay.X -> user.overlay.overlay.X);
//                the image's own user.overlay.X -> user.overlay.overlay.X, or its whiteouts would be obeyed
//   kStandalone  nobody: trusted.overlay.X is left out, trusted.overlay.overlay.X -> trusted.overlay.X, all else as is
//   kAsStored    a kernel overlayfs that obeys trusted.overlay.*, or an image that is not composefs's: nothing is
//   changed
// trusted.* beyond that only for those who ask with show_trusted. Each name once.
// Threads: const, safe. Errors: those of the image; ENODATA.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <string>
#include <string_view>

#include "erofs/image.h"

namespace vellum::composefs {

enum class XattrRule { kMetadata, kStandalone, kAsStored };

class ShownXattrs {
 public:
  ShownXattrs(const erofs::Image& image, XattrRule rule) : image_(image), rule_(rule) {}

  Result<std::string_view> get(const erofs::Inode& inode, std::string_view name, bool show_trusted) const;
  // Names, each followed by a zero byte.
  Result<std::string> list(const erofs::Inode& inode, bool show_trusted) const;

 private:
  Result<std::string_view> value(const erofs::Inode& inode, std::uint8_t index, std::string_view suffix) const;
  // The same with "overlay." in front of the suffix.
  Result<std::string_view> escaped_value(const erofs::Inode& inode, std::uint8_t index, std::string_view suffix) const;
  // X of every trusted.overlay.overlay.X, as "overlay.X"; under kMetadata only.
  Result<absl::flat_hash_set<std::string_view>> escaped_trusted(const erofs::Inode& inode) const;

  const erofs::Image& image_;
  XattrRule rule_;
};

}  // namespace vellum::composefs
