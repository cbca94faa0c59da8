// Open files: open, read, write, and what else is done through a handle.
#include <linux/fs.h>

#include <cstring>

#include "overlay/overlay.h"

namespace vellum::overlay {

Result<std::pair<fuse::HandleId, fuse::OpenReply>> Overlay::add_handle(NodeRef node, sys::UniqueFd fd, bool lower,
                                                                       bool writes) {
  auto handle = std::make_shared<Handle>(std::move(node), writes);
  {
    WriteLock lock(handle->mutex);
    handle->fd = std::make_shared<const sys::UniqueFd>(std::move(fd));
    handle->lower = lower;
  }
  fuse::OpenReply reply;
  reply.handle = handles_.add(std::move(handle));
  reply.keep_cache = true;  // nobody but this mount changes the contents
  reply.noflush = true;
  return std::make_pair(reply.handle, reply);
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
  bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
  if (writes && upper_ == nullptr) return fail(EROFS);
  sys::UniqueFd copy;
  if (writes) {
    CopyUp how;
    how.keep = &copy;
    if ((flags & O_TRUNC) != 0) how.truncate_to = 0;
    TRY(copy_up(*node, how));
  }
  ReadLock tree(tree_mutex_);
  ReadLock lock(node->mutex);
  Place place = writes ? TRY(place_of(*node)) : TRY(data_place_of(*node));
  sys::Statx st = TRY(stat_at(*place.in, place.fd(), place.name));
  if (!st.is_regular()) return fail(st.is_symlink() ? ELOOP : ENXIO);
  if (copy && (flags & (O_SYNC | O_DSYNC)) == 0) {
    // The copy came with an fd: nothing is left that could fail after the old content is gone.
    if ((flags & O_TRUNC) != 0) TRY(sys::truncate(copy, 0));  // it has the new time to show for it
    if (kill && (flags & O_TRUNC) != 0) kill_suidgid(copy, "");
    return TRY(add_handle(node.share(), std::move(copy), false, true)).second;
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
  return TRY(add_handle(node.share(), std::move(*fd), lower, (flags & O_ACCMODE) != O_RDONLY)).second;
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

Result<std::size_t> Overlay::read(const fuse::Caller&, fuse::NodeId, fuse::HandleId id, std::uint64_t offset,
                                  std::span<std::byte> out) {
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
  DirFd fd = TRY(readable_fd(*handle));
  std::size_t got = TRY(sys::pread(*fd, out, offset));
  bytes_read_.fetch_add(got, std::memory_order_relaxed);
  return got;
}

Result<std::size_t> Overlay::write(const fuse::Caller&, fuse::NodeId, fuse::HandleId id, std::uint64_t offset,
                                   std::span<const std::byte> bytes, bool kill) {
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
  DirFd fd = TRY(writable_fd(*handle));
  std::size_t put = TRY(sys::pwrite(*fd, bytes, offset));
  if (kill) kill_suidgid(*fd, "");
  bytes_written_.fetch_add(put, std::memory_order_relaxed);
  return put;
}

void Overlay::release(fuse::NodeId id, fuse::HandleId handle) {
  handles_.remove(handle);
  auto node = nodes_.get(id);
  if (!node || !(*node)->nameless.load(std::memory_order_acquire)) return;
  ReadLock tree(tree_mutex_);
  WriteLock lock((*node)->mutex);
  drop_idle_fd(**node);
}

Status Overlay::fsync(const fuse::Caller&, fuse::NodeId, fuse::HandleId id, bool data_only) {
  if (!options_.fsync || volatile_) return {};
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
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

Result<std::uint64_t> Overlay::lseek(const fuse::Caller&, fuse::NodeId, fuse::HandleId id, std::uint64_t offset,
                                     int whence) {
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
  if (whence == SEEK_DATA || whence == SEEK_HOLE) TRY(flush_before_seek(*handle->node));
  DirFd fd = TRY(readable_fd(*handle));
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

Result<fuse::IoctlReply> Overlay::ioctl(const fuse::Caller&, fuse::NodeId, fuse::HandleId id,
                                        const fuse::IoctlRequest& request) {
  // The reading ones of the ext2 family, as fuse-overlayfs; what would change an object's flags would have to survive
  // copy-up, and immutable files would block the overlay itself.
  if (request.command != FS_IOC_GETFLAGS && request.command != FS_IOC_GETVERSION) return fail(ENOTTY);
  std::shared_ptr<Handle> handle = TRY(handles_.get(id));
  sys::UniqueFd opened;
  DirFd held;
  sys::FdRef fd;
  if (handle->node->is_dir()) {
    ReadLock tree(tree_mutex_);
    ReadLock lock(handle->node->mutex);
    Place place = TRY(place_of(*handle->node));
    opened = TRY(with_fds([&] { return sys::openat(place.fd(), ".", O_RDONLY | O_DIRECTORY); }));
    fd = opened;
  } else {
    held = TRY(readable_fd(*handle));
    fd = *held;
  }
  std::uint32_t value = TRY(sys::ioctl_get_u32(fd, request.command));
  fuse::IoctlReply reply;
  reply.out.assign(reinterpret_cast<const char*>(&value), sizeof value);
  return reply;
}

}  // namespace vellum::overlay
