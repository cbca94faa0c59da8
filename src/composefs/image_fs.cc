#include "composefs/image_fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/scope.h"

namespace vellum::composefs {
namespace {

constexpr fuse::Timeout kForever{.sec = std::numeric_limits<std::int64_t>::max(), .nsec = 0};
constexpr std::string_view kRedirect = "overlay.redirect", kMetacopy = "overlay.metacopy";
// Every node but an external file that is open: what it reads lies in the image.
constexpr fuse::HandleId kInImage = fuse::HandleId::kNone;
constexpr fuse::HandleId kObject{1};
constexpr std::size_t kSmallObject = 64 << 10;
constexpr std::size_t kMostIdle = 1024;  // open files beyond those that are in use

std::uint32_t dirent_type(const erofs::Child& child) {
  switch (child.type) {
    case erofs::kTypeRegular: return DT_REG;
    case erofs::kTypeDirectory: return DT_DIR;
    case erofs::kTypeCharDevice: return DT_CHR;
    case erofs::kTypeBlockDevice: return DT_BLK;
    case erofs::kTypeFifo: return DT_FIFO;
    case erofs::kTypeSocket: return DT_SOCK;
    case erofs::kTypeSymlink: return DT_LNK;
    default: return DT_UNKNOWN;
  }
}

bool is_whiteout(const erofs::Inode& inode) { return inode.is_char_device() && inode.rdev == 0; }
bool is_dot(std::string_view name) { return name == "." || name == ".."; }

}  // namespace

ImageFs::ImageFs(const erofs::Image& image, const ImageFsOptions& options)
    : image_(image), options_(options), xattrs_(image, options.xattrs) {}

Status ImageFs::init(fuse::Connection& connection) {
  notifier_ = connection.notifier;
  passthrough_ = connection.passthrough && options_.objects != nullptr;
  connection.passthrough = passthrough_;
  connection.writeback_cache = false;
  no_open_ = connection.no_open && options_.objects == nullptr;
  no_opendir_ = connection.no_opendir;
  constexpr std::size_t kShare = 4;  // of the process's limit
  most_idle_ = options_.objects == nullptr ? 0 : std::min(kMostIdle, sys::open_file_limit() / kShare) / kShards;
  return {};
}

erofs::Nid ImageFs::nid_of(fuse::NodeId node) const {
  if (node == fuse::NodeId::kRoot) return image_.root();
  // Numbers that we never gave out wrap around to what lies outside of the image.
  return erofs::Nid{fuse::raw(node) - image_.slot_base()};
}

fuse::NodeId ImageFs::node_of(erofs::Nid nid) const {
  if (nid == image_.root()) return fuse::NodeId::kRoot;
  return fuse::NodeId{erofs::raw(nid) + image_.slot_base()};
}

fuse::Attr ImageFs::attr_of(const erofs::Inode& inode) const {
  const fuse::Timestamp time{.sec = inode.mtime, .nsec = inode.mtime_nsec};
  const std::uint64_t block = image_.block_size();
  return {.ino = erofs::raw(inode.nid),
          .size = inode.size,
          .blocks = (inode.size + block - 1) / block * (block / 512),
          .atime = time,
          .mtime = time,
          .ctime = time,
          .btime = {},
          .mode = inode.mode,
          .nlink = inode.nlink,
          .uid = inode.uid,
          .gid = inode.gid,
          .rdev = inode.rdev,
          .blksize = image_.block_size()};
}

fuse::Entry ImageFs::entry_of(const erofs::Inode& inode) const {
  return {.node = node_of(inode.nid),
          .generation = 0,
          .attr = attr_of(inode),
          .entry_valid = kForever,
          .attr_valid = kForever};
}

bool ImageFs::hidden(const erofs::Child& child) const {
  if (child.type != erofs::kTypeCharDevice && child.type != erofs::kTypeUnknown) return false;
  const auto inode = image_.inode(child.nid);
  return inode && is_whiteout(*inode);
}

Result<fuse::Entry> ImageFs::lookup(const fuse::Caller&, fuse::NodeId parent, std::string_view name) {
  const erofs::Inode dir = TRY(inode(parent));
  if (name == ".") return entry_of(dir);  // how the kernel asks for the node of a file handle
  const auto child = image_.find(dir, name);
  if (child) {
    const erofs::Inode found = TRY(image_.inode(child->nid));
    if (!is_whiteout(found)) return entry_of(found);
  } else if (child.error() != ENOENT) {
    return fail(child.error());
  }
  fuse::Entry none;
  none.entry_valid = kForever;
  return none;
}

Result<fuse::AttrReply> ImageFs::getattr(const fuse::Caller&, fuse::NodeId node, std::optional<fuse::HandleId>) {
  return fuse::AttrReply{.attr = attr_of(TRY(inode(node))), .valid = kForever};
}

Result<std::string> ImageFs::readlink(const fuse::Caller&, fuse::NodeId node) {
  return image_.symlink(TRY(inode(node)));
}

bool ImageFs::external(const erofs::Inode& inode, Errno* damage) const {
  if (!inode.is_regular() || !options_.external_files || inode.size == 0) return false;
  const auto metacopy = image_.xattr(inode, erofs::kXattrTrusted, kMetacopy);
  if (!metacopy) *damage = metacopy.error();
  return metacopy && metacopy->has_value();
}

Result<fuse::OpenReply> ImageFs::open(const fuse::Caller&, fuse::NodeId node, int flags, bool) {
  if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0) return fail(EROFS);
  if (no_open_) return fail(ENOSYS);
  const erofs::Inode found = TRY(inode(node));
  if (found.is_dir()) return fail(EISDIR);
  Errno damage(0);
  if (options_.objects != nullptr && external(found, &damage)) return open_object(node, found);
  if (damage.value() != 0) return fail(damage);
  fuse::OpenReply reply;
  reply.handle = kInImage;
  reply.keep_cache = true;
  reply.noflush = true;
  return reply;
}

