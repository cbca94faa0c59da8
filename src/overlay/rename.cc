// rename, with NOREPLACE and EXCHANGE, in every combination of layers.
#include "base/log.h"
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
  {
    ReadLock tree(tree_mutex_);
    TRY(ensure_upper_dir(parent));
    ReadLock lock(parent.mutex);
    node = TRY(find_child(parent, name));
  }
  if (!node) return fail(ENOENT);
  if (!node->is_dir()) {
    TRY(copy_up(node, {.metadata_only = true, .truncate_to = {}}));
    return node;
  }
  {
    ReadLock tree(tree_mutex_);
    if (node->dir->lowers.empty()) return node;
    if (may_redirect()) {
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
    if (style_ == WhiteoutStyle::kDeletedTree) return add_deleted(*to.parent, to.name);
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

// A directory over an empty one that is in upper, where it may still hold whiteouts, over which no rename goes. The two
// trade places, and what then has the old name goes away: to the caller the new name has the moved directory at once.
Status Overlay::replace_dir(Node& target, const Side& from, const Side& to, bool whiteout) {
  DirFd old = TRY(dir_fd(target, 0));
  // At the old name it must not merge with what lower layers have there, if we do not get further than half.
  if (whiteout) TRY(set_opaque(*old, ""));
  TRY(sys::rename(*from.upper, CName(from.name), *to.upper, CName(to.name), RENAME_EXCHANGE));
  std::string temporary = work_name("old");
  Status gone = whiteout ? replace_by_whiteout(*from.parent, *from.upper, from.name, true)
                         : sys::rename(*from.upper, CName(from.name), *work_, temporary.c_str());
  if (gone && !whiteout) remove_tree_in_work(temporary);
  if (gone && whiteout && style_ == WhiteoutStyle::kXattr) from.parent->dir->upper_xattr_whiteouts = true;
  if (!gone)
    log::warning("{}: moved, but an empty directory stays in its place: {}", from.name, gone.error().message());
  return {};
}

// Without RENAME_WHITEOUT: the new name is there before the old one goes.
Status Overlay::move_with_xattr_whiteout(const Node& source, const Side& from, const Side& to) {
  TRY(prepare_xattr_whiteouts(*from.upper));
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
    // Trade places: the whiteout lands where one may be wanted. It may be of an earlier mount with another style.
    if (whiteout && !is_device_whiteout(*target)) {
      TRY(prepare_xattr_whiteouts(*from.upper));
      from.parent->dir->upper_xattr_whiteouts = true;
    }
    TRY(sys::rename(*from.upper, old_name, *to.upper, new_name, RENAME_EXCHANGE));
    if (!whiteout) ignore(sys::unlink(*from.upper, old_name));
  } else if (!whiteout) {
    TRY(sys::rename(*from.upper, old_name, *to.upper, new_name));
  } else if (style_ == WhiteoutStyle::kDevice) {
    TRY(sys::rename(*from.upper, old_name, *to.upper, new_name, RENAME_WHITEOUT));
  } else if (style_ == WhiteoutStyle::kDotWh || style_ == WhiteoutStyle::kDeletedTree) {
    // Both may be there for a moment: then the object counts.
    TRY(make_whiteout(*from.parent, *from.upper, from.name));
    auto moved = sys::rename(*from.upper, old_name, *to.upper, new_name);
    if (!moved) {
      remove_dot_wh(*from.upper, from.name);
      remove_deleted(*from.parent, from.name);
      return moved;
    }
  } else {
    TRY(move_with_xattr_whiteout(source, from, to));
  }
  if (!target && !to.parent->dir->lowers.empty()) remove_dot_wh(*to.upper, to.name);
  if (!source.is_dir()) remove_deleted(*to.parent, to.name);
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
    TRY(count_links(*target));
    kept = keep_fd(*target);
  }
  if (source.is_dir()) {
    TRY(ready_dir_at(source, to));
    fix_lower_paths(source);
  } else {
    TRY(make_physical(source, from));
  }
  bool dir_in_upper = !options_.plain && target && target->is_dir() && target->in_upper.load(std::memory_order_acquire);
  TRY(dir_in_upper ? replace_dir(*target, from, to, whiteout) : move_physically(source, from, to, whiteout));
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
  if (hides(new_name)) return fail(EPERM);
  NodeRef parent = TRY(dir_for(parent_id));
  NodeRef new_parent = TRY(dir_for(new_parent_id));
  if (is_deleted_tree(*new_parent, new_name)) return fail(EPERM);
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
  for (Node* moved : {source.get(), other.get()}) {
    if (moved != nullptr && moved->is_dir() && !moved->dir->lowers.empty() && !may_redirect()) return fail(EXDEV);
  }
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
