// Open files: open, read, write, and what else is done through a handle.
#include <linux/fs.h>

#include <array>
#include <cstring>

#include "base/scope.h"
#include "overlay/overlay.h"

namespace vellum::overlay {
namespace {

constexpr std::uint64_t kSmallFile = 64 << 10;
constexpr std::size_t kLongWrite = 64 << 10;

}  // namespace

// Passthrough, or the page cache?
// Upper: those with setuid or setgid bits go through us, who know whether the writer may keep them.
// Lower: small files go through the cache, where they get with the answer to OPEN, and where locks and descriptors
// outlive a copy-up. One with several names is copied up in place, so that all of them lead to the copy; only a single
// name can be given to a successor.
// The node is locked.
bool Overlay::may_pass_through(const Node& node, const sys::Statx& st) const {
  if (!passthrough_ || (node.file && node.file->metacopy)) return false;
  if (node.in_upper.load(std::memory_order_acquire)) return new_may_pass_through(st.mode);
  return options_.lower_passthrough && st.nlink == 1 && st.size > kSmallFile;
}

// Saves the READ after the first OPEN. The node is locked, so no copy-up, and no write after it, comes between our
// reading and the kernel's storing. The kernel waits here for pages that a READ of a second OPEN holds, so that READ
// must find a free worker: one store at a time leaves one.
void Overlay::store_small(Node& node, sys::FdRef fd, std::uint64_t size) {
  if (storing_.exchange(true)) return;
  const auto stored = on_exit([this] { storing_.store(false); });
  std::array<std::byte, kSmallFile> buffer;
  auto got = sys::pread(fd, std::span(buffer).first(size), 0);
  if (!got || *got != size) return;
  if (notifier_->store_data(node.node_id(), 0, std::span(buffer).first(size))) {
    node.stored.store(true, std::memory_order_relaxed);
  }
}

Result<fuse::OpenReply> Overlay::add_handle(NodeRef node, Opened opened) {
  auto handle = std::make_shared<Handle>(node.share(), opened.writes);
  const DirFd fd = shared(opened);
  fuse::OpenReply reply;
  bool first = false;
  reply.backing_id = TRY(modes_.open(*node, !opened.lower, [&]() -> std::int32_t {
    first = true;
    if (!opened.may_pass) return 0;
    // Refused where the layer's own file system is stacked on another: then through the cache.
    return notifier_->open_backing(fd->raw()).value_or(0);
  }));
  auto undo = on_failure([&] { close_mode(*node); });  // memory may run out
  if (first && opened.small > 0 && reply.backing_id == 0 && !node->stored.load(std::memory_order_relaxed)) {
    store_small(*node, *fd, opened.small);
  }
  {
    WriteLock lock(handle->mutex);
    handle->fd = fd;
    handle->lower = opened.lower;
  }
  reply.handle = handles_.add(std::move(handle));
  undo.done();
  reply.keep_cache = reply.backing_id == 0;  // nobody but this mount changes the contents
  reply.noflush = true;
  return reply;
}

// One descriptor for all who have a lower file open, in whichever overlay: each has opened it by rights of their own.
// What it is is asked of the descriptor; the name may lead elsewhere by now.
DirFd Overlay::shared(Opened& opened) {
  auto own = std::make_shared<const sys::UniqueFd>(std::move(opened.fd));
  if (!opened.lower || opened.writes || opened.in == nullptr || !opened.in->local) return own;
  const auto st = sys::statx(*own, "");
  if (!st || st->dev != opened.in->device || !st->has_btime) return own;
  return common_->files.add(
      {.device = st->dev, .ino = st->ino, .mount = st->mount, .made = st->btime.tv_sec, .made_nsec = st->btime.tv_nsec},
      std::move(own));
}

void Overlay::close_mode(const Node& node) {
  if (std::int32_t unused = modes_.close(node); unused != 0) ignore(notifier_->close_backing(unused));
}

Result<sys::UniqueFd> Overlay::open_place(const Place& place, int flags) {
  auto attempt = [&](int with) {
    return with_fds([&]() -> Result<sys::UniqueFd> {
      return *place.name.c_str() == '\0' ? sys::reopen(place.fd(), with) : sys::openat(place.fd(), place.name, with);
    });
  };
  // A layer whose file was swapped for a fifo must not hold the daemon up.
  auto fd = attempt(flags | O_NOATIME | O_NONBLOCK);
  if (!fd && fd.error() == EPERM) fd = attempt(flags | O_NONBLOCK);  // only the owner may ask for O_NOATIME
  return fd;
}

Result<fuse::OpenReply> Overlay::open(const fuse::Caller&, fuse::NodeId id, int flags, bool kill) {
  NodeRef node = TRY(nodes_.get(id));
  if (node->is_dir()) return fail(EISDIR);
  // Retired by a copy-up: on ESTALE the kernel looks the name up again, and opens the successor.
  if (node->node_id() != id) return fail(ESTALE);
  bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
  if (writes && upper_ == nullptr) return fail(EROFS);
  if (no_open_) return fail(ENOSYS);
  sys::UniqueFd copy;
  if (writes) {
    CopyUp how;
    how.keep = &copy;
    if ((flags & O_TRUNC) != 0) how.truncate_to = 0;
    TRY(copy_up(node, how));
  }
  ReadLock tree(tree_mutex_);
  CurrentLock<ReadLock> lock(nodes_, node);
  if (node->node_id() != id) return fail(ESTALE);
  Place place = writes ? TRY(place_of(*node)) : TRY(data_place_of(*node));
  sys::Statx st = TRY(stat_at(*place.in, place.fd(), place.name));
  if (!st.is_regular()) return fail(st.is_symlink() ? ELOOP : ENXIO);
  if (copy && (flags & (O_SYNC | O_DSYNC)) == 0) {
    // The copy came with an fd: nothing is left that could fail after the old content is gone.
    if ((flags & O_TRUNC) != 0) TRY(sys::truncate(copy, 0));  // it has the new time to show for it
    if (kill && (flags & O_TRUNC) != 0) kill_suidgid(copy, "");
    bool may_pass = may_pass_through(*node, st);
    return add_handle(node.share(), {.fd = std::move(copy), .writes = true, .may_pass = may_pass});
  }
  int truncate = atomic_trunc_ ? flags & O_TRUNC : 0;
  auto fd = open_place(place, backing_flags(flags) | truncate);
  if (!fd && fd.error() == EACCES && backing_flags(flags) != (flags & O_ACCMODE)) {
    // The writeback cache wants to read as well; a write-only file still opens as asked.
    fd = open_place(place, (flags & O_ACCMODE) | truncate);
  }
  if (!fd) return fail(fd.error());
  if (kill && truncate != 0) kill_suidgid(place.fd(), place.name);
  bool lower = !node->in_upper.load(std::memory_order_acquire) || (node->file && node->file->metacopy);
  // What a mapping writes the kernel does not see: it must not go on with attributes from before.
  if (writes && passthrough_) ignore(notifier_->inval_attr(id));
  bool may_store = !node->in_upper.load(std::memory_order_acquire) && notifier_ != nullptr && st.size <= kSmallFile;
  return add_handle(node.share(), {.fd = std::move(*fd),
                                   .lower = lower,
                                   .writes = (flags & O_ACCMODE) != O_RDONLY,
                                   .may_pass = may_pass_through(*node, st),
                                   .small = may_store ? st.size : 0,
                                   .in = place.in});
}

// Of a read-only mount, which has no handles. The files that are being read stay open for a while.
Result<DirFd> Overlay::fd_without_handle(fuse::NodeId id) {
  NodeRef node = TRY(nodes_.get(id));
  if (DirFd known = dir_fds_.find(raw(id), kFileItself)) return known;
  if (node->is_dir()) return fail(EISDIR);
  ReadLock tree(tree_mutex_);
  ReadLock lock(node->mutex);
  Place place = TRY(data_place_of(*node));
  sys::UniqueFd opened = TRY(open_place(place, O_RDONLY));
  if (!TRY(sys::statx(opened, "")).is_regular()) return fail(ENXIO);
  auto fd = std::make_shared<const sys::UniqueFd>(std::move(opened));
  dir_fds_.put(raw(id), kFileItself, fd);
  return DirFd(fd);
}

Result<DirFd> Overlay::readable_fd(fuse::NodeId id, fuse::HandleId handle) {
  if (handle == fuse::HandleId::kNone && no_open_) return fd_without_handle(id);
  return readable_fd(*TRY(handles_.get(handle)));
}

// The fd to read from. A handle opened on the lower file goes over to the copy once there is one: what others have
// written since must be seen through it.
Result<DirFd> Overlay::readable_fd(Handle& handle) {
  Node& node = *handle.node;
  {
    ReadLock lock(handle.mutex);
    if (!handle.fd) return fail(EBADF);
    if (!handle.lower || !node.in_upper.load(std::memory_order_acquire)) return handle.fd;
  }
  ReadLock tree(tree_mutex_);
  ReadLock lock(node.mutex);
  if (node.file && node.file->metacopy) {
    ReadLock mine(handle.mutex);
    return handle.fd;
  }
  Place place = TRY(place_of(node));
  sys::UniqueFd fd = TRY(open_place(place, O_RDONLY));
  WriteLock mine(handle.mutex);
  if (handle.lower) {
    handle.fd = std::make_shared<const sys::UniqueFd>(std::move(fd));
    handle.lower = false;
  }
  return handle.fd;
}

Result<DirFd> Overlay::writable_fd(Handle& handle) {
  ReadLock lock(handle.mutex);
  if (!handle.fd || handle.lower) return fail(EBADF);
  return handle.fd;
}

Result<std::size_t> Overlay::read(const fuse::Caller&, fuse::NodeId id, fuse::HandleId handle, std::uint64_t offset,
                                  std::span<std::byte> out) {
  DirFd fd = TRY(readable_fd(id, handle));
  std::size_t got = TRY(sys::pread(*fd, out, offset));
  bytes_read_.fetch_add(got, std::memory_order_relaxed);
  return got;
}

// The file system lets one write to a file in at a time, and the others burn a CPU meanwhile that the program which
// writes could use. Long pieces of one open file (the kernel writes its cache out by several requests at once)
// therefore wait asleep.
Result<std::size_t> Overlay::write(const fuse::Caller&, fuse::NodeId, fuse::HandleId id, std::uint64_t offset,
                                   std::span<const std::byte> bytes, bool kill) {
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
  DirFd fd = TRY(writable_fd(*handle));
  std::size_t put = 0;
  if (bytes.size() < kLongWrite) {
    put = TRY(sys::pwrite(*fd, bytes, offset));
  } else {
    const MutexLock alone(handle->long_write);
    put = TRY(sys::pwrite(*fd, bytes, offset));
  }
  if (kill) kill_suidgid(*fd, "");
  bytes_written_.fetch_add(put, std::memory_order_relaxed);
  return put;
}

Result<std::size_t> Overlay::move_out(fuse::NodeId id, fuse::HandleId handle, std::uint64_t offset,
                                      fuse::FileMover& mover) {
  DirFd fd = TRY(readable_fd(id, handle));
  std::size_t got = TRY(mover.move(*fd, offset));
  bytes_read_.fetch_add(got, std::memory_order_relaxed);
  return got;
}

Result<std::size_t> Overlay::move_in(fuse::NodeId, fuse::HandleId id, std::uint64_t offset, fuse::FileMover& mover) {
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
  DirFd fd = TRY(writable_fd(*handle));
  const MutexLock alone(handle->long_write);
  std::size_t put = TRY(mover.move(*fd, offset));
  bytes_written_.fetch_add(put, std::memory_order_relaxed);
  return put;
}

void Overlay::release(fuse::NodeId id, fuse::HandleId handle_id) {
  std::shared_ptr<Handle> handle = handles_.remove(handle_id);
  if (!handle) return;
  NodeRef node = handle->node.share();
  bool wrote_unseen = handle->writes && modes_.passes_through(*node);
  if (!node->is_dir()) close_mode(*node);
  handle.reset();
  // A mapping may have changed it after the kernel last asked.
  if (wrote_unseen) ignore(notifier_->inval_attr(id));
  if (!node->nameless.load(std::memory_order_acquire)) return;
  ReadLock tree(tree_mutex_);
  WriteLock lock(node->mutex);
  drop_idle_fd(*node);
}

Status Overlay::fsync(const fuse::Caller&, fuse::NodeId, fuse::HandleId id, bool data_only) {
  if (no_fsync_) return fail(ENOSYS);
  if (!syncs()) return {};
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
  {
    ReadLock tree(tree_mutex_);
    TRY(settle_names(*handle->node));
  }
  DirFd fd = TRY(readable_fd(*handle));
  return sys::fsync(*fd, data_only);
}

Status Overlay::fallocate(const fuse::Caller&, fuse::NodeId, fuse::HandleId id, int mode, std::uint64_t offset,
                          std::uint64_t length) {
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
  DirFd fd = TRY(writable_fd(*handle));
  return sys::fallocate(*fd, mode, offset, length);
}

// The kernel asks for data and holes without writing its dirty pages out first, and the backing file knows nothing of
// those. Invalidating the pages writes them, by WRITE requests that other workers must be free to serve: so one flush
// at a time, and with a single worker none. EINVAL is what lseek(2) says where SEEK_DATA is not supported; callers then
// read the file plainly.
Status Overlay::flush_before_seek(Node& node) {
  if (!writeback_ || node.writers.load(std::memory_order_acquire) == 0) return {};
  if (workers_.load() < 2 || notifier_ == nullptr || seek_flush_.exchange(true)) return fail(EINVAL);
  auto flushed = notifier_->inval_data(node.node_id(), 0, 0);
  seek_flush_.store(false);
  return flushed || flushed.error() == ENOENT ? Status{} : fail(EINVAL);
}

Result<std::uint64_t> Overlay::lseek(const fuse::Caller&, fuse::NodeId id, fuse::HandleId handle_id,
                                     std::uint64_t offset, int whence) {
  if (writeback_ && (whence == SEEK_DATA || whence == SEEK_HOLE)) {
    TRY(flush_before_seek(*TRY(handles_.get(handle_id))->node));
  }
  DirFd fd = TRY(readable_fd(id, handle_id));
  return sys::lseek(*fd, static_cast<std::int64_t>(offset), whence);
}

Result<std::size_t> Overlay::copy_file_range(const fuse::Caller&, fuse::NodeId, fuse::HandleId in_id,
                                             std::uint64_t offset_in, fuse::NodeId, fuse::HandleId out_id,
                                             std::uint64_t offset_out, std::size_t length) {
  std::shared_ptr<Handle> in = TRY(handles_.get(in_id));
  std::shared_ptr<Handle> out = TRY(handles_.get(out_id));
  DirFd from = TRY(readable_fd(*in));
  DirFd to = TRY(writable_fd(*out));
  // EXDEV and EOPNOTSUPP make the kernel copy through its own cache instead.
  return sys::copy_file_range(*from, offset_in, *to, offset_out, length);
}

Result<fuse::IoctlReply> Overlay::ioctl(const fuse::Caller&, fuse::NodeId id, fuse::HandleId handle,
                                        const fuse::IoctlRequest& request) {
  // The reading ones of the ext2 family, as fuse-overlayfs; what would change an object's flags would have to survive
  // copy-up, and immutable files would block the overlay itself.
  if (request.command != FS_IOC_GETFLAGS && request.command != FS_IOC_GETVERSION) return fail(ENOTTY);
  NodeRef node = handle == fuse::HandleId::kNone ? TRY(nodes_.get(id)) : TRY(handles_.get(handle))->node.share();
  sys::UniqueFd opened;
  DirFd held;
  sys::FdRef fd;
  if (node->is_dir()) {
    ReadLock tree(tree_mutex_);
    ReadLock lock(node->mutex);
    Place place = TRY(place_of(*node));
    opened = TRY(open_for_reading(place.fd()));
    fd = opened;
  } else {
    held = TRY(readable_fd(id, handle));
    fd = *held;
  }
  std::uint32_t value = TRY(sys::ioctl_get_u32(fd, request.command));
  fuse::IoctlReply reply;
  reply.out.assign(reinterpret_cast<const char*>(&value), sizeof value);
  return reply;
}

}  // namespace vellum::overlay
