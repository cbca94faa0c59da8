// Copy-up: parents first, then the object, made whole in workdir and put into place by one link or rename, so that
// neither a reader nor a crash sees half of it.
#include <dirent.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "base/log.h"
#include "base/scope.h"
#include "overlay/acl.h"
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
        std::size_t put = TRY(sys::pwrite(to, part.subspan(done, got - done), at + done));
        if (put == 0) return fail(EIO);
        done += put;
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
  sys::Statx shown_as = st;
  const auto without_acl = [&](std::string_view acl) { shown_as.mode = mode_without_acl(acl, st.mode); };
  if (!override) {
    auto owned = sys::chown(to_dir, to_name, st.uid, st.gid);
    if (!owned && !options_.any_owner && !(uids_.squashes() || gids_.squashes())) {
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
      if (set) return;
      if (!worth_skipping(name, set.error())) status = set;
      if (name == kAccessAcl) without_acl(*value);
    });
    if (!status) return status;
  } else if (source.has_xattrs && !st.is_symlink()) {
    if (const auto acl = sys::getxattr(from_dir, from_name, kAccessAcl)) without_acl(*acl);
  }
  if (override) {
    TRY(sys::setxattr(to_dir, to_name, upper_->override_name.c_str(), format_override(shown_as)));
  } else if (!st.is_symlink()) {
    // After the owner (chown clears setuid) and the ACL (which has its own idea of the group bits).
    TRY(sys::chmod(to_dir, to_name, shown_as.mode & 07777));
  }
  return sys::utimens(to_dir, to_name, st.atime, st.mtime);
}

// Not for files with several links: after the mount the names that were not copied would share the number with other
// content.
void Overlay::mark_origin(sys::FdRef dir, const char* name, const Layer& source, const sys::Statx& from) {
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

NodeRef Overlay::parent_of(Node& node) {
  ReadLock lock(node.mutex);
  return node.parent != nullptr ? nodes_.pin(*node.parent) : NodeRef();
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
      // The parent's times are put back afterwards: nobody may make a name in it meanwhile.
      WriteLock parent_lock(node.parent->mutex);
      WriteLock lock(node.mutex);
      if (node.in_upper.load(std::memory_order_acquire)) continue;
      TRY(copy_up_special(node));
    }
    attributes_changed(node, node.node_id());
  }
  return {};
}

// After a copy-up: the object shows its copy's size, ctime and link count, and the directory above got a new entry in
// upper. The kernel must not mix what it remembers of before with what it asks for later. The tree is locked, shared.
void Overlay::attributes_changed(Node& copied, fuse::NodeId known_as) {
  copy_ups_.fetch_add(1, std::memory_order_relaxed);
  if (notifier_ == nullptr) return;
  ignore(notifier_->inval_attr(known_as));
  if (NodeRef parent = parent_of(copied)) ignore(notifier_->inval_attr(parent->node_id()));
}

// One copier per node. Those who wait hold no lock: a large copy keeps nobody else from anything.
class Overlay::Copying {
 public:
  Copying(Overlay& overlay, const Node& node) : overlay_(overlay), node_(&node) {
    std::unique_lock lock(overlay_.copying_mutex_);
    overlay_.copying_done_.wait(lock, [&] { return !overlay_.copying_.contains(node_); });
    overlay_.copying_.insert(node_);
  }
  ~Copying() {
    {
      const std::lock_guard lock(overlay_.copying_mutex_);
      overlay_.copying_.erase(node_);
    }
    overlay_.copying_done_.notify_all();
  }
  Copying(const Copying&) = delete;
  Copying& operator=(const Copying&) = delete;

 private:
  Overlay& overlay_;
  const Node* node_;
};

Status Overlay::copy_up(NodeRef& ref, const CopyUp& how) {
  if (upper_ == nullptr) return fail(EROFS);
  auto done = [&] {
    if (Node* successor = ref->successor.load(std::memory_order_acquire)) ref = nodes_.pin(*successor);
    if (!ref->in_upper.load(std::memory_order_acquire)) return false;
    ReadLock tree(tree_mutex_);
    ReadLock lock(ref->mutex);
    bool metadata_is_enough = how.metadata_only && options_.metacopy;
    return metadata_is_enough || !ref->file || !ref->file->metacopy;
  };
  for (;;) {
    if (done()) return {};
    NodeRef held = ref.share();
    const Copying alone(*this, *held);
    if (done()) return {};
    if (ref.get() == held.get()) return copy_up_alone(ref, how);
    // Retired while we waited: it is the successor that nobody else may copy to now.
  }
}

Overlay::ChangeLock::ChangeLock(Overlay& overlay, NodeRef& node) {
  for (;;) {
    tree_.emplace(overlay.tree_mutex_);
    node_.emplace(overlay.nodes_, node);
    if (!node->file || !node->file->completing) return;
    node_.reset();
    tree_.reset();
    const Copying wait(overlay, *node);
  }
}

