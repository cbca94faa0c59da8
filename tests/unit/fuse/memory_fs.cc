#include "unit/fuse/memory_fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace vellum::fuse::testing {
namespace {

constexpr Timestamp kBirth{.sec = 1'500'000'000, .nsec = 7};
constexpr Timestamp kNow{.sec = 1'700'000'000, .nsec = 123'456'789};

constexpr bool is_dir(std::uint32_t mode) { return (mode & S_IFMT) == S_IFDIR; }

}  // namespace

MemoryFs::MemoryFs() {
  Inode& root = inodes_[NodeId::kRoot];
  root.attr.ino = 1;
  root.attr.mode = S_IFDIR | 0755;
  root.attr.nlink = 2;
  root.attr.atime = root.attr.mtime = root.attr.ctime = kBirth;
  root.attr.btime = kBirth;
  root.parent = NodeId::kRoot;
  root.lookups = 1;
}

std::uint64_t MemoryFs::lookups(NodeId node) const {
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(node);
  return found == inodes_.end() ? 0 : found->second.lookups;
}

std::uint64_t MemoryFs::counted_lookups() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [node, inode] : inodes_)
    if (node != NodeId::kRoot) sum += inode.lookups;
  return sum;
}

std::size_t MemoryFs::open_handles() const {
  const std::lock_guard lock(mutex_);
  return handles_.size();
}

Caller MemoryFs::last_caller() const {
  const std::lock_guard lock(mutex_);
  return last_caller_;
}

bool MemoryFs::destroyed() const {
  const std::lock_guard lock(mutex_);
  return destroyed_;
}

Connection MemoryFs::connection() const {
  const std::lock_guard lock(mutex_);
  return connection_;
}

std::size_t MemoryFs::inodes() const {
  const std::lock_guard lock(mutex_);
  return inodes_.size();
}

int MemoryFs::syncfs_calls() const {
  const std::lock_guard lock(mutex_);
  return syncfs_calls_;
}

std::string MemoryFs::content(NodeId node) const {
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(node);
  return found == inodes_.end() ? std::string() : found->second.data;
}

void MemoryFs::overwrite(NodeId node, std::string content) {
  const std::lock_guard lock(mutex_);
  Inode& inode = inodes_.at(node);
  inode.data = std::move(content);
  inode.attr.size = inode.data.size();
}

Result<MemoryFs::Inode*> MemoryFs::find(NodeId node) {
  const auto found = inodes_.find(node);
  if (found == inodes_.end()) return fail(ESTALE);
  return &found->second;
}

Result<MemoryFs::Inode*> MemoryFs::find_directory(NodeId node) {
  Inode* inode = TRY(find(node));
  if (!is_dir(inode->attr.mode)) return fail(ENOTDIR);
  return inode;
}

Result<NodeId> MemoryFs::child(NodeId parent, std::string_view name) {
  Inode* directory = TRY(find_directory(parent));
  if (name == ".") return parent;
  if (name == "..") return directory->parent;
  const auto found = directory->children.find(name);
  if (found == directory->children.end()) return fail(ENOENT);
  return found->second.node;
}

NodeId MemoryFs::make(const Caller& caller, std::uint32_t mode) {
  const auto node = static_cast<NodeId>(++last_node_);
  Inode& inode = inodes_[node];
  inode.attr.ino = raw(node);
  inode.attr.mode = mode;
  inode.attr.nlink = is_dir(mode) ? 2 : 0;
  inode.attr.uid = caller.uid;
  inode.attr.gid = caller.gid;
  inode.attr.atime = inode.attr.mtime = inode.attr.ctime = kNow;
  inode.attr.btime = kBirth;
  return node;
}

AttrReply MemoryFs::attr_reply(const Inode& inode) const {
  AttrReply reply{.attr = inode.attr, .valid = {.sec = timeout_, .nsec = 0}};
  reply.attr.blocks = (inode.data.size() + 511) / 512;
  return reply;
}