std::shared_ptr<ImageFs::OpenObject> ImageFs::opened(fuse::NodeId node) {
  Shard& shard = shard_of(node);
  MutexLock lock(shard.mutex);
  const auto found = shard.objects.find(fuse::raw(node));
  return found == shard.objects.end() ? nullptr : found->second;
}

std::shared_ptr<ImageFs::OpenObject> ImageFs::open_again(fuse::NodeId node) {
  Shard& shard = shard_of(node);
  MutexLock lock(shard.mutex);
  const auto found = shard.objects.find(fuse::raw(node));
  if (found == shard.objects.end()) return nullptr;
  ++found->second->opens;
  return found->second;
}

bool ImageFs::drop(fuse::NodeId node) {
  std::shared_ptr<OpenObject> last;  // closed after the mutex
  {
    Shard& shard = shard_of(node);
    MutexLock lock(shard.mutex);
    const auto found = shard.objects.find(fuse::raw(node));
    if (found == shard.objects.end() || found->second->opens != 1) return false;
    last = std::move(found->second);
    shard.objects.erase(found);
  }
  if (last->backing_id != 0) ignore(notifier_->close_backing(last->backing_id));
  return true;
}

Result<fuse::OpenReply> ImageFs::open_object(fuse::NodeId node, const erofs::Inode& inode) {
  fuse::OpenReply reply;
  reply.handle = kObject;
  reply.noflush = true;
  const auto redirect = TRY(image_.xattr(inode, erofs::kXattrTrusted, kRedirect));
  const auto metacopy = TRY(image_.xattr(inode, erofs::kXattrTrusted, kMetacopy));
  const auto name = parse_object_name(redirect.value_or(""), metacopy.value_or(""), inode.size);
  if (!name) {
    log::error("inode {}: the image names no object that could be read for it", erofs::raw(inode.nid));
    return fail(name.error());
  }
  if (const auto there = open_again(node)) {
    const auto still = options_.objects->recheck(*name, there->file);
    // Perhaps another lies in its place by now; but while somebody has it open, all have the same.
    if ((still && still->has_name) || !drop(node)) {
      if (!still) {
        release(node, kObject);
        return fail(still.error());
      }
      reply.backing_id = there->backing_id;
      reply.keep_cache = reply.backing_id == 0 && still_cached(node, still->fingerprint);
      return reply;
    }
  }
  Objects::Opened object = TRY(open_file(*name));
  auto fresh = std::make_shared<OpenObject>();
  fresh->file = std::move(object.file);
  bool keep = still_cached(node, object.fingerprint);
  // Small ones are read into the cache faster than they are registered. Refused where the objects' own file system is
  // stacked on another: then through the cache too.
  const bool small = inode.size <= kSmallObject;
  if (passthrough_ && !small) fresh->backing_id = notifier_->open_backing(fresh->file.raw()).value_or(0);
  if (small && keep) store_small(node, fresh->file, inode.size);  // else the kernel would drop it again

  std::int32_t unused = 0;
  {
    Shard& shard = shard_of(node);
    MutexLock lock(shard.mutex);
    const auto [place, first] = shard.objects.try_emplace(fuse::raw(node), fresh);
    if (!first) {  // another open was faster
      ++place->second->opens;
      unused = fresh->backing_id;
    }
    reply.backing_id = place->second->backing_id;
    // Another open may have found it changed since, and what was stored here came after that.
    keep = keep && shard.cached[fuse::raw(node)] == object.fingerprint;
  }
  if (unused != 0) ignore(notifier_->close_backing(unused));  // it was never handed out
  reply.keep_cache = reply.backing_id == 0 && keep;
  return reply;
}

