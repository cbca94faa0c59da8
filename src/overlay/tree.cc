// Places, lookup, and which node is what.
#include <dirent.h>

#include <algorithm>

#include "base/log.h"
#include "overlay/overlay.h"
#include "overlay/xattr_names.h"

namespace vellum::overlay {
namespace {

// After this many lookups that had to ask the lower layers, a directory's names are indexed.
constexpr std::uint32_t kIndexAfter = 4;

std::string join(std::string_view parent, std::string_view name) {
  if (parent.empty()) return std::string(name);
  std::string path;
  path.reserve(parent.size() + 1 + name.size());
  path.append(parent).push_back('/');
  path.append(name);
  return path;
}

}  // namespace

Result<DirFd> Overlay::open_dir(const DirFd& parent, const char* name) {
  sys::UniqueFd fd = TRY(with_fds([&] { return sys::openat(*parent, name, O_PATH | O_DIRECTORY); }));
  return std::make_shared<const sys::UniqueFd>(std::move(fd));
}

Result<sys::UniqueFd> Overlay::open_for_reading(sys::FdRef dir) {
  return with_fds([&] { return sys::openat(dir, ".", O_RDONLY | O_DIRECTORY); });
}

const LowerDir* Overlay::lower_of(const Node& dir, LayerIndex index) const {
  for (const LowerDir& lower : dir.dir->lowers) {
    if (lower.layer == index) return &lower;
  }
  return nullptr;
}

std::string Overlay::path_in(const Node& dir, LayerIndex index) const {
  std::vector<std::string_view> names;
  std::string base;
  const Node* at = &dir;
  for (; at->parent != nullptr; at = at->parent) {
    if (!is_upper(index)) {
      const LowerDir* lower = lower_of(*at, index);
      if (lower != nullptr && !lower->path.empty()) {
        base = lower->path;
        break;
      }
    }
    names.push_back(at->name.view());
  }
  for (auto name = names.rbegin(); name != names.rend(); ++name) base = join(base, *name);
  return base;
}

Result<std::string> Overlay::path_of(fuse::NodeId id) {
  const NodeRef dir = TRY(dir_for(id));
  const ReadLock tree(tree_mutex_);
  for (const Node* at = dir.get(); at != nullptr; at = at->parent) {
    if (at->nameless.load(std::memory_order_acquire)) return fail(ENOENT);
  }
  return path_in(*dir, 0);
}

Result<DirFd> Overlay::dir_fd(Node& dir, LayerIndex index) {
  // Upwards to the nearest directory that is open, then down again, one component at a time: no path limit, no
  // symlink followed, nothing above the layer's root ever named.
  std::vector<Node*> chain;
  DirFd fd;
  for (Node* at = &dir;; at = at->parent) {
    if (at == &nodes_.root()) {
      fd = layer(index).root;
      break;
    }
    if (at->nameless.load(std::memory_order_acquire)) {
      // Removed, yet somebody is in it: only its own fd is left.
      if (at == &dir && at->file && at->file->fd) return at->file->fd;
      return fail(ENOENT);
    }
    if ((fd = dir_fds_.find(raw(at->node_id()), index))) break;
    if (!is_upper(index)) {
      const LowerDir* lower = lower_of(*at, index);
      if (lower == nullptr) return fail(ENOENT);
      if (!lower->path.empty()) {
        sys::UniqueFd opened =
            TRY(with_fds([&] { return sys::open_beneath(*layer(index).root, lower->path, O_PATH | O_DIRECTORY); }));
        fd = std::make_shared<const sys::UniqueFd>(std::move(opened));
        dir_fds_.put(raw(at->node_id()), index, fd);
        break;
      }
    }
    chain.push_back(at);
  }
  for (auto at = chain.rbegin(); at != chain.rend(); ++at) {
    fd = TRY(open_dir(fd, (*at)->name.c_str()));
    dir_fds_.put(raw((*at)->node_id()), index, fd);
  }
  return fd;
}

Result<Overlay::Place> Overlay::place_of(Node& node) {
  if (node.nameless.load(std::memory_order_acquire) &&
      !(node.file && !node.file->fd && !node.file->work_name.empty())) {
    if (!node.file || !node.file->fd) return fail(ESTALE);
    return Place{.dir = node.file->fd, .layer = node.layer, .in = layers_[node.layer].get()};
  }
  bool in_upper = node.in_upper.load(std::memory_order_acquire);
  if (node.is_dir()) {
    if (!in_upper && node.dir->lowers.empty()) return fail(ENOENT);
    LayerIndex index = in_upper ? LayerIndex{0} : node.dir->lowers.front().layer;
    return Place{.dir = TRY(dir_fd(node, index)), .layer = index, .in = layers_[index].get()};
  }
  if (node.file && !node.file->work_name.empty()) {
    return Place{.dir = work_, .name = CName(node.file->work_name), .layer = 0, .in = upper_};
  }
  LayerIndex index = in_upper ? LayerIndex{0} : node.layer;
  return Place{.dir = TRY(dir_fd(*node.parent, index)),
               .name = CName(node.name.view()),
               .layer = index,
               .in = layers_[index].get()};
}

Result<Overlay::Place> Overlay::data_place_of(Node& node) {
  if (!node.file || !node.file->metacopy) return place_of(node);
  LayerIndex index = node.file->data_layer;
  std::string_view path = node.file->data_path;
  auto slash = path.rfind('/');
  std::string_view parent = slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
  std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  sys::UniqueFd dir =
      TRY(with_fds([&] { return sys::open_beneath(*layer(index).root, parent, O_PATH | O_DIRECTORY); }));
  return Place{.dir = std::make_shared<const sys::UniqueFd>(std::move(dir)),
               .name = CName(name),
               .layer = index,
               .in = layers_[index].get()};
}

Result<sys::Statx> Overlay::stat_at(const Layer& in, sys::FdRef dir, const char* name) {
  sys::Statx st = TRY(sys::statx(dir, name));
  if (!in.override_name.empty()) {
    if (auto value = sys::getxattr(dir, name, in.override_name.c_str())) parse_override(*value, st);
  }
  return st;
}

Result<sys::Statx> Overlay::stat_of(Node& node) {
  Place place = TRY(place_of(node));
  sys::Statx st = TRY(stat_at(*place.in, place.fd(), place.name));
  if (node.file && node.file->metacopy) {
    // The size is already the file's; what it occupies is below.
    if (auto data = data_place_of(node)) {
      if (auto below = sys::statx(data->fd(), data->name)) st.blocks = below->blocks;
    }
  }
  return st;
}

fuse::Attr Overlay::to_attr(const Node& node, const sys::Statx& st) const {
  auto time = [](const timespec& t) {
    return fuse::Timestamp{.sec = t.tv_sec, .nsec = static_cast<std::uint32_t>(t.tv_nsec)};
  };
  fuse::Attr attr;
  attr.ino = node.ino;
  attr.size = st.size;
  attr.blocks = st.blocks;
  attr.atime = time(st.atime);
  attr.mtime = time(st.mtime);
  attr.ctime = time(st.ctime);
  if (st.has_btime) attr.btime = time(st.btime);
  attr.mode = st.mode;
  attr.nlink = st.nlink;
  bool gone = node.nameless.load(std::memory_order_relaxed) && !node.in_upper.load(std::memory_order_relaxed);
  if (gone && !(node.file && node.file->nlink_known)) {
    attr.nlink = 0;  // its layer still has it; the merged tree does not
  } else if (node.is_dir()) {
    // Counting a merged directory's subdirectories would mean reading all its layers: 1 says "not counted", as
    // kernel overlayfs does.
    std::size_t layers = node.dir->lowers.size() + (node.in_upper.load(std::memory_order_relaxed) ? 1 : 0);
    if (layers > 1 || options_.static_nlink) attr.nlink = 1;
  } else if (node.file && node.file->nlink_known) {
    attr.nlink = static_cast<std::uint32_t>(std::max(node.file->lower_nlink, 0));
  }
  attr.uid = uids_.present(st.uid);
  attr.gid = gids_.present(st.gid);
  attr.rdev = st.rdev;
  attr.blksize = st.blksize != 0 ? st.blksize : 4096;
  return attr;
}

Result<NodeRef> Overlay::dir_for(fuse::NodeId id) {
  NodeRef node = TRY(nodes_.get(id));
  if (!node->is_dir()) return fail(ENOTDIR);
  return node;
}

// --- Lookup through the layers

Status Overlay::resolve_metacopy(Node& parent, std::string_view name, Found& found) {
  // The data is in the next layer below that has a regular file of the name (or of the redirect's).
  std::string path;
  std::string_view search = name;
  if (found.marks.redirect) {
    if (found.marks.redirect->starts_with('/'))
      path = found.marks.redirect->substr(1);
    else if (valid_name(*found.marks.redirect))
      search = *found.marks.redirect;
  }
  for (LayerIndex index = static_cast<LayerIndex>(found.layer + 1); index < layers_.size(); ++index) {
    std::string candidate = path;
    if (candidate.empty()) {
      if (lower_of(parent, index) == nullptr) continue;
      candidate = join(path_in(parent, index), search);
    }
    auto fd = with_fds([&] { return sys::open_beneath(*layer(index).root, candidate, O_PATH); });
    if (!fd && fd.error() == ENOENT) continue;
    if (!fd) return fail(fd.error() == ENOTDIR || fd.error() == ELOOP ? Errno(EIO) : fd.error());
    auto st = sys::statx(*fd, "");
    if (!st || !st->is_regular()) break;
    Marks below = TRY(read_marks(layer(index), *fd, ""));
    if (below.metacopy) {
      if (below.redirect && below.redirect->starts_with('/')) path = below.redirect->substr(1);
      continue;
    }
    found.data_layer = index;
    found.data_path = std::move(candidate);
    return {};
  }
  // The layer that had the data is not part of this mount.
  log::warning("{}: the data of a metacopy file is in no layer of this mount", std::string(name));
  return fail(EIO);
}

// One layer's answer to an absolute redirect. As in any lookup, a whiteout or another non-directory on the way, or an
// opaque directory, hides the layers below.
Result<Overlay::Redirected> Overlay::follow_redirect(const Layer& in, std::string_view path) {
  Redirected result;
  DirFd at = in.root;
  for (;;) {
    auto slash = path.find('/');
    std::string_view component = path.substr(0, slash);
    if (!valid_name(component)) return fail(EIO);  // no overlay writes such a redirect
    auto next = with_fds([&] { return sys::openat(*at, CName(component), O_PATH); });
    if (!next && next.error() != ENOENT) return fail(next.error());
    if (sys::statx(*at, CName(kWhPrefix, component))) result.ends_here = true;  // AUFS style, beside it or instead
    if (!next) return Redirected{.object = nullptr, .ends_here = result.ends_here};
    sys::Statx st = TRY(sys::statx(*next, ""));
    at = std::make_shared<const sys::UniqueFd>(std::move(*next));
    if (slash == std::string_view::npos) {
      result.object = std::move(at);
      return result;
    }
    if (!st.is_dir()) return Redirected{.object = nullptr, .ends_here = true};
    if (TRY(read_marks(in, *at, "")).opaque || sys::statx(*at, CName(kWhOpaque))) result.ends_here = true;
    path.remove_prefix(slash + 1);
  }
}

Status Overlay::resolve_lowers(Node& parent, std::string_view name, Found& found, bool& exists) {
  const auto& lowers = parent.dir->lowers;
  std::size_t position = 0;
  std::string redirect;  // from a layer's root, once some layer redirects
  std::string_view search = name;
  std::string renamed;  // what `search` refers to after a redirect within the parent
  auto follow = [&](const Marks& marks) {
    if (!marks.redirect || options_.redirect_dir == RedirectDir::kNofollow) return;
    if (marks.redirect->starts_with('/')) {
      redirect = marks.redirect->substr(1);
    } else if (valid_name(*marks.redirect) && redirect.empty()) {
      renamed = *marks.redirect;
      search = renamed;
    } else if (valid_name(*marks.redirect)) {
      auto slash = redirect.rfind('/');
      redirect = join(slash == std::string::npos ? "" : std::string_view(redirect).substr(0, slash), *marks.redirect);
    }
  };
  bool have_dir = exists;
  if (have_dir) follow(found.marks);
  bool plain = redirect.empty() && search == name;
  if (plain) {
    if (auto index = known_index(parent)) {
      const LowerEntry* entry = index->find(name);
      if (entry == nullptr || entry->hidden) return {};
      position = entry->position;
    }
  }
  // Without a redirect only layers that have the parent can have the name; a redirect may lead to any layer below.
  LayerIndex next_layer = 1;
  const LayerIndex marked = first_deleted(parent, name);
  for (;;) {
    LayerIndex index;
    DirFd dir;
    CName at{""};
    bool relocated = !redirect.empty();
    if (!relocated) {
      while (position < lowers.size() && lowers[position].layer < next_layer) ++position;
      if (position >= lowers.size()) return {};
      index = lowers[position].layer;
      dir = TRY(dir_fd(parent, index));
      at = CName(search);
    } else {
      if (next_layer >= layers_.size()) return {};
      index = next_layer;
      Redirected target = TRY(follow_redirect(layer(index), redirect));
      if (target.ends_here) next_layer = static_cast<LayerIndex>(layers_.size());
      if (!target.object) {
        if (next_layer <= index) next_layer = static_cast<LayerIndex>(index + 1);
        continue;
      }
      dir = std::move(target.object);
    }
    if (index > marked) return {};
    next_layer = std::max(next_layer, static_cast<LayerIndex>(index + 1));
    const Layer& in = layer(index);
    bool last = relocated ? next_layer >= layers_.size() : position + 1 >= lowers.size();
    auto st = stat_at(in, *dir, at);
    if (!st) {
      if (st.error() != ENOENT) return fail(st.error());
      if (!last && !relocated && hidden_beside(parent, index, *dir, search)) return {};
      continue;
    }
    if (is_device_whiteout(*st)) return {};
    if (have_dir && !st->is_dir()) return {};
    Marks marks;
    if (st->is_dir() || !last || (!relocated && lowers[position].xattr_whiteouts)) {
      marks = TRY(read_marks(in, *dir, at));
    }
    if ((relocated || lowers[position].xattr_whiteouts) && is_whiteout(*st, marks)) return {};
    if (!st->is_dir()) {
      exists = true;
      found.st = *st;
      found.layer = index;
      found.marks = std::move(marks);
      if (found.marks.metacopy) return resolve_metacopy(parent, name, found);
      return {};
    }
    if (!have_dir) {
      found.st = *st;
      found.layer = index;
      found.marks = marks;
    }
    exists = have_dir = true;
    LowerDir lower{.layer = index, .xattr_whiteouts = marks.xattr_whiteouts, .path = {}};
    if (relocated)
      lower.path = redirect;
    else if (search != name)
      lower.path = join(path_in(parent, index), search);
    found.lowers.push_back(std::move(lower));
    if (marks.opaque || last) return {};
    // AUFS style: NAME beside .wh.NAME, or .wh..wh..opq inside, hides what is below.
    if (!relocated && hidden_beside(parent, index, *dir, search)) return {};
    auto inside = relocated ? Result<DirFd>(dir) : open_dir(dir, at);
    if (inside && sys::statx(**inside, CName(kWhOpaque))) return {};
    follow(marks);
  }
}

Result<std::optional<Overlay::Found>> Overlay::resolve(Node& parent, std::string_view name) {
  // A name goes to *at() calls as it is: one with a slash, or none at all, would lead out of the layer.
  if (!valid_name(name)) return fail(name.size() > kNameMax ? ENAMETOOLONG : EINVAL);
  if (hides(name) || is_deleted_tree(parent, name) || parent.nameless.load(std::memory_order_acquire))
    return std::nullopt;
  Found found;
  bool exists = false;
  bool has_lowers = !parent.dir->lowers.empty();
  if (parent.in_upper.load(std::memory_order_acquire)) {
    DirFd dir = TRY(dir_fd(parent, 0));
    CName at(name);
    auto st = stat_at(*upper_, *dir, at);
    if (st) {
      if (is_whiteout(*st)) return std::nullopt;
      found.marks = TRY(read_marks(*upper_, *dir, at));
      if (parent.dir->upper_xattr_whiteouts && is_whiteout(*st, found.marks)) return std::nullopt;
      exists = true;
      found.st = *st;
      found.in_upper = true;
      if (!st->is_dir()) {
        if (found.marks.metacopy) {
          if (auto status = resolve_metacopy(parent, name, found); !status) return fail(status.error());
        }
        return found;
      }
      if (found.marks.opaque) return found;
      bool may_merge = has_lowers || found.marks.redirect.has_value();
      if (!may_merge) return found;
      if (hidden_beside(parent, 0, *dir, name)) return found;
      if (auto inside = open_dir(dir, at); inside && sys::statx(**inside, CName(kWhOpaque))) return found;
    } else if (st.error() != ENOENT) {
      return fail(st.error());
    } else if (has_lowers && hidden_beside(parent, 0, *dir, name)) {
      return std::nullopt;
    }
  }
  // Marks of a deleted tree need no directory beside them.
  if (!exists && upper_ != nullptr && has_lowers && in_deleted_tree(parent, 0, name)) return std::nullopt;
  if (has_lowers || (exists && found.marks.redirect)) {
    if (auto status = resolve_lowers(parent, name, found, exists); !status) return fail(status.error());
  }
  if (!exists) return std::nullopt;
  return found;
}

Result<bool> Overlay::lower_has(Node& parent, std::string_view name) {
  if (parent.dir->lowers.empty() || is_dot_wh(name) || is_deleted_tree(parent, name)) return false;
  if (auto index = known_index(parent)) {
    const LowerEntry* entry = index->find(name);
    return entry != nullptr && !entry->hidden;
  }
  Found found;
  bool exists = false;
  if (auto status = resolve_lowers(parent, name, found, exists); !status) {
    // Better a whiteout too many than a name that comes back.
    if (status.error() == EIO) return true;
    return fail(status.error());
  }
  return exists;
}

// --- Nodes

std::uint64_t Overlay::presented_ino(const Found& found) {
  if (!found.in_upper) return numbers_.present(found.st.dev, found.st.ino);
  if (auto known = numbers_.adopted(found.st.ino)) return *known;
  if (found.marks.origin && (found.st.is_dir() || found.st.nlink == 1)) {
    for (const auto& in : layers_) {
      if (in == nullptr || in->index == 0 || in->fs_id != found.marks.origin->fs_id) continue;
      std::uint64_t ino = numbers_.present(in->device, found.marks.origin->ino);
      numbers_.adopt(found.st.ino, ino);
      return ino;
    }
  }
  return numbers_.present(found.st.dev, found.st.ino);
}

Result<NodeRef> Overlay::make_node(Node& parent, std::string_view name, Found found) {
  NodeRef node = nodes_.make();
  node->ino = presented_ino(found);
  node->type = dirent_type(found.st.mode);
  node->layer = found.layer;
  node->in_upper.store(found.in_upper, std::memory_order_relaxed);
  if (found.st.is_dir()) {
    node->dir = std::make_unique<DirState>();
    node->dir->lowers = std::move(found.lowers);
    node->dir->upper_xattr_whiteouts = found.in_upper && found.marks.xattr_whiteouts;
    node->dir->upper_impure = found.in_upper && found.marks.impure;
    return nodes_.insert(std::move(node), parent, name);
  }
  if (found.marks.metacopy && !found.data_path.empty()) {
    node->file = std::make_unique<FileState>();
    node->file->metacopy = true;
    node->file->data_layer = found.data_layer;
    node->file->data_path = std::move(found.data_path);
  }
  if (found.st.nlink <= 1) return nodes_.insert(std::move(node), parent, name);

  // One inode of a layer, one node, whatever the name it is found by.
  const InodeKey inode{
      .device = found.st.dev, .ino = found.st.ino, .layer = found.in_upper ? LayerIndex{0} : found.layer};
  NodeRef known;
  {
    MutexLock links(link_mutex_);
    if (NodeRef here = nodes_.find(parent, name)) return here;
    known = nodes_.find_inode(inode);
    if (!known) {
      if (!node->file) node->file = std::make_unique<FileState>();
      nodes_.register_inode(*node, inode);
      return nodes_.insert(std::move(node), parent, name);
    }
  }
  WriteLock lock(known->mutex);
  MutexLock links(link_mutex_);
  if (NodeRef here = nodes_.find(parent, name)) return here;
  if (known->nameless.load(std::memory_order_acquire)) {
    // It lost the names that were known, and here is another.
    nodes_.name_again(*known, parent, name);
    known->file->fd.reset();
    if (!known->in_upper.load(std::memory_order_acquire)) known->layer = found.layer;
  } else {
    nodes_.add_alias(*known, parent, name);
  }
  return known;
}

Result<NodeRef> Overlay::find_child(Node& parent, std::string_view name) {
  if (NodeRef known = nodes_.find(parent, name)) return known;
  auto found = TRY(resolve(parent, name));
  if (!found) return NodeRef();
  return make_node(parent, name, std::move(*found));
}

fuse::Timeout Overlay::attr_valid(const Node& node, fuse::NodeId asked) const {
  // What is written by passthrough through a mapping changes size and times without the kernel's FUSE side knowing. And
  // a retired node gets no word of what happens to its successor.
  bool unseen = passthrough_ && node.type == DT_REG && node.writers.load(std::memory_order_acquire) > 0;
  return unseen || node.node_id() != asked ? fuse::Timeout{} : timeout_;
}

fuse::Entry Overlay::make_entry(Node& node, const sys::Statx& st) {
  fuse::Entry entry{.node = node.node_id(),
                    .generation = 0,
                    .attr = to_attr(node, st),
                    .entry_valid = timeout_,
                    .attr_valid = attr_valid(node, node.node_id())};
  nodes_.add_lookup(node);  // last: from here on others may have it, and change it
  return entry;
}

Result<fuse::Entry> Overlay::entry_for(Node& node) {
  ReadLock lock(node.mutex);
  sys::Statx st = TRY(stat_of(node));
  return make_entry(node, st);
}

Result<fuse::Entry> Overlay::lookup(const fuse::Caller&, fuse::NodeId parent_id, std::string_view name) {
  NodeRef parent = TRY(dir_for(parent_id));
  ReadLock tree(tree_mutex_);
  // Asked for by NFS export only.
  if (name == ".") return entry_for(*parent);
  if (name == "..") return entry_for(parent->parent != nullptr ? *parent->parent : *parent);
  if (name.size() > kNameMax) return fail(ENAMETOOLONG);

  parent->dir->looked_into.store(true, std::memory_order_relaxed);
  NodeRef node;
  bool want_index = false;
  {
    ReadLock lock(parent->mutex);
    node = nodes_.find(*parent, name);
    if (!node) {
      auto found = TRY(resolve(*parent, name));
      want_index = index_pays(*parent) && !known_index(*parent);
      if (found) {
        sys::Statx st = found->st;
        bool simple = !found->marks.metacopy && (st.is_dir() || st.nlink == 1);
        node = TRY(make_node(*parent, name, std::move(*found)));
        if (simple && !want_index) {
          ReadLock guard(node->mutex);
          return make_entry(*node, st);
        }
      } else if (!want_index) {
        return negative_entry();
      }
    }
  }
  if (want_index) {
    MutexLock lock(cache_mutex(*parent));
    want_index = ++parent->dir->slow_lookups == kIndexAfter;
  }
  if (want_index) {
    ReadLock lock(parent->mutex);
    ignore(lower_index(*parent));  // an unreadable directory just stays without
  }
  if (!node) return negative_entry();
  auto entry = entry_for(*node);
  if (!entry && entry.error() == ENOENT) {
    // Somebody took it away behind our back. What they did is undefined; what we say need not be wrong for ever.
    WriteLock lock(node->mutex);
    nodes_.erase(*node, *parent, name);
    return negative_entry();
  }
  return entry;
}

void Overlay::forget(fuse::NodeId id, std::uint64_t count) {
  if (id == fuse::NodeId::kRoot) return;
  nodes_.forget(id, count);
}

}  // namespace vellum::overlay
