// Copy-up: parents first, then the object, made whole in workdir and put into place by one link or rename, so that
// neither a reader nor a crash sees half of it.
#include <sys/sysmacros.h>

#include <algorithm>

#include "base/log.h"
#include "base/scope.h"
#include "overlay/overlay.h"
#include "overlay/xattr_names.h"

namespace vellum::overlay {
namespace {

constexpr std::size_t kStep = std::size_t{1} << 30;  // copy_file_range takes what it can of it
constexpr std::size_t kBuffer = std::size_t{1} << 20;

bool worth_skipping(std::string_view name, Errno error) {
  // What the upper cannot hold, or we may not set (security.* as a plain user), must not make the file unwritable.
  if (error == EOPNOTSUPP) return true;
  return error == EPERM && !name.starts_with("user.");
}

}  // namespace

std::string Overlay::work_name(std::string_view what) {
  return "#" + std::string(what) + std::to_string(next_work_name_.fetch_add(1, std::memory_order_relaxed));
}

Status Overlay::copy_data(sys::FdRef from, sys::FdRef to, std::uint64_t size) {
  if (size == 0) return {};
  TRY(sys::truncate(to, size));
  if (can_clone_ && sys::clone_file(from, to)) {
    TRY(sys::truncate(to, size));  // the clone is of the whole file
    copied_bytes_.fetch_add(size, std::memory_order_relaxed);
    return {};
  }
  std::vector<std::byte> buffer;
  bool in_kernel = true;
  std::uint64_t at = 0;
  while (at < size) {
    // Holes stay holes: only extents with data are copied.
    auto data = sys::lseek(from, static_cast<std::int64_t>(at), SEEK_DATA);
    if (!data && data.error() == ENXIO) break;
    std::uint64_t begin = data.value_or(at);
    if (begin >= size) break;
    std::uint64_t end = size;
    if (data) {
      if (auto hole = sys::lseek(from, static_cast<std::int64_t>(begin), SEEK_HOLE)) end = std::min(size, *hole);
    }
    for (at = begin; at < end;) {
      std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(end - at, kStep));
      if (in_kernel) {
        auto copied = sys::copy_file_range(from, at, to, at, want);
        if (copied && *copied > 0) {
          at += *copied;
          copied_bytes_.fetch_add(*copied, std::memory_order_relaxed);
          continue;
        }
        if (!copied && (copied.error() == ENOSPC || copied.error() == EDQUOT || copied.error() == EIO)) {
          return fail(copied.error());
        }
        in_kernel = false;  // across these file systems it does not work; a plain copy always does
      }
      if (buffer.empty()) buffer.resize(kBuffer);
      std::span<std::byte> part(buffer.data(), std::min(want, buffer.size()));
      std::size_t got = TRY(sys::pread(from, part, at));
      if (got == 0) return {};  // shorter than it said: the rest stays a hole
      for (std::size_t done = 0; done < got;) {
        done += TRY(sys::pwrite(to, part.subspan(done, got - done), at + done));
      }
      at += got;
      copied_bytes_.fetch_add(got, std::memory_order_relaxed);
    }
  }
  return {};
}

Status Overlay::copy_attributes(const Layer& source, sys::FdRef from_dir, const char* from_name, sys::FdRef to_dir,
                                const char* to_name, const sys::Statx& st) {
  bool override = !upper_->override_name.empty();
  if (!override) {
    auto owned = sys::chown(to_dir, to_name, st.uid, st.gid);
    if (!owned && !(uids_.squashes() || gids_.squashes())) {
      return fail(owned.error() == EINVAL ? Errno(EOVERFLOW) : owned.error());
    }
  }
  if (source.has_xattrs && upper_->has_xattrs) {
    auto list = sys::listxattr(from_dir, from_name);
    if (!list && list.error() != EOPNOTSUPP && list.error() != EACCES && list.error() != EPERM) {
      return fail(list.error());
    }
    Status status;
    for_each_xattr(list.value_or(""), [&](std::string_view name) {
      auto shown = attribute_shown(source, name);
      if (!status || !shown) return;  // the layer's own marks stay there
      auto attribute = attribute_on_disk(*upper_, *shown);
      auto value = sys::getxattr(from_dir, from_name, std::string(name).c_str());
      if (!attribute || !value) return;
      auto set = sys::setxattr(to_dir, to_name, attribute->c_str(), *value);
      if (!set && !worth_skipping(name, set.error())) status = set;
    });
    if (!status) return status;
  }
  if (override) {
    TRY(sys::setxattr(to_dir, to_name, upper_->override_name.c_str(), format_override(st)));
  } else if (!st.is_symlink()) {
    // After the owner (chown clears setuid) and the ACL (which has its own idea of the group bits).
    TRY(sys::chmod(to_dir, to_name, st.mode & 07777));
  }
  return sys::utimens(to_dir, to_name, st.atime, st.mtime);
}