Entry MemoryFs::entry(NodeId node, Inode& inode) {
  ++inode.lookups;
  return Entry{.node = node,
               .generation = 0,
               .attr = attr_reply(inode).attr,
               .entry_valid = {.sec = timeout_, .nsec = 0},
               .attr_valid = {.sec = timeout_, .nsec = 0}};
}

Status MemoryFs::attach(NodeId parent, std::string_view name, NodeId node) {
  Inode* directory = TRY(find_directory(parent));
  directory->children.insert_or_assign(std::string(name), Child{.node = node, .cookie = ++last_cookie_});
  Inode& inode = inodes_.at(node);
  if (is_dir(inode.attr.mode)) {
    inode.parent = parent;
    ++directory->attr.nlink;
  } else {
    ++inode.attr.nlink;
  }
  return {};
}

void MemoryFs::detach(NodeId parent, std::string_view name) {
  Inode& directory = inodes_.at(parent);
  const auto found = directory.children.find(name);
  const NodeId node = found->second.node;
  directory.children.erase(found);
  Inode& inode = inodes_.at(node);
  if (is_dir(inode.attr.mode)) {
    --directory.attr.nlink;
    inode.attr.nlink = 0;
  } else {
    --inode.attr.nlink;
  }
  reap(node);
}

void MemoryFs::reap(NodeId node) {
  const auto found = inodes_.find(node);
  if (found == inodes_.end() || node == NodeId::kRoot) return;
  const Inode& inode = found->second;
  if (inode.lookups == 0 && inode.handles == 0 && inode.attr.nlink == 0) inodes_.erase(found);
}

Status MemoryFs::init(Connection& connection) {
  if (on_init) {
    const Status status = on_init(connection);
    if (!status) return status;
  }
  const std::lock_guard lock(mutex_);
  connection_ = connection;
  return {};
}

void MemoryFs::destroy() {
  const std::lock_guard lock(mutex_);
  destroyed_ = true;
}

Result<Entry> MemoryFs::lookup(const Caller& caller, NodeId parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  last_caller_ = caller;
  const NodeId node = TRY(child(parent, name));
  return entry(node, inodes_.at(node));
}

void MemoryFs::forget(NodeId node, std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(node);
  if (found == inodes_.end()) return;
  found->second.lookups -= std::min(found->second.lookups, count);
  reap(node);
}

Result<AttrReply> MemoryFs::getattr(const Caller&, NodeId node, std::optional<HandleId>) {
  const std::lock_guard lock(mutex_);
  AttrReply reply = attr_reply(*TRY(find(node)));
  reply.attr.btime.reset();
  return reply;
}

Result<AttrReply> MemoryFs::statx(const Caller&, NodeId node, std::optional<HandleId>) {
  const std::lock_guard lock(mutex_);
  return attr_reply(*TRY(find(node)));
}

Result<AttrReply> MemoryFs::setattr(const Caller&, NodeId node, const SetAttr& change) {
  const std::lock_guard lock(mutex_);
  Inode* inode = TRY(find(node));
  Attr& attr = inode->attr;
  if (change.size) {
    if (is_dir(attr.mode)) return fail(EISDIR);
    if (*change.size > kLargestFile) return fail(EFBIG);
    inode->data.resize(*change.size);
    attr.size = *change.size;
  }
  if (change.mode) attr.mode = (attr.mode & S_IFMT) | *change.mode;
  if (change.kill_suidgid) attr.mode &= ~static_cast<std::uint32_t>(S_ISUID | S_ISGID);
  if (change.uid) attr.uid = *change.uid;
  if (change.gid) attr.gid = *change.gid;
  if (change.atime) attr.atime = *change.atime;
  if (change.mtime) attr.mtime = *change.mtime;
  if (change.ctime) attr.ctime = *change.ctime;
  if (change.atime_now) attr.atime = kNow;
  if (change.mtime_now) attr.mtime = kNow;
  return attr_reply(*inode);
}

Result<std::string> MemoryFs::readlink(const Caller&, NodeId node) {
  const std::lock_guard lock(mutex_);
  Inode* inode = TRY(find(node));
  if ((inode->attr.mode & S_IFMT) != S_IFLNK) return fail(EINVAL);
  return inode->data;
}

