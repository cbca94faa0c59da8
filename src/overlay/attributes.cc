// getattr, setattr, readlink, statfs.
#include <dirent.h>

#include "overlay/overlay.h"

namespace vellum::overlay {

Result<fuse::AttrReply> Overlay::getattr(const fuse::Caller&, fuse::NodeId id, std::optional<fuse::HandleId>) {
  NodeRef node = TRY(nodes_.get(id));
  ReadLock tree(tree_mutex_);
  CurrentLock<ReadLock> lock(nodes_, node);
  sys::Statx st = TRY(stat_of(*node));
  return fuse::AttrReply{.attr = to_attr(*node, st), .valid = attr_valid(*node, id)};
}

// Writing, truncating or giving away a file takes its setuid and setgid bits, where the kernel says the caller may
// not keep them. The capability attribute goes by itself: the backing file system drops it on write.
void Overlay::kill_suidgid(sys::FdRef fd, const char* name) {
  auto st = stat_at(*upper_, fd, name);
  if (!st || !st->is_regular()) return;
  mode_t mode = st->mode & 07777;
  mode_t kept = mode & ~static_cast<mode_t>(S_ISUID);
  if ((mode & S_IXGRP) != 0) kept &= ~static_cast<mode_t>(S_ISGID);
  if (kept != mode) ignore(set_mode(fd, name, kept));
}

Status Overlay::set_mode(sys::FdRef fd, const char* name, mode_t mode) {
  if (upper_->override_name.empty()) return sys::chmod(fd, name, mode);
  sys::Statx st = TRY(stat_at(*upper_, fd, name));
  st.mode = (st.mode & S_IFMT) | mode;
  return sys::setxattr(fd, name, upper_->override_name.c_str(), format_override(st));
}

Status Overlay::set_owner(sys::FdRef fd, const char* name, std::optional<std::uint32_t> uid,
                          std::optional<std::uint32_t> gid) {
  // A squashed mount has one owner for all: asking for another changes nothing, and nothing is wrong with that.
  if (uids_.squashes()) uid.reset();
  if (gids_.squashes()) gid.reset();
  if (!uid && !gid) return {};
  if (uid && !(uid = uids_.store(*uid))) return fail(EINVAL);
  if (gid && !(gid = gids_.store(*gid))) return fail(EINVAL);
  if (upper_->override_name.empty()) return sys::chown(fd, name, uid.value_or(~0U), gid.value_or(~0U));
  sys::Statx st = TRY(stat_at(*upper_, fd, name));
  st.uid = uid.value_or(st.uid);
  st.gid = gid.value_or(st.gid);
  if (st.is_regular()) {
    st.mode &= ~static_cast<mode_t>(S_ISUID);
    if ((st.mode & S_IXGRP) != 0) st.mode &= ~static_cast<mode_t>(S_ISGID);
  }
  return sys::setxattr(fd, name, upper_->override_name.c_str(), format_override(st));
}

Status Overlay::set_size(const Place& place, std::optional<fuse::HandleId> handle_id, std::uint64_t size) {
  if (handle_id) {
    if (auto handle = handles_.get(*handle_id)) {
      if (auto fd = writable_fd(**handle)) return sys::truncate(**fd, size);
    }
  }
  return sys::truncate(TRY(open_place(place, O_WRONLY)), size);
}

Status Overlay::set_times(const Place& place, const fuse::SetAttr& change) {
  auto spec = [](const std::optional<fuse::Timestamp>& time, bool now) {
    timespec result{.tv_sec = 0, .tv_nsec = UTIME_OMIT};
    if (now)
      result.tv_nsec = UTIME_NOW;
    else if (time)
      result = {.tv_sec = time->sec, .tv_nsec = static_cast<long>(time->nsec)};
    return result;
  };
  return sys::utimens(place.fd(), place.name, spec(change.atime, change.atime_now),
                      spec(change.mtime, change.mtime_now));
}

Result<fuse::AttrReply> Overlay::setattr(const fuse::Caller&, fuse::NodeId id, const fuse::SetAttr& change) {
  if (upper_ == nullptr) return fail(EROFS);
  NodeRef node = TRY(nodes_.get(id));
  bool times = change.atime || change.mtime || change.atime_now || change.mtime_now;
  bool more = change.mode || change.uid || change.gid || change.size || change.kill_suidgid;
  bool flushed = change.mtime && change.ctime && !change.atime && !change.atime_now;
  if (flushed && !more && !node->in_upper.load(std::memory_order_acquire)) {
    // The writeback cache flushes the ctime that unlink gave to a file, or to what is left of a hard link. That is no
    // reason to copy it.
    ReadLock tree(tree_mutex_);
    CurrentLock<ReadLock> lock(nodes_, node);
    sys::Statx st = TRY(stat_of(*node));
    fuse::Attr attr = to_attr(*node, st);
    if (node->nameless.load(std::memory_order_acquire) || attr.mtime == *change.mtime) {
      return fuse::AttrReply{.attr = attr, .valid = timeout_};
    }
  }
  sys::UniqueFd copy;
  if (more || times) {
    TRY(copy_up(node, {.metadata_only = !change.size, .truncate_to = change.size, .keep = &copy}));
  }
  const ChangeLock lock(*this, node);
  Place place = TRY(place_of(*node));
  if (!is_upper(place.layer)) return fail(ESTALE);
  if (change.size && copy) {
    TRY(sys::truncate(copy, *change.size));
  } else if (change.size) {
    if (node->is_dir()) return fail(EISDIR);
    if (node->type != DT_REG) return fail(EINVAL);  // opening a device or fifo would do something
    TRY(set_size(place, change.handle, *change.size));
  }
  if (change.uid || change.gid) TRY(set_owner(place.fd(), place.name, change.uid, change.gid));
  if (change.kill_suidgid) kill_suidgid(place.fd(), place.name);
  if (change.mode) TRY(set_mode(place.fd(), place.name, *change.mode & 07777));
  if (times) TRY(set_times(place, change));
  changed_through(id, *node);
  sys::Statx st = TRY(stat_of(*node));
  return fuse::AttrReply{.attr = to_attr(*node, st), .valid = attr_valid(*node, id)};
}

// What changes under a retired node's id, the kernel does not expect to see under its successor's.
void Overlay::changed_through(fuse::NodeId id, const Node& node) {
  if (node.node_id() != id && notifier_ != nullptr) ignore(notifier_->inval_attr(node.node_id()));
}

Result<std::string> Overlay::readlink(const fuse::Caller&, fuse::NodeId id) {
  NodeRef node = TRY(nodes_.get(id));
  ReadLock tree(tree_mutex_);
  ReadLock lock(node->mutex);
  return read_symlink(TRY(place_of(*node)));
}

Result<std::string> Overlay::read_symlink(const Place& place) {
  auto target = sys::readlink(place.fd(), place.name);
  if (!target && target.error() == EINVAL && !place.in->override_name.empty()) {
    // A symlink kept as a file because the layer cannot hold links of its own.
    sys::UniqueFd fd = TRY(open_place(place, O_RDONLY));
    std::string text(4096, '\0');
    std::size_t length = TRY(sys::pread(fd, std::as_writable_bytes(std::span(text)), 0));
    text.resize(length);
    return text;
  }
  return target;
}

Result<fuse::Statfs> Overlay::statfs(const fuse::Caller&, fuse::NodeId) {
  const Layer& in = upper_ != nullptr ? *upper_ : *layers_[1];
  struct statvfs st = TRY(sys::statvfs(*in.root));
  fuse::Statfs result;
  result.blocks = st.f_blocks;
  result.bfree = st.f_bfree;
  result.bavail = st.f_bavail;
  result.files = st.f_files;
  result.ffree = st.f_ffree;
  result.bsize = static_cast<std::uint32_t>(st.f_bsize);
  result.frsize = static_cast<std::uint32_t>(st.f_frsize);
  result.namelen = static_cast<std::uint32_t>(st.f_namemax);
  return result;
}

Status Overlay::syncfs(const fuse::Caller&, fuse::NodeId) {
  if (no_fsync_) return fail(ENOSYS);
  if (!syncs()) return {};
  sys::UniqueFd fd = TRY(open_for_reading(*upper_->root));
  return sys::syncfs(fd);
}

}  // namespace vellum::overlay
