// rename, with NOREPLACE and EXCHANGE, in every combination of layers.
#include "base/scope.h"
#include "overlay/overlay.h"

namespace vellum::overlay {
namespace {

bool is_ancestor(const Node& dir, const Node& of) {
  for (const Node* at = &of; at != nullptr; at = at->parent) {
    if (at == &dir) return true;
  }
  return false;
}

}  // namespace

// The node at (parent, name), in upper and free to move. Done before the tree is locked: it may copy much.
Result<NodeRef> Overlay::ready_to_move(Node& parent, std::string_view name) {
  NodeRef node;
  bool merged = false;
  {
    ReadLock tree(tree_mutex_);
    TRY(ensure_upper_dir(parent));
    {
      ReadLock lock(parent.mutex);
      node = TRY(find_child(parent, name));
    }
    if (!node) return fail(ENOENT);
    if (!node->is_dir()) {
      TRY(copy_up(*node, {.metadata_only = true, .truncate_to = {}}));
      return node;
    }
    merged = !node->dir->lowers.empty();
    if (!merged) return node;
    if (options_.redirect_dir == RedirectDir::kOn && marks_work_) {
      TRY(ensure_upper_dir(*node));
      return node;
    }
  }
  // Callers (mv) take EXDEV as "copy instead".
  if (options_.redirect_dir != RedirectDir::kCopy) return fail(EXDEV);
  TRY(copy_up_tree(*node));
  return node;
}

// What an upper directory needs before it may stand at `to`: not to merge with a lower directory there, and, if it is
// itself merged, to say where its lower parts are.
Status Overlay::ready_dir_at(Node& dir, const Side& to) {
  DirFd upper = TRY(dir_fd(dir, 0));
  if (dir.dir->lowers.empty()) {
    if (!TRY(lower_has(*to.parent, to.name))) return {};
    return set_opaque(*upper, "");
  }
  std::string redirect = "/" + path_in(dir, dir.dir->lowers.front().layer);
  if (redirect.size() > 255) return fail(EXDEV);  // kernel overlayfs's own limit
  return sys::setxattr(*upper, "", mark_names_("redirect").c_str(), redirect);
}

// Before a merged directory moves: its lower parts stay where they are.
void Overlay::fix_lower_paths(Node& dir) {
  for (LowerDir& lower : dir.dir->lowers) {
    if (lower.path.empty()) lower.path = path_in(dir, lower.layer);
  }
}

// A copied-up hard link may have its copy under another name only: give it an entry at this one.
Status Overlay::make_physical(Node& node, const Side& at) {
  if (!node.file || node.file->work_name.empty()) return {};
  if (sys::statx(*at.upper, CName(at.name))) return {};
  return sys::link(*work_, node.file->work_name.c_str(), *at.upper, CName(at.name));
}

// An empty merged directory is about to be replaced; its upper part may still hold whiteouts, over which no rename
// goes. A truly empty, opaque one takes its place first.
Status Overlay::empty_target_dir(Node& target, const Side& at) {
  if (!target.in_upper.load(std::memory_order_acquire)) return {};
  DirFd old = TRY(dir_fd(target, 0));
  sys::UniqueFd readable = TRY(with_fds([&] { return sys::openat(*old, ".", O_RDONLY | O_DIRECTORY); }));
  bool holds_something = false;
  TRY(sys::read_dir(readable, [&](std::string_view, std::uint64_t, unsigned char) {
    holds_something = true;
    return false;
  }));
  if (!holds_something) return {};
  std::string temporary = work_name("empty");
  const char* tmp = temporary.c_str();
  if (!marks_work_) {
    TRY(sys::rename(*at.upper, CName(at.name), *work_, tmp));
    remove_tree_in_work(temporary);
    return {};
  }
  sys::Statx st = TRY(stat_at(*upper_, *old, ""));
  TRY(sys::mkdir(*work_, tmp, 0700));
  auto undo = on_failure([&] { ignore(sys::rmdir(*work_, tmp)); });
  TRY(copy_attributes(*upper_, *old, "", *work_, tmp, st));
  TRY(set_opaque(*work_, tmp));
  TRY(sys::rename(*work_, tmp, *at.upper, CName(at.name), RENAME_EXCHANGE));
  undo.done();
  remove_tree_in_work(temporary);
  dir_fds_.drop(raw(target.node_id()), 0);
  return {};
}

// Without RENAME_WHITEOUT: the new name is there before the old one goes.
Status Overlay::move_with_xattr_whiteout(const Node& source, const Side& from, const Side& to, bool target_there) {
  prepare_xattr_whiteouts(*from.upper);
  from.parent->dir->upper_xattr_whiteouts = true;
  CName old_name(from.name), new_name(to.name);
  std::string whiteout = work_name("wh");
  TRY(new_whiteout_in_work(whiteout));
  auto undo = on_failure([&] { ignore(sys::unlink(*work_, whiteout.c_str())); });
  if (!source.is_dir()) {
    std::string second = work_name("mv");
    TRY(sys::link(*from.upper, old_name, *work_, second.c_str()));
    auto unlink_second = on_failure([&] { ignore(sys::unlink(*work_, second.c_str())); });
    TRY(sys::rename(*work_, second.c_str(), *to.upper, new_name));
    unlink_second.done();
    TRY(sys::rename(*work_, whiteout.c_str(), *from.upper, old_name));
  } else {
    if (target_there) TRY(sys::rmdir(*to.upper, new_name));
    TRY(sys::rename(*work_, whiteout.c_str(), *to.upper, new_name, RENAME_NOREPLACE));
    TRY(sys::rename(*from.upper, old_name, *to.upper, new_name, RENAME_EXCHANGE));
  }
  undo.done();
  return {};
}

Status Overlay::move_physically(const Node& source, const Side& from, const Side& to, bool whiteout) {
  CName old_name(from.name), new_name(to.name);
  auto target = sys::statx(*to.upper, new_name);
  if (!target && target.error() != ENOENT) return fail(target.error());
  bool over_whiteout = target && !target->is_dir() && source.is_dir();  // a directory replaces nothing else
  if (whiteout) whiteouts_.fetch_add(1, std::memory_order_relaxed);

  if (over_whiteout) {
    // Trade places: the whiteout lands where one may be wanted.
    TRY(sys::rename(*from.upper, old_name, *to.upper, new_name, RENAME_EXCHANGE));
    if (whiteout && style_ == WhiteoutStyle::kXattr) {
      prepare_xattr_whiteouts(*from.upper);
      from.parent->dir->upper_xattr_whiteouts = true;
    }
    if (!whiteout) ignore(sys::unlink(*from.upper, old_name));
  } else if (!whiteout) {
    TRY(sys::rename(*from.upper, old_name, *to.upper, new_name));
  } else if (style_ == WhiteoutStyle::kDevice) {
    TRY(sys::rename(*from.upper, old_name, *to.upper, new_name, RENAME_WHITEOUT));
  } else if (style_ == WhiteoutStyle::kDotWh) {
    // Both may be there for a moment: then the object counts.
    TRY(make_whiteout(*from.upper, from.name));
    auto moved = sys::rename(*from.upper, old_name, *to.upper, new_name);
    if (!moved) {
      remove_dot_wh(*from.upper, from.name);
      return moved;
    }
  } else {
    TRY(move_with_xattr_whiteout(source, from, to, target.has_value()));
  }
  if (!target && !to.parent->dir->lowers.empty()) remove_dot_wh(*to.upper, to.name);
  return {};
}

Status Overlay::replace_locked(Node& source, const Side& from, const Side& to, bool noreplace) {
  NodeRef target = TRY(find_child(*to.parent, to.name));
  if (target && noreplace) return fail(EEXIST);
  if (target.get() == &source) return {};  // two names of one file: POSIX wants nothing done
  if (target) {
    if (source.is_dir() && !target->is_dir()) return fail(ENOTDIR);
    if (!source.is_dir() && target->is_dir()) return fail(EISDIR);
    if (target->is_dir() && !TRY(is_empty(*target))) return fail(ENOTEMPTY);
  }
  bool whiteout = TRY(lower_has(*from.parent, from.name));
  DirFd kept;
  if (target) {
    count_links(*target);
    kept = keep_fd(*target);
    if (target->is_dir()) TRY(empty_target_dir(*target, to));
  }
  if (source.is_dir()) {
    TRY(ready_dir_at(source, to));
    fix_lower_paths(source);
  } else {
    TRY(make_physical(source, from));
  }
  TRY(move_physically(source, from, to, whiteout));
  if (target) lose_name(*target, *to.parent, to.name, std::move(kept));
  nodes_.move(source, *from.parent, from.name, *to.parent, to.name);
  return {};
}

Status Overlay::exchange_locked(Node& source, const Side& from, const Side& to) {
  NodeRef target = TRY(find_child(*to.parent, to.name));
  if (!target) return fail(ENOENT);
  if (target.get() == &source) return {};
  if (!target->in_upper.load(std::memory_order_acquire)) return fail(ESTALE);
  auto prepare = [&](Node& node, const Side& at, const Side& other) -> Status {
    if (!node.is_dir()) return make_physical(node, at);
    TRY(ready_dir_at(node, other));
    fix_lower_paths(node);
    return {};
  };
  TRY(prepare(source, from, to));
  TRY(prepare(*target, to, from));
  TRY(sys::rename(*from.upper, CName(from.name), *to.upper, CName(to.name), RENAME_EXCHANGE));
  nodes_.move(source, *from.parent, from.name, *to.parent, to.name);
  nodes_.move(*target, *to.parent, to.name, *from.parent, from.name);
  if (target->is_dir()) names_changed(*target);
  if (to.parent->dir->upper_impure) mark_impure(*from.parent, *from.upper);
  return {};
}

Status Overlay::rename(const fuse::Caller&, fuse::NodeId parent_id, std::string_view name, fuse::NodeId new_parent_id,
                       std::string_view new_name, fuse::RenameFlags flags) {
  if (upper_ == nullptr) return fail(EROFS);
  // RENAME_WHITEOUT makes a whiteout, which callers of an overlay may not (as with kernel overlayfs).
  if (flags.whiteout || (flags.noreplace && flags.exchange)) return fail(EINVAL);
  if (!valid_name(new_name)) return fail(new_name.size() > kNameMax ? ENAMETOOLONG : EINVAL);
  if (is_dot_wh(new_name)) return fail(EPERM);
  NodeRef parent = TRY(dir_for(parent_id));
  NodeRef new_parent = TRY(dir_for(new_parent_id));
  NodeRef source = TRY(ready_to_move(*parent, name));
  NodeRef other;
  if (flags.exchange) {
    other = TRY(ready_to_move(*new_parent, new_name));
  } else {
    ReadLock tree(tree_mutex_);
    TRY(ensure_upper_dir(*new_parent));
  }

  WriteLock tree(tree_mutex_);
  if (parent->nameless.load(std::memory_order_acquire) || new_parent->nameless.load(std::memory_order_acquire)) {
    return fail(ENOENT);
  }
  // What was made ready must still be what is there.
  if (nodes_.find(*parent, name).get() != source.get()) return fail(ENOENT);
  if (!source->in_upper.load(std::memory_order_acquire)) return fail(ESTALE);
  if (source->is_dir() && is_ancestor(*source, *new_parent)) return fail(EINVAL);
  if (other && other->is_dir() && is_ancestor(*other, *parent)) return fail(EINVAL);
  Side from{.parent = parent.get(), .name = name, .upper = TRY(dir_fd(*parent, 0))};
  Side to{.parent = new_parent.get(), .name = new_name, .upper = TRY(dir_fd(*new_parent, 0))};
  for (Node* moved : {source.get(), other.get()}) {
    if (moved == nullptr || moved->is_dir() || !moved->file || !moved->file->metacopy) continue;
    // Its data is found by its path below, which it leaves.
    Place place = TRY(place_of(*moved));
    TRY(sys::setxattr(place.fd(), place.name, mark_names_("redirect").c_str(), "/" + moved->file->data_path));
  }
  TRY(flags.exchange ? exchange_locked(*source, from, to) : replace_locked(*source, from, to, flags.noreplace));
  names_changed(*parent);
  names_changed(*new_parent);
  if (source->is_dir()) names_changed(*source);  // ".." may be another
  if (parent->dir->upper_impure) mark_impure(*new_parent, *to.upper);
  return {};
}

}  // namespace vellum::overlay
