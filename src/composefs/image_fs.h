// Serves an EROFS image as a FUSE file system, straight from the mapped bytes: a node's id is where its inode lies (nid
// plus the image's slot base; the root is 1), so nothing is built at the start and nothing is kept per node.
//
// Two ways to serve. Without objects: metadata for a kernel overlayfs above, which finds the data itself; content is
// served only where it lies in the image, an external file's reads are EIO. With objects: whole, content included;
// every file is opened (and checked, see objects.h) before its first byte, with passthrough where the kernel lets us.
// Character devices 0:0 are whiteouts, which overlayfs would hide: hidden here too. Nothing ever changes, so every
// answer is valid for ever.
// Threads: safe. Errors: those of the image (EUCLEAN: damaged) and of the objects (EIO); changes are EROFS.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "composefs/objects.h"
#include "composefs/shown_xattrs.h"
#include "erofs/image.h"
#include "fuse/filesystem.h"

namespace vellum::composefs {

struct ImageFsOptions {
  XattrRule xattrs = XattrRule::kMetadata;
  bool external_files = true;  // overlay.metacopy says that a file's data is elsewhere
  Objects* objects = nullptr;  // where; outlives the file system
  // To callers of uid 0. Only where the kernel lets anybody read trusted.* at all: in the first user namespace.
  bool trusted_xattrs = false;
};

class ImageFs final : public fuse::Filesystem {
 public:
  // The image outlives the file system.
  ImageFs(const erofs::Image& image, const ImageFsOptions& options);

  Status init(fuse::Connection& connection) override;
  Result<fuse::Entry> lookup(const fuse::Caller&, fuse::NodeId parent, std::string_view name) override;
  void forget(fuse::NodeId, std::uint64_t) override {}
  Result<fuse::AttrReply> getattr(const fuse::Caller&, fuse::NodeId, std::optional<fuse::HandleId>) override;
  Result<std::string> readlink(const fuse::Caller&, fuse::NodeId) override;

  Result<fuse::OpenReply> open(const fuse::Caller&, fuse::NodeId, int flags, bool) override;
  Result<std::size_t> read(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset,
                           std::span<std::byte> out) override;
  Result<std::size_t> move_out(fuse::NodeId, fuse::HandleId, std::uint64_t offset, fuse::FileMover&) override;
  Result<std::uint64_t> lseek(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset,
                              int whence) override;
  void release(fuse::NodeId, fuse::HandleId) override;

  Result<fuse::OpenReply> opendir(const fuse::Caller&, fuse::NodeId, int flags) override;
  Status readdir(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset, fuse::DirSink&) override;
  Status readdirplus(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset,
                     fuse::DirPlusSink&) override;

  Result<fuse::Statfs> statfs(const fuse::Caller&, fuse::NodeId) override;
  Result<std::string> getxattr(const fuse::Caller&, fuse::NodeId, std::string_view name) override;
  Result<std::string> listxattr(const fuse::Caller&, fuse::NodeId) override;

  Result<fuse::AttrReply> setattr(const fuse::Caller&, fuse::NodeId, const fuse::SetAttr&) override;
  Status setxattr(const fuse::Caller&, fuse::NodeId, std::string_view, std::span<const std::byte>,
                  fuse::XattrFlags) override;
  Status removexattr(const fuse::Caller&, fuse::NodeId, std::string_view) override;

 private:
  // A file's object while it is open, and for a while after that. All opens of a node share one: passthrough asks for
  // that.
  struct OpenObject {
    sys::UniqueFd file;
    std::int32_t backing_id = 0;
    // Under its shard's mutex:
    std::uint64_t opens = 1;
    bool queued = false;  // among the idle
    bool again = false;   // opened since it was queued
  };
  using Gone = std::vector<std::shared_ptr<OpenObject>>;  // to be closed when the mutex is free
  struct Shard {
    Mutex mutex;
    std::unordered_map<std::uint64_t, std::shared_ptr<OpenObject>> objects VELLUM_GUARDED_BY(mutex);
    // Those that nobody has open, in the order in which they were closed. One that was opened again stays in it until
    // its turn comes, and gets another.
    std::deque<std::uint64_t> idle VELLUM_GUARDED_BY(mutex);
    // Of every node that was opened: which object the kernel may have cached pages of.
    absl::flat_hash_map<std::uint64_t, Objects::Fingerprint> cached VELLUM_GUARDED_BY(mutex);
  };
  static constexpr std::size_t kShards = 16;

  erofs::Nid nid_of(fuse::NodeId node) const;
  fuse::NodeId node_of(erofs::Nid nid) const;
  Result<erofs::Inode> inode(fuse::NodeId node) const { return image_.inode(nid_of(node)); }
  fuse::Attr attr_of(const erofs::Inode& inode) const;
  fuse::Entry entry_of(const erofs::Inode& inode) const;
  // Whether a name leads to a whiteout. Reads the inode only where it could.
  bool hidden(const erofs::Child& child) const;
  bool external(const erofs::Inode& inode, Errno* damage) const;
  bool shows_trusted(const fuse::Caller& caller) const { return options_.trusted_xattrs && caller.uid == 0; }
  Shard& shard_of(fuse::NodeId node) { return shards_[fuse::raw(node) % kShards]; }
  std::shared_ptr<OpenObject> opened(fuse::NodeId node);
  Result<fuse::OpenReply> open_object(fuse::NodeId node, const erofs::Inode& inode);
  Result<Objects::Opened> open_file(const ObjectName& name);
  // Whether what the kernel has cached of this node is of this very object.
  bool still_cached(fuse::NodeId node, Objects::Fingerprint fingerprint);
  static void close_idle(Shard& shard, std::size_t most, Gone& gone) VELLUM_REQUIRES(shard.mutex);
  // An open object that is there already, counted once more; null: there is none.
  std::shared_ptr<OpenObject> open_again(fuse::NodeId node);
  // Undoes that and forgets the object, if nobody else has it open. Whether it did.
  bool drop(fuse::NodeId node);
  void store_small(fuse::NodeId node, sys::FdRef file, std::uint64_t size);

  const erofs::Image& image_;
  const ImageFsOptions options_;
  const ShownXattrs xattrs_;
  fuse::Notifier* notifier_ = nullptr;
  bool passthrough_ = false, no_open_ = false, no_opendir_ = false;
  std::array<Shard, kShards> shards_;
  std::size_t most_idle_ = 0;  // of each shard
  std::atomic<bool> storing_{false};
};

}  // namespace vellum::composefs