Result<Objects::Opened> ImageFs::open_file(const ObjectName& name) {
  auto object = options_.objects->open(name);
  if (object || object.error() != EMFILE) return object;
  // Those that nobody uses need not stay.
  for (Shard& shard : shards_) {
    Gone gone;
    MutexLock lock(shard.mutex);
    close_idle(shard, 0, gone);
  }
  return options_.objects->open(name);
}

bool ImageFs::still_cached(fuse::NodeId node, Objects::Fingerprint fingerprint) {
  Shard& shard = shard_of(node);
  MutexLock lock(shard.mutex);
  const auto [known, first] = shard.cached.try_emplace(fuse::raw(node), fingerprint);
  return first || std::exchange(known->second, fingerprint) == fingerprint;
}

// The content goes along with the answer to OPEN, which saves a READ. Nothing depends on it. The kernel waits here for
// pages that a READ of another OPEN holds, so that READ must find a free worker: one store at a time leaves one.
void ImageFs::store_small(fuse::NodeId node, sys::FdRef file, std::uint64_t size) {
  if (notifier_ == nullptr || storing_.exchange(true)) return;
  const auto stored = on_exit([this] { storing_.store(false); });
  std::array<std::byte, kSmallObject> buffer;
  const auto got = sys::pread(file, std::span(buffer).first(size), 0);
  if (got && *got == size) ignore(notifier_->store_data(node, 0, std::span(buffer).first(size)));
}

void ImageFs::release(fuse::NodeId node, fuse::HandleId handle) {
  if (handle != kObject) return;
  Gone gone;
  {
    Shard& shard = shard_of(node);
    MutexLock lock(shard.mutex);
    const auto found = shard.objects.find(fuse::raw(node));
    if (found == shard.objects.end() || found->second->opens == 0 || --found->second->opens != 0) return;
    // A registered one holds more than a descriptor.
    if (found->second->backing_id != 0 || most_idle_ == 0) {
      gone.push_back(std::move(found->second));
      shard.objects.erase(found);
    } else if (found->second->queued) {
      found->second->again = true;
    } else {
      found->second->queued = true;
      shard.idle.push_back(fuse::raw(node));
      close_idle(shard, most_idle_, gone);
    }
  }
  for (const auto& last : gone) {
    if (last->backing_id != 0) ignore(notifier_->close_backing(last->backing_id));  // unmounted meanwhile
  }
}

void ImageFs::close_idle(Shard& shard, std::size_t most, Gone& gone) {
  while (shard.idle.size() > most) {
    const std::uint64_t node = shard.idle.front();
    shard.idle.pop_front();
    const auto oldest = shard.objects.find(node);
    if (oldest == shard.objects.end()) continue;
    OpenObject& object = *oldest->second;
    object.queued = false;
    if (object.opens != 0) continue;  // it comes back when it is closed
    if (std::exchange(object.again, false) && most != 0) {
      object.queued = true;
      shard.idle.push_back(node);
      continue;
    }
    gone.push_back(std::move(oldest->second));
    shard.objects.erase(oldest);
  }
}

Result<std::size_t> ImageFs::move_out(fuse::NodeId node, fuse::HandleId handle, std::uint64_t offset,
                                      fuse::FileMover& mover) {
  if (handle != kObject) return fail(EOPNOTSUPP);
  const auto object = opened(node);
  if (!object) return fail(EBADF);
  return mover.move(object->file, offset);
}

