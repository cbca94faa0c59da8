// Whiteouts and opaque marks, written in the best style the upper holds.
#include <sys/sysmacros.h>

#include "base/scope.h"
#include "overlay/overlay.h"

namespace vellum::overlay {

// A whiteout under `name` in workdir, ready to be renamed over something. Not for the ".wh." style.
Status Overlay::new_whiteout_in_work(const std::string& name) {
  if (style_ == WhiteoutStyle::kXattr) {
    TRY(with_fds([&] { return sys::openat(*work_, name.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600); }));
    auto marked = sys::setxattr(*work_, name.c_str(), mark_names_("whiteout").c_str(), "");
    if (!marked) ignore(sys::unlink(*work_, name.c_str()));
    return marked;
  }
  // One device with many links: a link is cheaper than an inode, for us and for the disk.
  MutexLock lock(whiteout_mutex_);
  constexpr const char* kShared = "#whiteout";
  if (shared_whiteout_) {
    auto linked = sys::link(*work_, kShared, *work_, name.c_str());
    if (linked) return linked;
    if (linked.error() != EMLINK && linked.error() != ENOENT && linked.error() != EPERM) return linked;
    ignore(sys::unlink(*work_, kShared));
    shared_whiteout_ = false;
  }
  TRY(sys::mknod(*work_, name.c_str(), S_IFCHR, makedev(0, 0)));
  shared_whiteout_ = sys::link(*work_, name.c_str(), *work_, kShared).has_value();
  return {};
}

// Kernel overlayfs looks for whiteouts in xattr form only in directories that say so.
Status Overlay::prepare_xattr_whiteouts(sys::FdRef dir) {
  std::string mark = mark_names_("opaque");
  if (auto now = sys::getxattr(dir, "", mark.c_str()); now && (*now == "x" || *now == "y")) return {};
  return sys::setxattr(dir, "", mark.c_str(), "x");
}

Status Overlay::make_whiteout(Node& parent, sys::FdRef dir, std::string_view name) {
  whiteouts_.fetch_add(1, std::memory_order_relaxed);
  if (style_ == WhiteoutStyle::kDeletedTree) {
    TRY(add_deleted(parent, name));
    // The mark is elsewhere, but it is here that a name went.
    return sys::utimens(dir, "", {.tv_sec = 0, .tv_nsec = UTIME_OMIT}, {.tv_sec = 0, .tv_nsec = UTIME_NOW});
  }
  if (style_ == WhiteoutStyle::kDotWh) {
    if (name.size() + kWhPrefix.size() > kNameMax) return fail(ENAMETOOLONG);
    auto made = sys::openat(dir, CName(kWhPrefix, name), O_CREAT | O_WRONLY, 0600);
    if (!made) return fail(made.error());
    return {};
  }
  if (style_ == WhiteoutStyle::kDevice) {
    {
      MutexLock lock(whiteout_mutex_);
      if (shared_whiteout_ && sys::link(*work_, "#whiteout", dir, CName(name))) return {};
    }
  } else {
    TRY(prepare_xattr_whiteouts(dir));
  }
  std::string temporary = work_name("wh");
  TRY(new_whiteout_in_work(temporary));
  auto moved = sys::rename(*work_, temporary.c_str(), dir, CName(name), RENAME_NOREPLACE);
  if (!moved) ignore(sys::unlink(*work_, temporary.c_str()));
  return moved;
}

Status Overlay::replace_by_whiteout(Node& parent, sys::FdRef dir, std::string_view name, bool is_dir) {
  whiteouts_.fetch_add(1, std::memory_order_relaxed);
  std::string temporary = work_name("wh");
  const bool deleted_tree = style_ == WhiteoutStyle::kDeletedTree;
  if (style_ == WhiteoutStyle::kDotWh || deleted_tree) {
    if (!deleted_tree && name.size() + kWhPrefix.size() > kNameMax) return fail(ENAMETOOLONG);
    // Between the two steps both are there, and the object wins.
    if (deleted_tree) {
      TRY(add_deleted(parent, name));
    } else {
      TRY(sys::openat(dir, CName(kWhPrefix, name), O_CREAT | O_WRONLY, 0600));
    }
    auto removed = is_dir ? sys::rename(dir, CName(name), *work_, temporary.c_str()) : sys::unlink(dir, CName(name));
    if (!removed && !deleted_tree) remove_dot_wh(dir, name);
    if (!removed && deleted_tree && !is_dir) remove_deleted(parent, name);
    if (removed && is_dir) remove_tree_in_work(temporary);
    return removed;
  }
  if (style_ == WhiteoutStyle::kXattr) TRY(prepare_xattr_whiteouts(dir));
  TRY(new_whiteout_in_work(temporary));
  auto replaced = sys::rename(*work_, temporary.c_str(), dir, CName(name), is_dir ? RENAME_EXCHANGE : 0);
  if (!replaced) {
    ignore(sys::unlink(*work_, temporary.c_str()));
  } else if (is_dir) {
    remove_tree_in_work(temporary);
  }
  return replaced;
}

void Overlay::remove_dot_wh(sys::FdRef dir, std::string_view name) {
  if (name.size() + kWhPrefix.size() <= kNameMax) ignore(sys::unlink(dir, CName(kWhPrefix, name)));
}

Status Overlay::set_opaque(sys::FdRef dir, const char* name) {
  if (marks_work_) {
    TRY(sys::setxattr(dir, name, mark_names_("opaque").c_str(), "y"));
    return {};
  }
  sys::UniqueFd opened;
  sys::FdRef inside = dir;
  if (*name != '\0') {
    opened = TRY(with_fds([&] { return sys::openat(dir, name, O_PATH | O_DIRECTORY); }));
    inside = opened;
  }
  TRY(sys::openat(inside, CName(kWhOpaque), O_CREAT | O_WRONLY, 0600));
  return {};
}

// Removes WORKDIR/work/NAME and all in it. What is below was ours to begin with (whiteouts of an emptied directory,
// an interrupted copy), so the depth is that of a directory tree somebody could delete.
void Overlay::remove_tree_in_work(const std::string& name) {
  if (sys::unlink(*work_, name.c_str())) return;
  struct Level {
    DirFd fd;
    std::string name;
    std::vector<std::string> rest;
  };
  std::vector<Level> levels;
  auto enter = [&](const DirFd& parent, const std::string& child) {
    auto fd = with_fds([&] { return sys::openat(*parent, child.c_str(), O_RDONLY | O_DIRECTORY); });
    Level level{.fd = fd ? std::make_shared<const sys::UniqueFd>(std::move(*fd)) : nullptr, .name = child, .rest = {}};
    if (level.fd) {
      ignore(sys::read_dir(*level.fd, [&](std::string_view entry, std::uint64_t, unsigned char) {
        level.rest.emplace_back(entry);
        return true;
      }));
    }
    levels.push_back(std::move(level));
  };
  enter(work_, name);
  while (!levels.empty()) {
    Level& top = levels.back();
    if (top.rest.empty()) {
      std::string done = top.name;
      levels.pop_back();
      ignore(sys::rmdir(levels.empty() ? *work_ : *levels.back().fd, done.c_str()));
      continue;
    }
    std::string entry = std::move(top.rest.back());
    top.rest.pop_back();
    if (sys::unlink(*top.fd, entry.c_str())) continue;
    DirFd parent = top.fd;
    enter(parent, entry);
  }
}

}  // namespace vellum::overlay