void Overlay::mark_copied(sys::FdRef dir, const char* name, const Node& node, const Layer& source,
                          const sys::Statx& from) {
  if (auto copy = sys::statx(dir, name)) numbers_.adopt(copy->ino, node.ino);
  if (!marks_work_) return;
  // Best effort: without it the number changes after the next mount, nothing else.
  ignore(sys::setxattr(dir, name, mark_names_("vellum.origin").c_str(),
                       format_origin({.fs_id = source.fs_id, .ino = from.ino})));
}

void Overlay::mark_impure(Node& dir, sys::FdRef upper_fd) {
  if (!marks_work_) return;
  {
    MutexLock lock(cache_mutex(dir));
    if (std::exchange(dir.dir->upper_impure, true)) return;
  }
  ignore(sys::setxattr(upper_fd, "", mark_names_("impure").c_str(), "y"));
}

Status Overlay::ensure_upper_dir(Node& dir) {
  if (upper_ == nullptr) return fail(EROFS);
  std::vector<Node*> chain;
  for (Node* at = &dir; !at->in_upper.load(std::memory_order_acquire); at = at->parent) {
    if (at->nameless.load(std::memory_order_acquire) || at->parent == nullptr) return fail(ENOENT);
    chain.push_back(at);
  }
  for (auto at = chain.rbegin(); at != chain.rend(); ++at) {
    Node& node = **at;
    {
      WriteLock lock(node.mutex);
      if (node.in_upper.load(std::memory_order_acquire)) continue;
      TRY(copy_up_locked(node, {}));
    }
    attributes_changed(node);
  }
  return {};
}

// After a copy-up: the object shows its copy's size, ctime and link count, and the directory above got a new entry in
// upper. The kernel must not mix what it remembers of before with what it asks for later.
void Overlay::attributes_changed(Node& copied) {
  if (notifier_ == nullptr) return;
  ignore(notifier_->inval_attr(copied.node_id()));
  NodeRef parent;
  {
    ReadLock lock(copied.mutex);
    if (copied.parent != nullptr) parent = nodes_.pin(*copied.parent);
  }
  if (parent) ignore(notifier_->inval_attr(parent->node_id()));
}

Status Overlay::copy_up(Node& node, CopyUp how) {
  if (upper_ == nullptr) return fail(EROFS);
  if (!options_.metacopy) how.metadata_only = false;
  if (node.is_dir()) return node.nameless.load(std::memory_order_acquire) ? Status{} : ensure_upper_dir(node);
  for (;;) {
    NodeRef parent;
    {
      ReadLock lock(node.mutex);
      if (node.in_upper.load(std::memory_order_acquire) &&
          (how.metadata_only || !node.file || !node.file->metacopy)) {
        return {};
      }
      if (node.parent != nullptr) parent = nodes_.pin(*node.parent);
    }
    if (parent) TRY(ensure_upper_dir(*parent));
    {
      WriteLock lock(node.mutex);
      if (node.in_upper.load(std::memory_order_acquire)) {
        if (how.metadata_only || !node.file || !node.file->metacopy) return {};
        return complete_data(node);
      }
      // It may have lost the name whose directory was made ready.
      if (node.parent != nullptr && !node.parent->in_upper.load(std::memory_order_acquire)) continue;
      TRY(copy_up_locked(node, how));
    }
    attributes_changed(node);
    return {};
  }
}

