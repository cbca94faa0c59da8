// New objects: create, mkdir, mknod, symlink, link, O_TMPFILE.
#include <dirent.h>

#include "base/scope.h"
#include "overlay/acl.h"
#include "overlay/overlay.h"
#include "overlay/xattr_names.h"
#include "sys/caller_creds.h"
#include "sys/process.h"

namespace vellum::overlay {

// Flags for the backing file. The kernel has resolved append offsets, direct I/O would make its alignment rules
// ours, and the writeback cache reads around partial writes.
int Overlay::backing_flags(int flags) const {
  int access = flags & O_ACCMODE;
  if (writeback_ && access == O_WRONLY) access = O_RDWR;
  return access | (flags & O_SYNC) | (flags & O_DSYNC);
}

Result<std::pair<std::uint32_t, std::uint32_t>> Overlay::owner_of_new(const fuse::Caller& caller) const {
  auto uid = uids_.store(caller.uid);
  auto gid = gids_.store(caller.gid);
  // With squash every file belongs to one owner whoever makes it; what is stored is ours to choose.
  if (uids_.squashes() && !uid) uid = sys::effective_uid();
  if (gids_.squashes() && !gid) gid = sys::effective_gid();
  if (!uid || !gid) return fail(EOVERFLOW);
  return std::make_pair(*uid, *gid);
}

// Whether `name` is free to be made, and what stands in upper in its place.
Result<Overlay::Vacancy> Overlay::check_vacant(Node& parent, std::string_view name) {
  if (!valid_name(name)) return fail(name.size() > kNameMax ? ENAMETOOLONG : EINVAL);
  // A name of this form would be read as a whiteout the next time.
  if (hides(name) || is_deleted_tree(parent, name)) return fail(EPERM);
  if (parent.nameless.load(std::memory_order_acquire)) return fail(ENOENT);
  if (nodes_.find(parent, name)) return fail(EEXIST);
  DirFd upper = TRY(dir_fd(parent, 0));
  CName at(name);
  auto st = sys::statx(*upper, at);
  if (st) {
    if (is_whiteout(*st)) return Vacancy::kWhiteout;
    if (parent.dir->upper_xattr_whiteouts && may_be_xattr_whiteout(*st) &&
        is_whiteout(*st, TRY(read_marks(*upper_, *upper, at)))) {
      return Vacancy::kWhiteout;
    }
    return fail(EEXIST);
  }
  if (st.error() != ENOENT) return fail(st.error());
  if (parent.dir->lowers.empty()) return Vacancy::kFree;
  if (hidden_beside(parent, 0, *upper, name)) return Vacancy::kDotWh;
  if (TRY(lower_has(parent, name))) return fail(EEXIST);
  return Vacancy::kFree;
}

// Makes the object itself; a regular file comes back open.
Result<sys::UniqueFd> Overlay::make_in(sys::FdRef dir, const char* name, const NewObject& what, mode_t mode) {
  switch (what.mode & S_IFMT) {
    case S_IFREG:
      return with_fds([&] {
        return sys::openat(dir, name, O_CREAT | O_EXCL | O_RDWR | (what.open_flags & (O_SYNC | O_DSYNC)), mode);
      });
    case S_IFDIR: TRY(sys::mkdir(dir, name, mode)); break;
    case S_IFLNK: TRY(sys::symlink(what.target.c_str(), dir, name)); break;
    default: TRY(sys::mknod(dir, name, (what.mode & S_IFMT) | mode, what.rdev)); break;
  }
  return sys::UniqueFd();
}

// Puts WORK/work_name at `name`, where a whiteout may stand.
Status Overlay::place_from_work(const char* temporary, sys::FdRef upper, std::string_view name, bool is_dir,
                                Vacancy vacancy) {
  CName at(name);
  if (vacancy == Vacancy::kWhiteout && is_dir) {
    // A directory cannot replace a device in one rename: trade places, then drop the whiteout.
    TRY(sys::rename(*work_, temporary, upper, at, RENAME_EXCHANGE));
    ignore(sys::unlink(*work_, temporary));
    return {};
  }
  TRY(sys::rename(*work_, temporary, upper, at, vacancy == Vacancy::kWhiteout ? 0 : RENAME_NOREPLACE));
  if (vacancy == Vacancy::kDotWh) remove_dot_wh(upper, name);
  return {};
}

// Where a whiteout has to give way in the same step, or attributes have to be there from the start, the object is
// made in workdir; what the parent would have given it (ACL, group) is then ours to work out.
Result<sys::UniqueFd> Overlay::make_over_whiteout(const Node& parent, const DirFd& upper, std::string_view name,
                                                  const NewObject& what, std::uint32_t uid, std::uint32_t gid,
                                                  Vacancy vacancy) {
  bool is_dir = S_ISDIR(what.mode);
  bool override = !upper_->override_name.empty();
  sys::Statx parent_st = TRY(stat_at(*upper_, *upper, ""));
  std::uint32_t mode = what.mode & 07777;
  std::string access, inherited;
  auto default_acl = sys::getxattr(*upper, "", kDefaultAcl);
  if (default_acl && !default_acl->empty() && !S_ISLNK(what.mode)) {
    Inherited result = TRY(inherit_acl(*default_acl, mode));
    mode = result.mode;
    access = std::move(result.access);
    if (is_dir) inherited = *default_acl;
  } else {
    mode &= ~what.umask;
  }
  if ((parent_st.mode & S_ISGID) != 0) {
    gid = parent_st.gid;
    if (is_dir) mode |= S_ISGID;
  }

  std::string temporary = work_name("new");
  const char* tmp = temporary.c_str();
  NewObject real = what;
  if (override && !is_dir && !S_ISREG(what.mode)) real.mode = S_IFREG | 0600;
  sys::UniqueFd fd = TRY(make_in(*work_, tmp, real, is_dir ? 0700 : 0600));
  auto undo = on_failure([&] { ignore(is_dir ? sys::rmdir(*work_, tmp) : sys::unlink(*work_, tmp)); });
  if (override && S_ISLNK(what.mode)) TRY(sys::pwrite(fd, std::as_bytes(std::span(what.target)), 0));
  if (override) {
    sys::Statx wanted = TRY(sys::statx(*work_, tmp));
    wanted.uid = uid;
    wanted.gid = gid;
    wanted.mode = (what.mode & S_IFMT) | mode;
    wanted.rdev = what.rdev;
    TRY(sys::setxattr(*work_, tmp, upper_->override_name.c_str(), format_override(wanted)));
  } else {
    if (auto owned = sys::chown(*work_, tmp, uid, gid); !owned && !uids_.squashes()) return fail(owned.error());
    if (!S_ISLNK(what.mode)) TRY(sys::chmod(*work_, tmp, mode));
  }
  if (!access.empty()) TRY(sys::setxattr(*work_, tmp, kAccessAcl, access));
  if (!inherited.empty()) TRY(sys::setxattr(*work_, tmp, kDefaultAcl, inherited));
  if (is_dir && vacancy != Vacancy::kFree) {
    // With a deleted tree a mark says the same. It stays, or takes the place of a whiteout of another style.
    TRY(style_ == WhiteoutStyle::kDeletedTree ? add_deleted(parent, name) : set_opaque(*work_, tmp));
  }
  TRY(place_from_work(tmp, *upper, name, is_dir, vacancy));
  undo.done();
  return fd;
}

// The node of an object just made at (parent, name), and what the kernel is told of it.
Result<Overlay::Made> Overlay::adopt_new(Node& parent, const DirFd& upper, std::string_view name, sys::UniqueFd fd) {
  names_changed(parent);
  Found found;
  found.in_upper = true;
  found.st = TRY(stat_at(*upper_, *upper, CName(name)));
  sys::Statx st = found.st;
  Made made{.node = TRY(make_node(parent, name, std::move(found))), .entry = {}, .fd = std::move(fd)};
  ReadLock lock(made.node->mutex);
  made.entry = make_entry(*made.node, st);
  return made;
}

Result<Overlay::Made> Overlay::make_object(const fuse::Caller& caller, fuse::NodeId parent_id, std::string_view name,
                                           const NewObject& what) {
  if (upper_ == nullptr) return fail(EROFS);
  NodeRef parent = TRY(dir_for(parent_id));
  auto [uid, gid] = TRY(owner_of_new(caller));
  ReadLock tree(tree_mutex_);
  TRY(ensure_upper_dir(*parent));
  WriteLock lock(parent->mutex);
  Vacancy vacancy = TRY(check_vacant(*parent, name));
  DirFd upper = TRY(dir_fd(*parent, 0));
  sys::UniqueFd fd;
  if (vacancy == Vacancy::kFree && upper_->override_name.empty() && sys::CallerCreds::have_umask()) {
    // Born in place with its final owner, mode and inherited ACL.
    CName at(name);
    bool owned;
    {
      sys::CallerCreds as_caller(uid, gid, what.umask);
      owned = as_caller.owned();
      fd = TRY(make_in(*upper, at, what, what.mode & 07777));
    }
    if (!owned && !uids_.squashes()) {
      if (auto given = sys::chown(*upper, at, uid, gid); !given) {
        ignore(S_ISDIR(what.mode) ? sys::rmdir(*upper, at) : sys::unlink(*upper, at));
        return fail(given.error());
      }
    }
  } else {
    fd = TRY(make_over_whiteout(*parent, upper, name, what, uid, gid, vacancy));
    if (!S_ISDIR(what.mode)) remove_deleted(*parent, name);
  }
  return adopt_new(*parent, upper, name, std::move(fd));
}

Result<fuse::Entry> Overlay::symlink(const fuse::Caller& caller, fuse::NodeId parent, std::string_view name,
                                     std::string_view target) {
  Made made = TRY(make_object(caller, parent, name, {.mode = S_IFLNK | 0777, .target = std::string(target)}));
  return made.entry;
}

Result<fuse::Entry> Overlay::mknod(const fuse::Caller& caller, fuse::NodeId parent, std::string_view name,
                                   std::uint32_t mode, dev_t rdev, std::uint32_t umask) {
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;
  if (S_ISDIR(mode) || S_ISLNK(mode)) return fail(EINVAL);
  // It would be a whiteout. Kernel overlayfs refuses it too.
  if (S_ISCHR(mode) && rdev == 0) return fail(EPERM);
  Made made = TRY(make_object(caller, parent, name, {.mode = mode, .umask = umask, .rdev = rdev, .target = {}}));
  return made.entry;
}

Result<fuse::Entry> Overlay::mkdir(const fuse::Caller& caller, fuse::NodeId parent, std::string_view name,
                                   std::uint32_t mode, std::uint32_t umask) {
  Made made = TRY(make_object(caller, parent, name, {.mode = S_IFDIR | (mode & 07777), .umask = umask, .target = {}}));
  return made.entry;
}

Result<fuse::Created> Overlay::create(const fuse::Caller& caller, fuse::NodeId parent, std::string_view name, int flags,
                                      std::uint32_t mode, std::uint32_t umask) {
  auto made = make_object(caller, parent, name,
                          {.mode = S_IFREG | (mode & 07777), .umask = umask, .target = {}, .open_flags = flags});
  // The kernel believed the name to be free, so it has not checked the file's mode: it has to look again.
  if (!made && made.error() == EEXIST && (flags & O_EXCL) == 0) return fail(ESTALE);
  if (!made) return fail(made.error());
  fuse::Created created;
  created.entry = made->entry;
  bool may_pass = new_may_pass_through(made->entry.attr.mode);
  created.open =
      TRY(add_handle(std::move(made->node), {.fd = std::move(made->fd), .writes = true, .may_pass = may_pass}));
  // Its attributes are still true: an empty file has to grow before a mapping can write to it, and then they are asked
  // for again (see attr_valid()).
  return created;
}

Result<fuse::Created> Overlay::tmpfile(const fuse::Caller& caller, fuse::NodeId parent_id, int flags,
                                       std::uint32_t mode, std::uint32_t umask) {
  if (upper_ == nullptr) return fail(EROFS);
  if (!can_tmpfile_ || !upper_->override_name.empty()) return fail(EOPNOTSUPP);
  NodeRef parent = TRY(dir_for(parent_id));
  auto [uid, gid] = TRY(owner_of_new(caller));
  ReadLock tree(tree_mutex_);
  TRY(ensure_upper_dir(*parent));
  ReadLock lock(parent->mutex);
  DirFd upper = TRY(dir_fd(*parent, 0));
  sys::UniqueFd fd;
  {
    sys::CallerCreds as_caller(uid, gid, umask);
    // O_EXCL here means "never to be linked": the caller's wish.
    fd = TRY(with_fds([&] {
      return sys::openat(*upper, ".", O_TMPFILE | O_RDWR | (flags & (O_EXCL | O_SYNC | O_DSYNC)), mode & 07777);
    }));
    if (!as_caller.owned()) {
      if (auto given = sys::chown(fd, "", uid, gid); !given && !uids_.squashes()) return fail(given.error());
    }
    if (!sys::CallerCreds::have_umask()) TRY(sys::chmod(fd, "", mode & 07777 & ~umask));
  }
  sys::Statx st = TRY(sys::statx(fd, ""));
  NodeRef node = nodes_.make();
  node->ino = numbers_.present(st.dev, st.ino);
  node->type = DT_REG;
  node->in_upper.store(true, std::memory_order_relaxed);
  node->nameless.store(true, std::memory_order_relaxed);
  node->file = std::make_unique<FileState>();
  node->file->fd = std::make_shared<const sys::UniqueFd>(TRY(sys::dup(fd)));
  fuse::Created created;
  created.entry = make_entry(*node, st);
  bool may_pass = new_may_pass_through(st.mode);
  created.open = TRY(add_handle(std::move(node), {.fd = std::move(fd), .writes = true, .may_pass = may_pass}));
  return created;
}

// A further name in upper for an object that is in upper.
Result<fuse::Entry> Overlay::link(const fuse::Caller&, fuse::NodeId id, fuse::NodeId new_parent_id,
                                  std::string_view new_name) {
  if (upper_ == nullptr) return fail(EROFS);
  NodeRef node = TRY(nodes_.get(id));
  if (node->is_dir()) return fail(EPERM);
  NodeRef parent = TRY(dir_for(new_parent_id));
  TRY(copy_up(node, {}));
  ReadLock tree(tree_mutex_);
  TRY(ensure_upper_dir(*parent));
  WriteLock parent_lock(parent->mutex);
  Vacancy vacancy = TRY(check_vacant(*parent, new_name));
  DirFd upper = TRY(dir_fd(*parent, 0));
  CurrentLock<WriteLock> lock(nodes_, node);
  Place from = TRY(place_of(*node));
  if (!is_upper(from.layer)) return fail(ESTALE);
  auto link_to = [&](sys::FdRef dir, const char* name) {
    return *from.name.c_str() == '\0' ? sys::link_fd(from.fd(), dir, name) : sys::link(from.fd(), from.name, dir, name);
  };
  if (vacancy == Vacancy::kWhiteout) {
    std::string temporary = work_name("ln");
    TRY(link_to(*work_, temporary.c_str()));
    auto placed = place_from_work(temporary.c_str(), *upper, new_name, false, vacancy);
    if (!placed) {
      ignore(sys::unlink(*work_, temporary.c_str()));
      return fail(placed.error());
    }
  } else {
    TRY(link_to(*upper, CName(new_name)));
    if (vacancy == Vacancy::kDotWh) remove_dot_wh(*upper, new_name);
    remove_deleted(*parent, new_name);
  }
  names_changed(*parent);
  sys::Statx st = TRY(stat_at(*upper_, *upper, CName(new_name)));
  if (numbers_.adopted(st.ino)) mark_impure(*parent, *upper);
  if (!node->file) node->file = std::make_unique<FileState>();
  if (node->nameless.load(std::memory_order_acquire)) {
    nodes_.name_again(*node, *parent, new_name);
    node->file->fd.reset();
  } else {
    MutexLock links(link_mutex_);
    nodes_.add_alias(*node, *parent, new_name);
  }
  nodes_.register_inode(*node, {.device = st.dev, .ino = st.ino, .layer = 0});
  if (node->file->nlink_known) ++node->file->lower_nlink;
  return make_entry(*node, st);
}

}  // namespace vellum::overlay