Result<Entry> MemoryFs::add(const Caller& caller, NodeId parent, std::string_view name, std::uint32_t mode, dev_t rdev,
                            std::string data) {
  const std::lock_guard lock(mutex_);
  last_caller_ = caller;
  ignore(TRY(find_directory(parent)));
  if (child(parent, name)) return fail(EEXIST);
  const NodeId node = make(caller, mode);
  Inode& inode = inodes_.at(node);
  inode.attr.rdev = rdev;
  inode.attr.size = data.size();
  inode.data = std::move(data);
  TRY(attach(parent, name, node));
  return entry(node, inode);
}

Result<Entry> MemoryFs::symlink(const Caller& caller, NodeId parent, std::string_view name, std::string_view target) {
  return add(caller, parent, name, S_IFLNK | 0777, 0, std::string(target));
}

Result<Entry> MemoryFs::mknod(const Caller& caller, NodeId parent, std::string_view name, std::uint32_t mode,
                              dev_t rdev, std::uint32_t umask) {
  if (is_dir(mode)) return fail(EPERM);
  return add(caller, parent, name, mode & ~umask, rdev, {});
}

Result<Entry> MemoryFs::mkdir(const Caller& caller, NodeId parent, std::string_view name, std::uint32_t mode,
                              std::uint32_t umask) {
  return add(caller, parent, name, S_IFDIR | (mode & 07777 & ~umask), 0, {});
}

Status MemoryFs::unlink(const Caller&, NodeId parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  const NodeId node = TRY(child(parent, name));
  if (is_dir(inodes_.at(node).attr.mode)) return fail(EISDIR);
  detach(parent, name);
  return {};
}

Status MemoryFs::rmdir(const Caller&, NodeId parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  const NodeId node = TRY(child(parent, name));
  const Inode& inode = inodes_.at(node);
  if (!is_dir(inode.attr.mode)) return fail(ENOTDIR);
  if (!inode.children.empty()) return fail(ENOTEMPTY);
  detach(parent, name);
  return {};
}

bool MemoryFs::is_above(NodeId above, NodeId node) {
  while (true) {
    if (node == above) return true;
    if (node == NodeId::kRoot || !inodes_.contains(node)) return false;
    node = inodes_.at(node).parent;
  }
}

Status MemoryFs::rename(const Caller&, NodeId parent, std::string_view name, NodeId new_parent,
                        std::string_view new_name, RenameFlags flags) {
  const std::lock_guard lock(mutex_);
  if (flags.whiteout) return fail(EINVAL);
  const NodeId node = TRY(child(parent, name));
  Inode* new_directory = TRY(find_directory(new_parent));
  // A directory that was removed while open takes no names.
  if (new_parent != NodeId::kRoot && new_directory->attr.nlink == 0) return fail(ENOENT);
  const bool directory = is_dir(inodes_.at(node).attr.mode);
  if (directory && is_above(node, new_parent)) return fail(EINVAL);
  const auto target = child(new_parent, new_name);
  if (target && *target == node) return {};
  if (flags.exchange) {
    const NodeId other = TRY(child(new_parent, new_name));
    const bool other_directory = is_dir(inodes_.at(other).attr.mode);
    if (other_directory && is_above(other, parent)) return fail(EINVAL);
    inodes_.at(parent).children.find(name)->second.node = other;
    new_directory->children.find(new_name)->second.node = node;
    if (directory) {
      inodes_.at(node).parent = new_parent;
      --inodes_.at(parent).attr.nlink;
      ++new_directory->attr.nlink;
    }
    if (other_directory) {
      inodes_.at(other).parent = parent;
      --new_directory->attr.nlink;
      ++inodes_.at(parent).attr.nlink;
    }
    return {};
  }
  if (target) {
    if (flags.noreplace) return fail(EEXIST);
    const Inode& over = inodes_.at(*target);
    if (directory && !is_dir(over.attr.mode)) return fail(ENOTDIR);
    if (!directory && is_dir(over.attr.mode)) return fail(EISDIR);
    if (!over.children.empty()) return fail(ENOTEMPTY);
    detach(new_parent, new_name);
  }
  ++inodes_.at(node).handles;  // keeps it while it has no name
  const std::uint32_t links = inodes_.at(node).attr.nlink;
  detach(parent, name);
  const Status attached = attach(new_parent, new_name, node);
  inodes_.at(node).attr.nlink = links;
  --inodes_.at(node).handles;
  return attached;
}

