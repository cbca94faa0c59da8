// unlink and rmdir.
#include "overlay/overlay.h"

namespace vellum::overlay {

DirFd Overlay::keep_fd(Node& node) {
  if (node.nameless.load(std::memory_order_acquire)) return nullptr;
  if (nodes_.has_alias(node)) return nullptr;  // it stays reachable by another name
  auto place = place_of(node);
  if (!place) return nullptr;
  if (*place->name.c_str() == '\0') return place->dir;
  // Without an fd to spare the node answers ESTALE from now on: rare, and better than refusing to unlink.
  auto fd = with_fds([&] { return sys::openat(place->fd(), place->name, O_PATH); });
  return fd ? std::make_shared<const sys::UniqueFd>(std::move(*fd)) : nullptr;
}

// A hard link that lost the names we know stays for its link count's sake. Only open handles need its fd: kept for all,
// removing a tree of hard links would use up the process's.
void Overlay::drop_idle_fd(Node& node) {
  if (node.pinned && node.nameless.load(std::memory_order_acquire) &&
      node.handles.load(std::memory_order_acquire) == 0) {
    node.file->fd.reset();
  }
}

void Overlay::lose_name(Node& node, Node& parent, std::string_view name, DirFd kept) {
  nodes_.erase(node, parent, name);
  bool last = node.nameless.load(std::memory_order_acquire);
  if (last && kept) {
    if (!node.file) node.file = std::make_unique<FileState>();
    node.file->fd = std::move(kept);
    if (node.in_upper.load(std::memory_order_acquire)) {
      node.layer = 0;
      // The file system may give the number to another object as soon as the last reference is gone.
      if (auto st = sys::statx(*node.file->fd, ""); st && (st->nlink == 0 || node.is_dir())) numbers_.disown(st->ino);
    } else if (node.is_dir() && !node.dir->lowers.empty()) {
      node.layer = node.dir->lowers.front().layer;
    }
  }
  if (node.file && node.file->nlink_known && --node.file->lower_nlink <= 0) {
    if (!node.file->work_name.empty()) {
      auto copy = sys::statx(*work_, node.file->work_name.c_str());
      ignore(sys::unlink(*work_, node.file->work_name.c_str()));
      if (copy) numbers_.disown(copy->ino);
    }
    node.file->work_name.clear();
    if (std::exchange(node.pinned, false)) nodes_.unref(&node);  // the running operation still pins it
  }
  if (last) {
    drop_idle_fd(node);
    // Without an fd it cannot be told from a later object with the same number.
    if (!node.is_dir() && !node.pinned && !(node.file && node.file->fd)) nodes_.unregister_inode(node);
  }
  if (last) dir_fds_.drop(raw(node.node_id()), 0);
  names_changed(parent);
}

// Before a lower file loses a name: if it has several, its count is ours to keep from now on, for as long as the mount
// lives, since the layer's own never changes. EPERM: its layer would not let go of it.
Status Overlay::count_links(Node& node) {
  if (node.is_dir() || node.in_upper.load(std::memory_order_acquire) || (node.file && node.file->nlink_known))
    return {};
  const auto place = place_of(node);
  const auto st = place ? stat_at(*place->in, place->fd(), place->name) : Result<sys::Statx>(fail(place.error()));
  if (st && is_protected(*place->in, *st)) return fail(EPERM);
  if (!st || st->nlink <= 1) return {};
  if (!node.file) node.file = std::make_unique<FileState>();
  node.file->nlink_known = true;
  node.file->lower_nlink = static_cast<std::int32_t>(st->nlink);
  if (!std::exchange(node.pinned, true)) node.refs.fetch_add(1, std::memory_order_relaxed);
  return {};
}

// Takes the name of a non-directory out of the merged tree.
Status Overlay::remove_name(Node& parent, std::string_view name, Node& node) {
  DirFd upper = TRY(dir_fd(parent, 0));
  bool covers = TRY(lower_has(parent, name));
  bool physical = node.in_upper.load(std::memory_order_acquire);
  // A copied-up hard link need not have an entry under each of its names.
  if (physical && node.file && !node.file->work_name.empty()) {
    auto there = sys::statx(*upper, CName(name));
    physical = there.has_value();
  }
  if (physical) {
    TRY(covers ? replace_by_whiteout(parent, *upper, name, false) : sys::unlink(*upper, CName(name)));
  } else {
    TRY(make_whiteout(parent, *upper, name));
  }
  if (style_ == WhiteoutStyle::kXattr && covers) {
    parent.dir->upper_xattr_whiteouts = true;
  }
  return {};
}

Status Overlay::unlink(const fuse::Caller&, fuse::NodeId parent_id, std::string_view name) {
  if (upper_ == nullptr) return fail(EROFS);
  NodeRef parent = TRY(dir_for(parent_id));
  ReadLock tree(tree_mutex_);
  TRY(ensure_upper_dir(*parent));
  WriteLock parent_lock(parent->mutex);
  NodeRef node = TRY(find_child(*parent, name));
  if (!node) return fail(ENOENT);
  if (node->is_dir()) return fail(EISDIR);
  WriteLock lock(node->mutex);
  TRY(count_links(*node));
  DirFd kept = keep_fd(*node);
  TRY(remove_name(*parent, name, *node));
  lose_name(*node, *parent, name, std::move(kept));
  return {};
}

// The upper part of an empty merged directory may hold whiteouts; they go before the directory does.
void Overlay::clear_emptied_dir(Node& dir) {
  if (!dir.in_upper.load(std::memory_order_acquire)) return;
  auto fd = dir_fd(dir, 0);
  if (!fd) return;
  std::vector<std::string> hidden;
  ignore(for_each_upper_name(dir, [&](std::string_view name, bool is_hidden) {
    if (is_hidden) hidden.emplace_back(name);
  }));
  for (const std::string& name : hidden) {
    remove_dot_wh(**fd, name);
    auto st = sys::statx(**fd, CName(name));
    if (!st) continue;
    bool may_have_marks = dir.dir->upper_xattr_whiteouts && may_be_xattr_whiteout(*st);
    if (is_whiteout(*st, may_have_marks ? read_marks(*upper_, **fd, CName(name)).value_or(Marks{}) : Marks{})) {
      ignore(sys::unlink(**fd, CName(name)));
    }
  }
}

Status Overlay::rmdir(const fuse::Caller&, fuse::NodeId parent_id, std::string_view name) {
  if (upper_ == nullptr) return fail(EROFS);
  NodeRef parent = TRY(dir_for(parent_id));
  {
    ReadLock tree(tree_mutex_);
    TRY(ensure_upper_dir(*parent));
  }
  WriteLock tree(tree_mutex_);
  if (parent->nameless.load(std::memory_order_acquire)) return fail(ENOENT);
  NodeRef node = TRY(find_child(*parent, name));
  if (!node) return fail(ENOENT);
  if (!node->is_dir()) return fail(ENOTDIR);
  if (!TRY(is_empty(*node))) return fail(ENOTEMPTY);
  DirFd upper = TRY(dir_fd(*parent, 0));
  bool covers = TRY(lower_has(*parent, name));
  DirFd kept = keep_fd(*node);
  if (!node->in_upper.load(std::memory_order_acquire)) {
    TRY(make_whiteout(*parent, *upper, name));
  } else if (covers) {
    TRY(replace_by_whiteout(*parent, *upper, name, true));
  } else {
    auto removed = sys::rmdir(*upper, CName(name));
    if (!removed && removed.error() == ENOTEMPTY && !options_.plain) {
      // Only whiteouts and marks are left in it. Out of sight first, in one step.
      std::string temporary = work_name("rm");
      TRY(sys::rename(*upper, CName(name), *work_, temporary.c_str()));
      remove_tree_in_work(temporary);
    } else if (!removed) {
      return removed;
    }
  }
  if (style_ == WhiteoutStyle::kXattr && covers) parent->dir->upper_xattr_whiteouts = true;
  lose_name(*node, *parent, name, std::move(kept));
  return {};
}

}  // namespace vellum::overlay