Status Overlay::copy_up_locked(Node& node, const CopyUp& how) {
  Place from = TRY(place_of(node));
  sys::Statx st = TRY(stat_at(*from.in, from.fd(), from.name));
  if (node.is_dir() != st.is_dir()) return fail(ESTALE);
  if (st.is_regular()) {
    TRY(copy_up_file(node, from, st, how));
  } else {
    TRY(copy_up_other(node, from, st));
  }
  copy_ups_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Status Overlay::copy_up_file(Node& node, const Place& from, const sys::Statx& st, const CopyUp& how) {
  bool nameless = node.nameless.load(std::memory_order_acquire);
  std::string temporary;
  sys::UniqueFd made;
  if (can_tmpfile_) {
    made = TRY(with_fds([&] { return sys::openat(*work_, ".", O_TMPFILE | O_RDWR, 0600); }));
  } else {
    temporary = work_name("copy");
    made = TRY(with_fds([&] { return sys::openat(*work_, temporary.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600); }));
  }
  auto undo = on_failure([&] {
    if (!temporary.empty()) ignore(sys::unlink(*work_, temporary.c_str()));
  });

  bool metadata_only = how.metadata_only && options_.metacopy && marks_work_ && st.size > 0 && !nameless;
  std::uint64_t size = how.truncate_to ? std::min(st.size, *how.truncate_to) : st.size;
  if (metadata_only) {
    TRY(sys::truncate(made, st.size));
    TRY(sys::setxattr(made, "", mark_names_("metacopy").c_str(), ""));
  } else if (size > 0) {
    Place data = TRY(data_place_of(node));
    auto readable = with_fds([&]() -> Result<sys::UniqueFd> {
      if (*data.name.c_str() == '\0') return sys::reopen(data.fd(), O_RDONLY);
      auto quiet = sys::openat(data.fd(), data.name, O_RDONLY | O_NOATIME);
      return quiet ? std::move(quiet) : sys::openat(data.fd(), data.name, O_RDONLY);
    });
    if (!readable) return fail(readable.error());
    TRY(copy_data(*readable, made, size));
  }
  TRY(copy_attributes(*from.in, from.fd(), from.name, made, "", st));
  mark_copied(made, "", node, *from.in, st);
  if (options_.fsync && !volatile_ && size > 0 && !metadata_only) TRY(sys::fsync(made));

  std::string indexed;
  bool other_names = nameless ? node.file->nlink_known && node.file->lower_nlink > 0 : st.nlink > 1;
  if (other_names) {
    // The other names of this inode must go on leading to it: they find the copy by this name in workdir.
    indexed = work_name("link");
    TRY(temporary.empty() ? sys::link_fd(made, *work_, indexed.c_str())
                          : sys::link(*work_, temporary.c_str(), *work_, indexed.c_str()));
  }
  auto unindex = on_failure([&] {
    if (!indexed.empty()) ignore(sys::unlink(*work_, indexed.c_str()));
  });
  if (nameless) {
    // Unlinked while in use: the copy has no name either.
    unindex.done();
    keep_index(node, indexed, made, st);
    node.file->fd = std::make_shared<const sys::UniqueFd>(std::move(made));
    if (!temporary.empty()) ignore(sys::unlink(*work_, temporary.c_str()));
    undo.done();
    node.layer = 0;
    node.in_upper.store(true, std::memory_order_release);
    return {};
  }

  DirFd parent = TRY(dir_fd(*node.parent, 0));
  sys::Statx parent_st = TRY(sys::statx(*parent, ""));
  CName name(node.name.view());
  if (temporary.empty()) {
    TRY(sys::link_fd(made, *parent, name));
  } else {
    TRY(sys::rename(*work_, temporary.c_str(), *parent, name, RENAME_NOREPLACE));
  }
  undo.done();
  unindex.done();
  ignore(sys::utimens(*parent, "", parent_st.atime, parent_st.mtime));  // nothing changed for the caller
  mark_impure(*node.parent, *parent);

  if (metadata_only && !(node.file && node.file->metacopy)) {
    if (!node.file) node.file = std::make_unique<FileState>();
    node.file->data_layer = from.layer;
    std::string base = path_in(*node.parent, from.layer);
    node.file->data_path = base.empty() ? std::string(node.name.view()) : base + "/" + std::string(node.name.view());
    node.file->metacopy = true;
  } else if (node.file && !metadata_only) {
    node.file->metacopy = false;
  }
  keep_index(node, indexed, made, st);
  node.layer = 0;
  node.in_upper.store(true, std::memory_order_release);
  return {};
}

// The copy of a file with several links is reached by `work_name` from now on, and the node stays for as long as the
// mount lives: the layer's own count of links no longer tells the truth.
void Overlay::keep_index(Node& node, const std::string& work_name, sys::FdRef copy, const sys::Statx& lower) {
  if (work_name.empty()) return;
  if (!node.file) node.file = std::make_unique<FileState>();
  node.file->work_name = work_name;
  if (!std::exchange(node.file->nlink_known, true)) node.file->lower_nlink = static_cast<std::int32_t>(lower.nlink);
  if (auto st = sys::statx(copy, "")) nodes_.register_inode(node, st->dev, st->ino);
  if (!std::exchange(node.pinned, true)) node.refs.fetch_add(1, std::memory_order_relaxed);
  MutexLock links(link_mutex_);
  indexed_.push_back(node.node_id());
}

Status Overlay::copy_up_other(Node& node, const Place& from, const sys::Statx& st) {
  std::string temporary = work_name("copy");
  const char* name = temporary.c_str();
  bool as_file = !upper_->override_name.empty() && !st.is_dir();
  if (st.is_dir()) {
    TRY(sys::mkdir(*work_, name, 0700));
  } else if (st.is_symlink() && !as_file) {
    std::string target = TRY(sys::readlink(from.fd(), from.name));
    TRY(sys::symlink(target.c_str(), *work_, name));
  } else if (as_file) {
    sys::UniqueFd file = TRY(with_fds([&] { return sys::openat(*work_, name, O_CREAT | O_EXCL | O_RDWR, 0600); }));
    if (st.is_symlink()) {
      std::string target = TRY(read_symlink(from));
      TRY(sys::pwrite(file, std::as_bytes(std::span(target)), 0));
    }
  } else {
    TRY(sys::mknod(*work_, name, (st.mode & S_IFMT) | 0600, st.rdev));
  }
  auto undo = on_failure([&] { ignore(st.is_dir() ? sys::rmdir(*work_, name) : sys::unlink(*work_, name)); });
  TRY(copy_attributes(*from.in, from.fd(), from.name, *work_, name, st));
  mark_copied(*work_, name, node, *from.in, st);

  if (node.nameless.load(std::memory_order_acquire)) {
    sys::UniqueFd kept = TRY(with_fds([&] { return sys::openat(*work_, name, O_PATH); }));
    node.file->fd = std::make_shared<const sys::UniqueFd>(std::move(kept));
    node.layer = 0;
    node.in_upper.store(true, std::memory_order_release);
    return {};  // and undo takes the name away
  }
  DirFd parent = TRY(dir_fd(*node.parent, 0));
  sys::Statx parent_st = TRY(sys::statx(*parent, ""));
  TRY(sys::rename(*work_, name, *parent, CName(node.name.view()), RENAME_NOREPLACE));
  undo.done();
  ignore(sys::utimens(*parent, "", parent_st.atime, parent_st.mtime));
  mark_impure(*node.parent, *parent);
  if (!st.is_dir()) node.layer = 0;
  node.in_upper.store(true, std::memory_order_release);
  return {};
}

Status Overlay::complete_data(Node& node) {
  Place place = TRY(place_of(node));
  Place data = TRY(data_place_of(node));
  sys::Statx st = TRY(sys::statx(place.fd(), place.name));
  sys::UniqueFd from = TRY(with_fds([&] { return sys::openat(data.fd(), data.name, O_RDONLY); }));
  sys::UniqueFd to = TRY(with_fds([&]() -> Result<sys::UniqueFd> {
    return *place.name.c_str() == '\0' ? sys::reopen(place.fd(), O_RDWR) : sys::openat(place.fd(), place.name, O_RDWR);
  }));
  TRY(copy_data(from, to, st.size));
  ignore(sys::utimens(to, "", st.atime, st.mtime));
  if (options_.fsync && !volatile_) TRY(sys::fsync(to));
  // Until the mark is gone the data below counts, so a crash before this line changes nothing.
  for (const char* mark : {"trusted.overlay.metacopy", "user.overlay.metacopy"}) ignore(sys::removexattr(to, "", mark));
  for (const char* mark : {"trusted.overlay.redirect", "user.overlay.redirect"}) ignore(sys::removexattr(to, "", mark));
  if (TRY(read_marks(*upper_, to, "")).metacopy) return fail(EIO);
  node.file->metacopy = false;
  return {};
}

// The other names of a copied-up hard link lead to the copy through workdir while the mount lives. Before it ends
// each name that is known gets its entry in upper.
void Overlay::settle_hard_links() {
  std::vector<fuse::NodeId> ids;
  {
    MutexLock links(link_mutex_);
    ids.swap(indexed_);
  }
  for (fuse::NodeId id : ids) {
    auto found = nodes_.get(id);
    if (!found) continue;
    Node& node = **found;
    if (node.parent == nullptr || !node.file || node.file->work_name.empty()) continue;
    std::vector<Alias> names = node.file->aliases;  // no other thread is left
    names.push_back({.parent = node.parent, .name = std::string(node.name.view())});
    for (const Alias& at : names) {
      auto settled = [&]() -> Status {
        TRY(ensure_upper_dir(*at.parent));
        DirFd upper = TRY(dir_fd(*at.parent, 0));
        sys::Statx before = TRY(sys::statx(*upper, ""));
        TRY(make_physical(node, {.parent = at.parent, .name = at.name, .upper = upper}));
        return sys::utimens(*upper, "", before.atime, before.mtime);
      }();
      if (!settled) log::warning("{}: a hard link keeps its old content: {}", at.name, settled.error().message());
    }
  }
}

// redirect_dir=copy: everything below `dir` becomes upper, then each directory opaque, from the leaves up. At every
// moment the merged tree is the same, so a crash leaves it whole.
Status Overlay::copy_up_tree(Node& dir) {
  std::shared_ptr<const Listing> listing;
  sys::Statx before;
  {
    ReadLock tree(tree_mutex_);
    TRY(ensure_upper_dir(dir));
    ReadLock lock(dir.mutex);
    listing = TRY(listing_of(dir));
    before = TRY(stat_of(dir));
  }
  for (std::size_t i = 2; i < listing->entries().size(); ++i) {
    std::string_view name = listing->name(listing->entries()[i]);
    NodeRef child;
    {
      ReadLock tree(tree_mutex_);
      ReadLock lock(dir.mutex);
      child = TRY(find_child(dir, name));
    }
    if (!child) continue;
    if (child->is_dir()) {
      bool merged;
      {
        ReadLock tree(tree_mutex_);
        merged = !child->dir->lowers.empty();
      }
      if (merged) TRY(copy_up_tree(*child));
    } else {
      ReadLock tree(tree_mutex_);
      TRY(copy_up(*child, {}));
      // A hard link whose copy has another name: this name needs an entry of its own.
      WriteLock lock(child->mutex);
      TRY(make_physical(*child, {.parent = &dir, .name = name, .upper = TRY(dir_fd(dir, 0))}));
    }
  }
  WriteLock tree(tree_mutex_);
  if (dir.dir->lowers.empty()) return {};
  DirFd upper = TRY(dir_fd(dir, 0));
  TRY(set_opaque(*upper, ""));
  std::vector<LowerDir> gone;
  gone.swap(dir.dir->lowers);
  {
    MutexLock lock(cache_mutex(dir));
    dir.dir->index.reset();
    dir.dir->listing.reset();
  }
  // Whiteouts under an opaque directory hide nothing, and kernel overlayfs would list them.
  clear_emptied_dir(dir);
  return sys::utimens(*upper, "", before.atime, before.mtime);  // for the caller nothing has changed
}

}  // namespace vellum::overlay