Result<Entry> MemoryFs::link(const Caller&, NodeId node, NodeId new_parent, std::string_view new_name) {
  const std::lock_guard lock(mutex_);
  Inode* inode = TRY(find(node));
  if (is_dir(inode->attr.mode)) return fail(EPERM);
  ignore(TRY(find_directory(new_parent)));
  if (child(new_parent, new_name)) return fail(EEXIST);
  TRY(attach(new_parent, new_name, node));
  return entry(node, *inode);
}

OpenReply MemoryFs::opened(NodeId node, Inode& inode) {
  const auto handle = static_cast<HandleId>(++last_handle_);
  handles_[handle] = node;
  ++inode.handles;
  return OpenReply{.handle = handle, .keep_cache = keep_cache_};
}

void MemoryFs::close(NodeId node, HandleId handle) {
  const std::lock_guard lock(mutex_);
  const auto found = handles_.find(handle);
  if (found == handles_.end() || found->second != node) return;
  handles_.erase(found);
  --inodes_.at(node).handles;
  reap(node);
}

Result<OpenReply> MemoryFs::open(const Caller& caller, NodeId node, int flags, bool kill_suidgid) {
  const std::lock_guard lock(mutex_);
  last_caller_ = caller;
  Inode* inode = TRY(find(node));
  if (is_dir(inode->attr.mode)) return fail(EISDIR);
  if ((flags & O_TRUNC) != 0) {
    inode->data.clear();
    inode->attr.size = 0;
    if (kill_suidgid) inode->attr.mode &= ~static_cast<std::uint32_t>(S_ISUID | S_ISGID);
  }
  return opened(node, *inode);
}

Result<Created> MemoryFs::create(const Caller& caller, NodeId parent, std::string_view name, int, std::uint32_t mode,
                                 std::uint32_t umask) {
  const Entry made = TRY(add(caller, parent, name, S_IFREG | (mode & 07777 & ~umask), 0, {}));
  const std::lock_guard lock(mutex_);
  return Created{.entry = made, .open = opened(made.node, inodes_.at(made.node))};
}

Result<Created> MemoryFs::tmpfile(const Caller& caller, NodeId parent, int, std::uint32_t mode, std::uint32_t umask) {
  const std::lock_guard lock(mutex_);
  ignore(TRY(find_directory(parent)));
  const NodeId node = make(caller, S_IFREG | (mode & 07777 & ~umask));
  Inode& inode = inodes_.at(node);
  const Entry made = entry(node, inode);
  return Created{.entry = made, .open = opened(node, inode)};
}

Result<std::size_t> MemoryFs::read(const Caller&, NodeId node, HandleId handle, std::uint64_t offset,
                                   std::span<std::byte> out) {
  const std::lock_guard lock(mutex_);
  if (!handles_.contains(handle)) return fail(EBADF);
  const Inode* inode = TRY(find(node));
  if (out.empty() || offset >= inode->data.size()) return std::size_t{0};
  const std::size_t count = std::min<std::size_t>(out.size(), inode->data.size() - offset);
  std::memcpy(out.data(), inode->data.data() + offset, count);
  return count;
}