Status Overlay::copy_up_alone(NodeRef& ref, const CopyUp& how) {
  fuse::NodeId known_as = ref->node_id();
  Node& node = *ref;
  if (node.in_upper.load(std::memory_order_acquire)) return complete_data(node, how);

  bool regular;
  {
    ReadLock tree(tree_mutex_);
    if (node.is_dir() && !node.nameless.load(std::memory_order_acquire)) return ensure_upper_dir(node);
    TRY(ensure_parent(node));
    regular = node.type == DT_REG;
    if (!regular) {
      NodeRef parent = parent_of(node);
      std::optional<WriteLock> parent_lock;
      if (parent) parent_lock.emplace(parent->mutex);
      WriteLock lock(node.mutex);
      if (node.parent != parent.get()) return fail(ESTALE);  // renamed or unlinked just now: the kernel looks again
      TRY(copy_up_special(node));
    }
  }
  if (regular) TRY(copy_up_file(ref, how));
  ReadLock tree(tree_mutex_);
  attributes_changed(*ref, known_as);
  return {};
}

// The directory that has the node's name, in upper. A node may change names while nobody looks; the tree is locked,
// shared, by the caller.
Status Overlay::ensure_parent(Node& node) {
  NodeRef parent = parent_of(node);
  return parent ? ensure_upper_dir(*parent) : Status{};
}

Status Overlay::copy_up_file(NodeRef& ref, const CopyUp& how) {
  Node& node = *ref;
  // What to copy.
  Place from;
  sys::Statx st;
  sys::UniqueFd data;
  bool metadata_only;
  {
    ReadLock tree(tree_mutex_);
    ReadLock lock(node.mutex);
    from = TRY(place_of(node));
    st = TRY(stat_at(*from.in, from.fd(), from.name));
    if (!st.is_regular()) return fail(ESTALE);
    if (is_protected(*from.in, st)) return fail(EPERM);
    metadata_only = how.metadata_only && options_.metacopy && marks_work_ && st.size > 0 &&
                    !node.nameless.load(std::memory_order_acquire);
    std::uint64_t wanted = how.truncate_to ? std::min(st.size, *how.truncate_to) : st.size;
    if (!metadata_only && wanted > 0) data = TRY(open_place(TRY(data_place_of(node)), O_RDONLY));
  }

  // The copy, made without a lock: the lower file does not change, and nobody else copies it.
  std::string temporary;
  sys::UniqueFd made;
  if (can_tmpfile_) {
    made = TRY(with_fds([&] { return sys::openat(*work_, ".", O_TMPFILE | O_RDWR, 0600); }));
  } else {
    temporary = work_name("copy");
    made = TRY(with_fds([&] { return sys::openat(*work_, temporary.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600); }));
  }
  auto unlink_temporary = on_exit([&] {
    if (!temporary.empty()) ignore(sys::unlink(*work_, temporary.c_str()));
  });
  std::uint64_t size = how.truncate_to ? std::min(st.size, *how.truncate_to) : st.size;
  if (metadata_only) {
    TRY(sys::truncate(made, st.size));
    TRY(sys::setxattr(made, "", mark_names_("metacopy").c_str(), ""));
  } else if (size > 0) {
    TRY(copy_data(data, made, size));
  }
  TRY(copy_attributes(*from.in, from.fd(), from.name, made, "", st));
  if (st.nlink == 1) mark_origin(made, "", *from.in, st);
  if (syncs() && size > 0 && !metadata_only) TRY(sys::fsync(made));

  // Into place.
  TRY(place_copy(ref, made, temporary, from, st, metadata_only));
  if (how.keep != nullptr) *how.keep = std::move(made);
  return {};
}

// A node for the copy of a file that is open by passthrough, which goes on under the old one. Not yet in its place.
NodeRef Overlay::successor_of(const Node& node) {
  NodeRef successor = nodes_.make();
  successor->ino = node.ino;
  successor->type = node.type;
  return successor;
}

