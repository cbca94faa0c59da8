#include "fuse/wire.h"

#include <linux/stat.h>
#include <sys/sysmacros.h>

#include "base/log.h"

namespace vellum::fuse {
namespace {

std::uint64_t wire_seconds(std::int64_t sec) { return static_cast<std::uint64_t>(sec); }
std::int64_t plain_seconds(std::uint64_t sec) { return static_cast<std::int64_t>(sec); }

bool valid_name(std::string_view name) {
  return !name.empty() && name.size() <= abi::kNameMax && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

std::byte* put(std::byte* to, const void* from, std::size_t size) {
  std::memcpy(to, from, size);
  return to + size;
}

std::size_t put_dirent(std::byte* to, std::string_view name, std::uint64_t ino, std::uint32_t type,
                       std::uint64_t next) {
  const abi::Dirent dirent{
      .ino = ino, .next = next, .name_length = static_cast<std::uint32_t>(name.size()), .type = type};
  const std::size_t size = abi::padded(sizeof dirent + name.size());
  std::byte* end = put(put(to, &dirent, sizeof dirent), name.data(), name.size());
  std::memset(end, 0, static_cast<std::size_t>(to + size - end));
  return size;
}

}  // namespace

std::uint32_t wire_device(dev_t device) {
  const unsigned maj = major(device), min = minor(device);
  return (min & 0xffU) | (maj << 8) | ((min & ~0xffU) << 12);
}

dev_t plain_device(std::uint32_t wire) {
  return makedev((wire >> 8) & 0xfffU, (wire & 0xffU) | ((wire >> 12) & 0xfff00U));
}

abi::Attr wire_attr(const Attr& attr) {
  return abi::Attr{.ino = attr.ino,
                   .size = attr.size,
                   .blocks = attr.blocks,
                   .atime = wire_seconds(attr.atime.sec),
                   .mtime = wire_seconds(attr.mtime.sec),
                   .ctime = wire_seconds(attr.ctime.sec),
                   .atime_nsec = attr.atime.nsec,
                   .mtime_nsec = attr.mtime.nsec,
                   .ctime_nsec = attr.ctime.nsec,
                   .mode = attr.mode,
                   .nlink = attr.nlink,
                   .uid = attr.uid,
                   .gid = attr.gid,
                   .rdev = wire_device(attr.rdev),
                   .blksize = attr.blksize,
                   .flags = 0};
}

Attr plain_attr(const abi::Attr& wire) {
  Attr attr;
  attr.ino = wire.ino;
  attr.size = wire.size;
  attr.blocks = wire.blocks;
  attr.atime = {plain_seconds(wire.atime), wire.atime_nsec};
  attr.mtime = {plain_seconds(wire.mtime), wire.mtime_nsec};
  attr.ctime = {plain_seconds(wire.ctime), wire.ctime_nsec};
  attr.mode = wire.mode;
  attr.nlink = wire.nlink;
  attr.uid = wire.uid;
  attr.gid = wire.gid;
  attr.rdev = plain_device(wire.rdev);
  attr.blksize = wire.blksize;
  return attr;
}

abi::EntryOut wire_entry(const Entry& entry) {
  return abi::EntryOut{.node = raw(entry.node),
                       .generation = entry.generation,
                       .entry_valid = entry.entry_valid.sec,
                       .attr_valid = entry.attr_valid.sec,
                       .entry_valid_nsec = entry.entry_valid.nsec,
                       .attr_valid_nsec = entry.attr_valid.nsec,
                       .attr = wire_attr(entry.attr)};
}

Entry plain_entry(const abi::EntryOut& wire) {
  return Entry{.node = static_cast<NodeId>(wire.node),
               .generation = wire.generation,
               .attr = plain_attr(wire.attr),
               .entry_valid = {wire.entry_valid, wire.entry_valid_nsec},
               .attr_valid = {wire.attr_valid, wire.attr_valid_nsec}};
}

abi::AttrOut wire_attr_reply(const AttrReply& reply) {
  return abi::AttrOut{
      .attr_valid = reply.valid.sec, .attr_valid_nsec = reply.valid.nsec, .padding = 0, .attr = wire_attr(reply.attr)};
}

AttrReply plain_attr_reply(const abi::AttrOut& wire) {
  return AttrReply{.attr = plain_attr(wire.attr), .valid = {wire.attr_valid, wire.attr_valid_nsec}};
}

abi::StatxOut wire_statx_reply(const AttrReply& reply) {
  const Attr& attr = reply.attr;
  const auto time = [](const Timestamp& t) { return abi::StatxTime{.sec = t.sec, .nsec = t.nsec, .reserved = 0}; };
  abi::StatxOut out{};
  out.attr_valid = reply.valid.sec;
  out.attr_valid_nsec = reply.valid.nsec;
  out.mask = STATX_BASIC_STATS | (attr.btime ? STATX_BTIME : 0U);
  out.blksize = attr.blksize;
  out.nlink = attr.nlink;
  out.uid = attr.uid;
  out.gid = attr.gid;
  out.mode = static_cast<std::uint16_t>(attr.mode);
  out.ino = attr.ino;
  out.size = attr.size;
  out.blocks = attr.blocks;
  out.atime = time(attr.atime);
  out.mtime = time(attr.mtime);
  out.ctime = time(attr.ctime);
  if (attr.btime) out.btime = time(*attr.btime);
  out.rdev_major = major(attr.rdev);
  out.rdev_minor = minor(attr.rdev);
  return out;
}

AttrReply plain_statx_reply(const abi::StatxOut& wire) {
  const auto time = [](const abi::StatxTime& t) { return Timestamp{.sec = t.sec, .nsec = t.nsec}; };
  AttrReply reply{.attr = {}, .valid = {wire.attr_valid, wire.attr_valid_nsec}};
  Attr& attr = reply.attr;
  attr.ino = wire.ino;
  attr.size = wire.size;
  attr.blocks = wire.blocks;
  attr.atime = time(wire.atime);
  attr.mtime = time(wire.mtime);
  attr.ctime = time(wire.ctime);
  if ((wire.mask & STATX_BTIME) != 0) attr.btime = time(wire.btime);
  attr.mode = wire.mode;
  attr.nlink = wire.nlink;
  attr.uid = wire.uid;
  attr.gid = wire.gid;
  attr.rdev = makedev(wire.rdev_major, wire.rdev_minor);
  attr.blksize = wire.blksize;
  return reply;
}

abi::OpenOut wire_open(const OpenReply& reply, std::uint32_t minor, bool passthrough) {
  std::uint32_t flags = 0;
  const auto set = [&flags](bool wanted, std::uint32_t bit) { flags |= wanted ? bit : 0U; };
  set(reply.direct_io, abi::open_reply::kDirectIo);
  set(reply.keep_cache, abi::open_reply::kKeepCache);
  set(reply.nonseekable, abi::open_reply::kNonseekable);
  set(reply.cache_dir, abi::open_reply::kCacheDir);
  set(reply.noflush && minor >= 35, abi::open_reply::kNoflush);
  set(reply.parallel_direct_writes && minor >= 38, abi::open_reply::kParallelDirectWrites);
  const bool backed = passthrough && reply.backing_id > 0;
  set(backed, abi::open_reply::kPassthrough);
  return abi::OpenOut{.handle = raw(reply.handle), .flags = flags, .backing_id = backed ? reply.backing_id : 0};
}

OpenReply plain_open(const abi::OpenOut& wire) {
  const auto has = [&wire](std::uint32_t bit) { return (wire.flags & bit) != 0; };
  return OpenReply{.handle = static_cast<HandleId>(wire.handle),
                   .direct_io = has(abi::open_reply::kDirectIo),
                   .keep_cache = has(abi::open_reply::kKeepCache),
                   .cache_dir = has(abi::open_reply::kCacheDir),
                   .nonseekable = has(abi::open_reply::kNonseekable),
                   .noflush = has(abi::open_reply::kNoflush),
                   .parallel_direct_writes = has(abi::open_reply::kParallelDirectWrites),
                   .backing_id = has(abi::open_reply::kPassthrough) ? wire.backing_id : 0};
}

abi::StatfsOut wire_statfs(const Statfs& statfs) {
  abi::StatfsOut out{};
  out.blocks = statfs.blocks;
  out.bfree = statfs.bfree;
  out.bavail = statfs.bavail;
  out.files = statfs.files;
  out.ffree = statfs.ffree;
  out.bsize = statfs.bsize;
  out.namelen = statfs.namelen;
  out.frsize = statfs.frsize;
  return out;
}

Statfs plain_statfs(const abi::StatfsOut& wire) {
  return Statfs{.blocks = wire.blocks,
                .bfree = wire.bfree,
                .bavail = wire.bavail,
                .files = wire.files,
                .ffree = wire.ffree,
                .bsize = wire.bsize,
                .namelen = wire.namelen,
                .frsize = wire.frsize};
}

bool DirBuffer::add(std::string_view name, std::uint64_t ino, std::uint32_t type, std::uint64_t next) {
  if (!valid_name(name)) {
    log::warning("readdir: dropped an entry whose name has {} bytes or a forbidden one", name.size());
    return true;
  }
  if (abi::padded(sizeof(abi::Dirent) + name.size()) > memory_.size() - used_) return false;
  used_ += put_dirent(memory_.data() + used_, name, ino, type, next);
  return true;
}

bool DirPlusBuffer::fits(std::size_t name_length) const {
  return sizeof(abi::EntryOut) + abi::padded(sizeof(abi::Dirent) + name_length) <= memory_.size() - used_;
}

bool DirPlusBuffer::add(std::string_view name, const Entry& entry, std::uint64_t next) {
  // A bad name is refused, not dropped: its entry may hold a lookup that only the file system can give back.
  if (!valid_name(name) || !fits(name.size())) return false;
  const abi::EntryOut out = wire_entry(entry);
  put(memory_.data() + used_, &out, sizeof out);
  used_ += sizeof out;
  used_ += put_dirent(memory_.data() + used_, name, entry.attr.ino, (entry.attr.mode & S_IFMT) >> 12, next);
  if (entry.node != NodeId::kNone) counted_.push_back(entry.node);
  return true;
}

bool next_dir_record(std::span<const std::byte>& bytes, bool plus, DirRecord& record) {
  const std::size_t before = plus ? sizeof(abi::EntryOut) : 0;
  if (bytes.size() < before + sizeof(abi::Dirent)) return false;
  if (plus) {
    abi::EntryOut entry;
    std::memcpy(&entry, bytes.data(), sizeof entry);
    record.entry = plain_entry(entry);
  }
  abi::Dirent dirent;
  std::memcpy(&dirent, bytes.data() + before, sizeof dirent);
  const std::size_t size = before + abi::padded(sizeof dirent + dirent.name_length);
  if (dirent.name_length > abi::kNameMax || size > bytes.size()) return false;
  record.ino = dirent.ino;
  record.next = dirent.next;
  record.type = dirent.type;
  record.name = {reinterpret_cast<const char*>(bytes.data() + before + sizeof dirent), dirent.name_length};
  bytes = bytes.subspan(size);
  return true;
}

}  // namespace vellum::fuse