Result<std::size_t> MemoryFs::write(const Caller&, NodeId node, HandleId handle, std::uint64_t offset,
                                    std::span<const std::byte> data, bool kill_suidgid) {
  const std::lock_guard lock(mutex_);
  if (!handles_.contains(handle)) return fail(EBADF);
  Inode* inode = TRY(find(node));
  if (is_dir(inode->attr.mode)) return fail(EISDIR);
  if (offset > kLargestFile || data.size() > kLargestFile - offset) return fail(EFBIG);
  if (inode->data.size() < offset + data.size()) inode->data.resize(offset + data.size());
  if (!data.empty()) std::memcpy(inode->data.data() + offset, data.data(), data.size());
  inode->attr.size = inode->data.size();
  if (kill_suidgid) inode->attr.mode &= ~static_cast<std::uint32_t>(S_ISUID | S_ISGID);
  return data.size();
}

Status MemoryFs::flush(const Caller&, NodeId, HandleId handle) {
  const std::lock_guard lock(mutex_);
  return handles_.contains(handle) ? Status() : fail(EBADF);
}

void MemoryFs::release(NodeId node, HandleId handle) { close(node, handle); }

Status MemoryFs::fsync(const Caller&, NodeId, HandleId handle, bool) {
  const std::lock_guard lock(mutex_);
  return handles_.contains(handle) ? Status() : fail(EBADF);
}

Status MemoryFs::fallocate(const Caller&, NodeId node, HandleId handle, int mode, std::uint64_t offset,
                           std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  if (!handles_.contains(handle)) return fail(EBADF);
  Inode* inode = TRY(find(node));
  if ((mode & ~FALLOC_FL_KEEP_SIZE) != 0) return fail(EOPNOTSUPP);
  if (offset > kLargestFile || length > kLargestFile - offset) return fail(EFBIG);
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && inode->data.size() < offset + length) {
    inode->data.resize(offset + length);
    inode->attr.size = inode->data.size();
  }
  return {};
}

Result<std::uint64_t> MemoryFs::lseek(const Caller&, NodeId node, HandleId, std::uint64_t offset, int whence) {
  const std::lock_guard lock(mutex_);
  const Inode* inode = TRY(find(node));
  if (offset >= inode->data.size()) return fail(ENXIO);
  if (whence == SEEK_DATA) return offset;
  if (whence == SEEK_HOLE) return inode->data.size();
  return fail(EINVAL);
}

Result<std::size_t> MemoryFs::copy_file_range(const Caller& caller, NodeId in, HandleId handle_in,
                                              std::uint64_t offset_in, NodeId out, HandleId handle_out,
                                              std::uint64_t offset_out, std::size_t length) {
  std::vector<std::byte> piece(std::min<std::size_t>(length, 1 << 20));
  const std::size_t got = TRY(read(caller, in, handle_in, offset_in, piece));
  return write(caller, out, handle_out, offset_out, std::span(piece).first(got), false);
}

Result<OpenReply> MemoryFs::opendir(const Caller& caller, NodeId node, int) {
  const std::lock_guard lock(mutex_);
  last_caller_ = caller;
  return opened(node, *TRY(find_directory(node)));
}

namespace {

struct Listed {
  std::uint64_t cookie;
  std::string name;
  NodeId node;
};

}  // namespace

Status MemoryFs::readdir(const Caller&, NodeId node, HandleId handle, std::uint64_t offset, DirSink& sink) {
  const std::lock_guard lock(mutex_);
  if (!handles_.contains(handle)) return fail(EBADF);
  Inode* directory = TRY(find_directory(node));
  if (offset < 1 && !sink.add(".", directory->attr.ino, DT_DIR, 1)) return {};
  if (offset < 2 && !sink.add("..", raw(directory->parent), DT_DIR, 2)) return {};
  std::vector<Listed> listed;
  for (const auto& [name, one] : directory->children)
    if (one.cookie > offset) listed.push_back({one.cookie, name, one.node});
  std::ranges::sort(listed, {}, &Listed::cookie);
  for (const auto& one : listed) {
    const Attr& attr = inodes_.at(one.node).attr;
    if (!sink.add(one.name, attr.ino, (attr.mode & S_IFMT) >> 12, one.cookie)) break;
  }
  return {};
}