Result<std::size_t> ImageFs::read(const fuse::Caller&, fuse::NodeId node, fuse::HandleId handle, std::uint64_t offset,
                                  std::span<std::byte> out) {
  if (handle == kObject) {
    const auto object = opened(node);
    if (!object) return fail(EBADF);
    std::size_t done = 0;
    while (done < out.size()) {
      const std::size_t got = TRY(sys::pread(object->file, out.subspan(done), offset + done));
      if (got == 0) break;
      done += got;
    }
    return done;
  }
  const erofs::Inode found = TRY(inode(node));
  if (!found.is_regular()) return fail(EINVAL);
  // Never zeros for bytes that are elsewhere.
  Errno damage(EIO);
  if (external(found, &damage) || damage != EIO) return fail(damage);
  return image_.read(found, offset, out);
}

Result<std::uint64_t> ImageFs::lseek(const fuse::Caller&, fuse::NodeId node, fuse::HandleId handle,
                                     std::uint64_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return fail(EINVAL);
  if (handle == kObject) {
    const auto object = opened(node);
    if (!object) return fail(EBADF);
    return sys::lseek(object->file, static_cast<std::int64_t>(offset), whence);
  }
  const erofs::Inode found = TRY(inode(node));
  if (offset >= found.size) return fail(ENXIO);
  std::uint64_t at = offset;
  while (at < found.size) {
    const erofs::Piece piece = TRY(image_.piece(found, at));
    if (piece.bytes.empty() == (whence == SEEK_HOLE)) return at;
    at += piece.size();
  }
  if (whence == SEEK_DATA) return fail(ENXIO);
  return found.size;
}

Result<fuse::OpenReply> ImageFs::opendir(const fuse::Caller&, fuse::NodeId, int) {
  if (no_opendir_) return fail(ENOSYS);
  fuse::OpenReply reply;
  reply.keep_cache = true;
  reply.cache_dir = true;
  return reply;
}

Status ImageFs::readdir(const fuse::Caller&, fuse::NodeId node, fuse::HandleId, std::uint64_t offset,
                        fuse::DirSink& sink) {
  return image_.read_dir(TRY(inode(node)), offset, [&](const erofs::Child& child, std::uint64_t next) {
    return hidden(child) || sink.add(child.name, erofs::raw(child.nid), dirent_type(child), next);
  });
}

Status ImageFs::readdirplus(const fuse::Caller&, fuse::NodeId node, fuse::HandleId, std::uint64_t offset,
                            fuse::DirPlusSink& sink) {
  return image_.read_dir(TRY(inode(node)), offset, [&](const erofs::Child& child, std::uint64_t next) {
    if (!sink.fits(child.name.size())) return false;
    fuse::Entry entry;
    const auto found = is_dot(child.name) ? Result<erofs::Inode>(fail(ENOENT)) : image_.inode(child.nid);
    if (found) {
      if (is_whiteout(*found)) return true;
      entry = entry_of(*found);
    } else {
      // Listed without a node: whoever looks a damaged one up gets the error.
      entry.attr.ino = erofs::raw(child.nid);
      entry.attr.mode = static_cast<std::uint32_t>(DTTOIF(dirent_type(child)));
    }
    return sink.add(child.name, entry, next);
  });
}

Result<fuse::Statfs> ImageFs::statfs(const fuse::Caller&, fuse::NodeId) {
  fuse::Statfs answer;
  answer.blocks = image_.blocks();
  answer.files = image_.inodes();
  answer.bsize = answer.frsize = image_.block_size();
  return answer;
}

Result<std::string> ImageFs::getxattr(const fuse::Caller& caller, fuse::NodeId node, std::string_view name) {
  return std::string(TRY(xattrs_.get(TRY(inode(node)), name, shows_trusted(caller))));
}

Result<std::string> ImageFs::listxattr(const fuse::Caller& caller, fuse::NodeId node) {
  return xattrs_.list(TRY(inode(node)), shows_trusted(caller));
}

Result<fuse::AttrReply> ImageFs::setattr(const fuse::Caller&, fuse::NodeId, const fuse::SetAttr&) {
  return fail(EROFS);
}
Status ImageFs::setxattr(const fuse::Caller&, fuse::NodeId, std::string_view, std::span<const std::byte>,
                         fuse::XattrFlags) {
  return fail(EROFS);
}
Status ImageFs::removexattr(const fuse::Caller&, fuse::NodeId, std::string_view) { return fail(EROFS); }

}  // namespace vellum::composefs