Status Overlay::place_copy(NodeRef& ref, sys::FdRef made, const std::string& temporary, const Place& from,
                           const sys::Statx& st, bool metadata_only) {
  NodeRef keep = ref.share();  // longer than the locks below, even if a successor takes its place
  Node& node = *keep;
  auto link_copy = [&](sys::FdRef dir, const char* name) {
    return temporary.empty() ? sys::link_fd(made, dir, name) : sys::link(*work_, temporary.c_str(), dir, name);
  };
  ReadLock tree(tree_mutex_);
  for (;;) {
    TRY(ensure_parent(node));
    NodeRef parent = parent_of(node);
    if (!parent) {
      WriteLock lock(node.mutex);
      if (node.parent != nullptr) continue;
      return place_nameless_copy(node, made, link_copy, st);
    }
    WriteLock parent_lock(parent->mutex);
    WriteLock lock(node.mutex);
    // It may have lost the name whose directory was made ready.
    if (node.parent != parent.get() || !parent->in_upper.load(std::memory_order_acquire)) continue;
    DirFd upper = TRY(dir_fd(*parent, 0));
    sys::Statx parent_st = TRY(sys::statx(*upper, ""));
    std::string indexed;
    if (st.nlink > 1) {
      // The other names of this inode must go on leading to it: they find the copy by this name in workdir.
      indexed = work_name("link");
      TRY(link_copy(*work_, indexed.c_str()));
    }
    auto linked = link_copy(*upper, CName(node.name.view()));
    if (!linked) {
      if (!indexed.empty()) ignore(sys::unlink(*work_, indexed.c_str()));
      return linked;
    }
    ignore(sys::utimens(*upper, "", parent_st.atime, parent_st.mtime));  // nothing changed for the caller
    mark_impure(*parent, *upper);
    NodeRef successor;
    if (modes_.passes_through(node)) successor = successor_of(node);
    Node& copied = successor ? *successor : node;
    if (metadata_only && !(node.file && node.file->metacopy)) {
      if (!copied.file) copied.file = std::make_unique<FileState>();
      copied.file->data_layer = from.layer;
      std::string base = path_in(*parent, from.layer);
      copied.file->data_path =
          base.empty() ? std::string(node.name.view()) : base + "/" + std::string(node.name.view());
      copied.file->metacopy = true;
    } else if (copied.file && !metadata_only) {
      copied.file->metacopy = false;
    }
    became_upper(copied, made, indexed, st);
    if (successor) {
      nodes_.retire(node, *successor);
      ref = std::move(successor);
    }
    return {};
  }
}

// Unlinked while in use: the copy has no name either, but the file's other names, if any, must find it.
Status Overlay::place_nameless_copy(Node& node, sys::FdRef made, const LinkCopy& link_copy, const sys::Statx& st) {
  std::string indexed;
  if (!node.file) node.file = std::make_unique<FileState>();
  if (node.file->nlink_known && node.file->lower_nlink > 0) {
    indexed = work_name("link");
    TRY(link_copy(*work_, indexed.c_str()));
  }
  auto kept = sys::dup(made);
  if (!kept) {
    if (!indexed.empty()) ignore(sys::unlink(*work_, indexed.c_str()));
    return fail(kept.error());
  }
  node.file->metacopy = false;
  node.file->fd = std::make_shared<const sys::UniqueFd>(std::move(*kept));
  became_upper(node, made, indexed, st);
  return {};
}

// The copy is in place: from here on the node is the upper object.
void Overlay::became_upper(Node& node, sys::FdRef copy, const std::string& indexed, const sys::Statx& lower) {
  auto st = sys::statx(copy, "");
  if (st && !node.nameless.load(std::memory_order_acquire)) numbers_.adopt(st->ino, node.ino);
  if (!indexed.empty()) {
    // The layer's own count of links no longer tells the truth: the node stays for as long as the mount lives.
    if (!node.file) node.file = std::make_unique<FileState>();
    node.file->work_name = indexed;
    if (!std::exchange(node.file->nlink_known, true)) node.file->lower_nlink = static_cast<std::int32_t>(lower.nlink);
    if (st) nodes_.register_inode(node, {.device = st->dev, .ino = st->ino, .layer = 0});
    if (!std::exchange(node.pinned, true)) node.refs.fetch_add(1, std::memory_order_relaxed);
    MutexLock links(link_mutex_);
    indexed_.push_back(node.node_id());
  }
  if (!node.is_dir() || node.nameless.load(std::memory_order_acquire)) node.layer = 0;
  node.in_upper.store(true, std::memory_order_release);
}

// Everything but regular files: small, so made under the node's lock.
Status Overlay::copy_up_special(Node& node) {
  Place from = TRY(place_of(node));
  sys::Statx st = TRY(stat_at(*from.in, from.fd(), from.name));
  if (node.is_dir() != st.is_dir() || st.is_regular()) return fail(ESTALE);
  if (is_protected(*from.in, st)) return fail(EPERM);
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
  if (st.is_dir() || st.nlink == 1) mark_origin(*work_, name, *from.in, st);
  sys::UniqueFd copy = TRY(with_fds([&] { return sys::openat(*work_, name, O_PATH); }));

  if (node.nameless.load(std::memory_order_acquire)) {
    // Removed while in use: so is the copy, and `undo` takes its name away.
    if (!node.file) node.file = std::make_unique<FileState>();
    node.file->fd = std::make_shared<const sys::UniqueFd>(TRY(sys::dup(copy)));
    became_upper(node, copy, "", st);
    return {};
  }
  DirFd parent = TRY(dir_fd(*node.parent, 0));
  sys::Statx parent_st = TRY(sys::statx(*parent, ""));
  TRY(sys::rename(*work_, name, *parent, CName(node.name.view()), RENAME_NOREPLACE));
  undo.done();
  ignore(sys::utimens(*parent, "", parent_st.atime, parent_st.mtime));
  mark_impure(*node.parent, *parent);
  became_upper(node, copy, "", st);
  return {};
}