Status MemoryFs::readdirplus(const Caller&, NodeId node, HandleId handle, std::uint64_t offset, DirPlusSink& sink) {
  const std::lock_guard lock(mutex_);
  if (!handles_.contains(handle)) return fail(EBADF);
  Inode* directory = TRY(find_directory(node));
  const auto dot = [](const Inode& inode) {
    Entry none;
    none.attr.ino = inode.attr.ino;
    none.attr.mode = inode.attr.mode;
    return none;
  };
  if (offset < 1 && !sink.add(".", dot(*directory), 1)) return {};
  if (offset < 2 && !sink.add("..", dot(inodes_.at(directory->parent)), 2)) return {};
  std::vector<Listed> listed;
  for (const auto& [name, one] : directory->children)
    if (one.cookie > offset) listed.push_back({one.cookie, name, one.node});
  std::ranges::sort(listed, {}, &Listed::cookie);
  for (const auto& one : listed) {
    Inode& inode = inodes_.at(one.node);
    if (!sink.fits(one.name.size())) break;
    if (!sink.add(one.name, entry(one.node, inode), one.cookie)) {
      --inode.lookups;
      break;
    }
  }
  return {};
}

void MemoryFs::releasedir(NodeId node, HandleId handle) { close(node, handle); }

Status MemoryFs::fsyncdir(const Caller&, NodeId, HandleId handle, bool) {
  const std::lock_guard lock(mutex_);
  return handles_.contains(handle) ? Status() : fail(EBADF);
}

Result<Statfs> MemoryFs::statfs(const Caller&, NodeId) {
  const std::lock_guard lock(mutex_);
  return Statfs{.blocks = 1000, .bfree = 500, .bavail = 400, .files = inodes_.size(), .ffree = 77};
}

Status MemoryFs::syncfs(const Caller&, NodeId) {
  const std::lock_guard lock(mutex_);
  ++syncfs_calls_;
  return {};
}

Status MemoryFs::access(const Caller& caller, NodeId node, int mask) {
  const std::lock_guard lock(mutex_);
  last_caller_ = caller;
  const Inode* inode = TRY(find(node));
  const auto wanted = static_cast<std::uint32_t>(mask) & 7U;
  if ((inode->attr.mode & wanted) != wanted && caller.uid != 0) return fail(EACCES);
  return {};
}

Status MemoryFs::setxattr(const Caller&, NodeId node, std::string_view name, std::span<const std::byte> value,
                          XattrFlags flags) {
  const std::lock_guard lock(mutex_);
  Inode* inode = TRY(find(node));
  const bool exists = inode->xattrs.find(name) != inode->xattrs.end();
  if (flags.create && exists) return fail(EEXIST);
  if (flags.replace && !exists) return fail(ENODATA);
  inode->xattrs.insert_or_assign(std::string(name),
                                 std::string(reinterpret_cast<const char*>(value.data()), value.size()));
  return {};
}

Result<std::string> MemoryFs::getxattr(const Caller&, NodeId node, std::string_view name) {
  const std::lock_guard lock(mutex_);
  Inode* inode = TRY(find(node));
  const auto found = inode->xattrs.find(name);
  if (found == inode->xattrs.end()) return fail(ENODATA);
  return found->second;
}

Result<std::string> MemoryFs::listxattr(const Caller&, NodeId node) {
  const std::lock_guard lock(mutex_);
  std::string names;
  for (const auto& [name, value] : TRY(find(node))->xattrs) names += name + '\0';
  return names;
}

Status MemoryFs::removexattr(const Caller&, NodeId node, std::string_view name) {
  const std::lock_guard lock(mutex_);
  Inode* inode = TRY(find(node));
  const auto found = inode->xattrs.find(name);
  if (found == inode->xattrs.end()) return fail(ENODATA);
  inode->xattrs.erase(found);
  return {};
}

Result<IoctlReply> MemoryFs::ioctl(const Caller&, NodeId, HandleId, const IoctlRequest& request) {
  if (request.command != kEchoCommand) return fail(ENOTTY);
  std::string out(reinterpret_cast<const char*>(request.in.data()), request.in.size());
  std::ranges::reverse(out);
  return IoctlReply{.result = 0, .out = out};
}

}  // namespace vellum::fuse::testing