// The data of a metacopy file follows. Until the mark is gone the data below counts, so a crash on the way changes
// nothing, and readers meanwhile read below. Who changes its metadata waits (ChangeLock): what the copying does to them
// is put back.
Status Overlay::complete_data(Node& node, const CopyUp& how) {
  sys::Statx st;
  sys::UniqueFd from, to;
  {
    ReadLock tree(tree_mutex_);
    WriteLock lock(node.mutex);
    Place place = TRY(place_of(node));
    st = TRY(sys::statx(place.fd(), place.name));
    from = TRY(open_place(TRY(data_place_of(node)), O_RDONLY));
    to = TRY(open_place(place, O_RDWR));
    node.file->completing = true;
  }
  const auto completed = on_exit([&] {
    WriteLock lock(node.mutex);
    node.file->completing = false;
  });
  // Writing takes capabilities and, from some daemons, setuid bits; nobody asked for that.
  auto capability = sys::getxattr(to, "", "security.capability");
  const Status copied = copy_data(from, to, how.truncate_to ? std::min(st.size, *how.truncate_to) : st.size);
  if (!copied) {
    // As it was: its size, and no data.
    ignore(sys::truncate(to, 0));
    ignore(sys::truncate(to, st.size));
  }
  if (capability) ignore(sys::setxattr(to, "", "security.capability", *capability));
  if (auto now = sys::statx(to, ""); now && now->mode != st.mode) ignore(sys::chmod(to, "", st.mode & 07777));
  ignore(sys::utimens(to, "", st.atime, st.mtime));
  TRY(copied);
  if (syncs()) TRY(sys::fsync(to));
  ReadLock tree(tree_mutex_);
  {
    WriteLock lock(node.mutex);
    for (const char* mark :
         {"trusted.overlay.metacopy", "user.overlay.metacopy", "trusted.overlay.redirect", "user.overlay.redirect"}) {
      ignore(sys::removexattr(to, "", mark));
    }
    if (TRY(read_marks(*upper_, to, "")).metacopy) return fail(EIO);
    node.file->metacopy = false;
  }
  attributes_changed(node, node.node_id());
  return {};
}

// The other names of a copied-up hard link lead to the copy through workdir while the mount lives. Before it ends, and
// before an fsync of the file is answered, each name that is known gets its entry in upper. The tree is locked, shared.
Status Overlay::settle_names(Node& node) {
  std::vector<std::pair<NodeRef, std::string>> names;
  {
    ReadLock lock(node.mutex);
    if (!node.file || node.file->work_name.empty()) return {};
    names = nodes_.names_of(node);
  }
  Status all;
  for (const auto& [parent, name] : names) {
    const Status settled = [&]() -> Status {
      TRY(ensure_upper_dir(*parent));
      WriteLock parent_lock(parent->mutex);
      WriteLock lock(node.mutex);
      if (nodes_.find(*parent, name).get() != &node) return {};  // not its name any more
      DirFd upper = TRY(dir_fd(*parent, 0));
      sys::Statx before = TRY(sys::statx(*upper, ""));
      TRY(make_physical(node, {.parent = parent.get(), .name = name, .upper = upper}));
      return sys::utimens(*upper, "", before.atime, before.mtime);
    }();
    if (settled) continue;
    log::warning("{}: a hard link keeps its old content: {}", name, settled.error().message());
    all = settled;
  }
  return all;
}

void Overlay::settle_hard_links() {
  std::vector<fuse::NodeId> ids;
  {
    MutexLock links(link_mutex_);
    ids.swap(indexed_);
  }
  ReadLock tree(tree_mutex_);
  for (fuse::NodeId id : ids) {
    if (auto node = nodes_.get(id)) ignore(settle_names(**node));
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
      TRY(copy_up(child, {}));
      ReadLock tree(tree_mutex_);
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
    dir.dir->listing_stale = true;
  }
  // Whiteouts under an opaque directory hide nothing, and kernel overlayfs would list them.
  clear_emptied_dir(dir);
  return sys::utimens(*upper, "", before.atime, before.mtime);  // for the caller nothing has changed
}

}  // namespace vellum::overlay
