#include "fuse/decode.h"

#include <linux/fs.h>
#include <sys/xattr.h>

#include <cstring>
#include <limits>

#include "fuse/wire.h"

namespace vellum::fuse {
namespace {

constexpr std::uint64_t kOffsetMax = std::numeric_limits<std::int64_t>::max();

constexpr HandleId handle(std::uint64_t wire) { return static_cast<HandleId>(wire); }
constexpr NodeId node(std::uint64_t wire) { return static_cast<NodeId>(wire); }

enum class NameRule { kPlain, kDotsAllowed };

Result<std::string_view> check_name(std::string_view name, NameRule rule) {
  if (name.size() > abi::kNameMax) return fail(ENAMETOOLONG);
  if (name.empty() || name.find('/') != std::string_view::npos) return fail(EINVAL);
  if (rule == NameRule::kPlain && (name == "." || name == "..")) return fail(EINVAL);
  return name;
}

// Reads a request's body from front to back.
class Reader {
 public:
  Reader(std::span<const std::byte> head, std::span<const std::byte> rest) : current_(head), next_(rest) { roll(); }

  template <class T>
  Result<T> take() {
    if (current_.size() < sizeof(T)) return fail(EIO);
    T value;
    std::memcpy(&value, current_.data(), sizeof(T));
    skip(sizeof(T));
    return value;
  }

  Result<std::span<const std::byte>> take_bytes(std::size_t count) {
    if (current_.size() < count) return fail(EIO);
    const auto bytes = current_.first(count);
    skip(count);
    return bytes;
  }

  // Up to a zero byte, which is taken too.
  Result<std::string_view> take_string() {
    if (current_.empty()) return fail(EIO);
    const auto* start = reinterpret_cast<const char*>(current_.data());
    const void* zero = std::memchr(start, 0, current_.size());
    if (zero == nullptr) return fail(EIO);
    const std::string_view text(start, static_cast<std::size_t>(static_cast<const char*>(zero) - start));
    skip(text.size() + 1);
    return text;
  }

  Result<std::string_view> take_name(NameRule rule = NameRule::kPlain) { return check_name(TRY(take_string()), rule); }

  // As Linux: a name of no bytes or too many is ERANGE.
  Result<std::string_view> take_xattr_name() {
    const std::string_view name = TRY(take_string());
    if (name.empty() || name.size() > abi::kXattrNameMax) return fail(ERANGE);
    return name;
  }

  Result<std::string_view> take_target() {
    const std::string_view target = TRY(take_string());
    if (target.empty()) return fail(ENOENT);
    if (target.size() >= abi::kPathMax) return fail(ENAMETOOLONG);
    return target;
  }

  bool at_end() const { return current_.empty() && next_.empty(); }
  std::size_t left() const { return current_.size() + next_.size(); }

 private:
  void skip(std::size_t count) {
    current_ = current_.subspan(count);
    roll();
  }
  void roll() {
    if (current_.empty()) current_ = std::exchange(next_, {});
  }

  std::span<const std::byte> current_, next_;
};

std::optional<HandleId> optional_handle(std::uint32_t flags, std::uint64_t wire) {
  if ((flags & abi::kGetattrHandle) == 0) return std::nullopt;
  return handle(wire);
}

Result<std::uint64_t> check_offset(std::uint64_t offset) {
  if (offset > kOffsetMax) return fail(EINVAL);
  return offset;
}

Result<Operation> decode_setattr(Reader& reader) {
  const auto in = TRY(reader.take<abi::SetattrIn>());
  const auto has = [&in](std::uint32_t bit) { return (in.valid & bit) != 0; };
  const auto time = [](std::uint64_t sec, std::uint32_t nsec) {
    return Timestamp{.sec = static_cast<std::int64_t>(sec), .nsec = nsec};
  };
  namespace valid = abi::setattr_valid;
  SetAttr change;
  if (has(valid::kMode)) change.mode = in.mode & 07777;
  if (has(valid::kUid)) change.uid = in.uid;
  if (has(valid::kGid)) change.gid = in.gid;
  if (has(valid::kSize)) {
    if (in.size > kOffsetMax) return fail(EINVAL);
    change.size = in.size;
  }
  change.atime_now = has(valid::kAtimeNow);
  change.mtime_now = has(valid::kMtimeNow);
  if (has(valid::kAtime) && !change.atime_now) change.atime = time(in.atime, in.atime_nsec);
  if (has(valid::kMtime) && !change.mtime_now) change.mtime = time(in.mtime, in.mtime_nsec);
  if (has(valid::kCtime)) change.ctime = time(in.ctime, in.ctime_nsec);
  for (const auto& given : {change.atime, change.mtime, change.ctime})
    if (given && given->nsec >= 1'000'000'000) return fail(EINVAL);
  change.kill_suidgid = has(valid::kKillSuidgid);
  if (has(valid::kHandle)) change.handle = handle(in.handle);
  return op::Setattr{change};
}

Result<Operation> decode_rename(Reader& reader, bool with_flags) {
  std::uint64_t new_parent = 0;
  std::uint32_t flags = 0;
  if (with_flags) {
    const auto in = TRY(reader.take<abi::Rename2In>());
    new_parent = in.new_parent;
    flags = in.flags;
  } else {
    new_parent = TRY(reader.take<abi::RenameIn>()).new_parent;
  }
  const auto name = TRY(reader.take_name());
  const auto new_name = TRY(reader.take_name());
  constexpr std::uint32_t kKnown = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
  if ((flags & ~kKnown) != 0) return fail(EINVAL);
  const RenameFlags plain{.noreplace = (flags & RENAME_NOREPLACE) != 0,
                          .exchange = (flags & RENAME_EXCHANGE) != 0,
                          .whiteout = (flags & RENAME_WHITEOUT) != 0};
  if (plain.exchange && (plain.noreplace || plain.whiteout)) return fail(EINVAL);
  if (new_parent == 0) return fail(ESTALE);
  return op::Rename{name, node(new_parent), new_name, plain};
}

Result<Operation> decode_setxattr(Reader& reader, bool extended) {
  abi::SetxattrExtIn in{};
  if (extended) {
    in = TRY(reader.take<abi::SetxattrExtIn>());
  } else {
    const auto old = TRY(reader.take<abi::SetxattrIn>());
    in.size = old.size;
    in.flags = old.flags;
  }
  const auto name = TRY(reader.take_xattr_name());
  if (in.size > abi::kXattrSizeMax) return fail(E2BIG);
  const auto value = TRY(reader.take_bytes(in.size));
  constexpr std::uint32_t kKnown = XATTR_CREATE | XATTR_REPLACE;
  if ((in.flags & ~kKnown) != 0) return fail(EINVAL);
  return op::Setxattr{name, value,
                      XattrFlags{.create = (in.flags & XATTR_CREATE) != 0,
                                 .replace = (in.flags & XATTR_REPLACE) != 0,
                                 .acl_kill_sgid = (in.setxattr_flags & abi::kSetxattrAclKillSgid) != 0}};
}

Result<Operation> decode_write(Reader& reader) {
  const auto in = TRY(reader.take<abi::WriteIn>());
  const auto data = TRY(reader.take_bytes(in.size));
  if (in.offset > kOffsetMax || in.size > kOffsetMax - in.offset) return fail(EINVAL);
  return op::Write{handle(in.handle), in.offset, data, (in.write_flags & abi::kWriteKillSuidgid) != 0,
                   (in.write_flags & abi::kWriteCache) != 0};
}

Result<Operation> decode_batch_forget(Reader& reader) {
  const auto in = TRY(reader.take<abi::BatchForgetIn>());
  if (in.count > reader.left() / sizeof(abi::ForgetOne)) return fail(EIO);
  return op::BatchForget{TRY(reader.take_bytes(in.count * sizeof(abi::ForgetOne)))};
}

Result<Operation> decode_ioctl(Reader& reader) {
  const auto in = TRY(reader.take<abi::IoctlIn>());
  IoctlRequest request{.command = in.command,
                       .argument = in.argument,
                       .directory = (in.flags & abi::kIoctlDir) != 0,
                       .compat32 = (in.flags & abi::kIoctlCompat) != 0,
                       .in = TRY(reader.take_bytes(in.in_size)),
                       .out_size = in.out_size};
  return op::Ioctl{handle(in.handle), request};
}

Result<Operation> decode_copy_file_range(Reader& reader, bool wide) {
  const auto in = TRY(reader.take<abi::CopyFileRangeIn>());
  if (in.flags != 0 || in.offset_in > kOffsetMax || in.offset_out > kOffsetMax) return fail(EINVAL);
  if (in.node_out == 0) return fail(ESTALE);
  return op::CopyFileRange{
      handle(in.handle_in), in.offset_in, node(in.node_out), handle(in.handle_out), in.offset_out, in.length, wide};
}

Result<Operation> decode_init(Reader& reader) {
  abi::InitIn in{};
  const auto old = TRY(reader.take_bytes(abi::kInitInBefore36));
  std::memcpy(&in, old.data(), old.size());
  // Kernels grow this struct; what we do not know has no meaning for us.
  const auto grown = TRY(reader.take_bytes(reader.left()));
  const std::size_t known = std::min(grown.size(), sizeof in - old.size());
  if (known > 0) std::memcpy(reinterpret_cast<std::byte*>(&in) + old.size(), grown.data(), known);
  return op::Init{in};
}

Result<Operation> decode_body(const Header& header, Reader& reader, const DecodeOptions& options) {
  using abi::Opcode;
  switch (header.op()) {
    case Opcode::kLookup:
      return op::Lookup{TRY(reader.take_name(options.dot_names ? NameRule::kDotsAllowed : NameRule::kPlain))};
    case Opcode::kForget: return op::Forget{TRY(reader.take<abi::ForgetIn>()).lookups};
    case Opcode::kBatchForget: return decode_batch_forget(reader);
    case Opcode::kGetattr: {
      const auto in = TRY(reader.take<abi::GetattrIn>());
      return op::Getattr{optional_handle(in.flags, in.handle)};
    }
    case Opcode::kStatx: {
      const auto in = TRY(reader.take<abi::StatxIn>());
      return op::Statx{optional_handle(in.getattr_flags, in.handle)};
    }
    case Opcode::kSetattr: return decode_setattr(reader);
    case Opcode::kReadlink: return op::Readlink{};
    case Opcode::kSymlink: {
      const auto name = TRY(reader.take_name());
      return op::Symlink{name, TRY(reader.take_target())};
    }
    case Opcode::kMknod: {
      const auto in = TRY(reader.take<abi::MknodIn>());
      return op::Mknod{TRY(reader.take_name()), in.mode, plain_device(in.rdev), in.umask};
    }
    case Opcode::kMkdir: {
      const auto in = TRY(reader.take<abi::MkdirIn>());
      return op::Mkdir{TRY(reader.take_name()), in.mode, in.umask};
    }
    case Opcode::kUnlink: return op::Unlink{TRY(reader.take_name())};
    case Opcode::kRmdir: return op::Rmdir{TRY(reader.take_name())};
    case Opcode::kRename: return decode_rename(reader, false);
    case Opcode::kRename2: return decode_rename(reader, true);
    case Opcode::kLink: {
      const auto in = TRY(reader.take<abi::LinkIn>());
      const auto name = TRY(reader.take_name());
      if (in.node == 0) return fail(ESTALE);
      return op::Link{node(in.node), name};
    }
    case Opcode::kOpen: {
      const auto in = TRY(reader.take<abi::OpenIn>());
      return op::Open{static_cast<int>(in.flags), (in.open_flags & abi::kOpenKillSuidgid) != 0};
    }
    case Opcode::kCreate: {
      const auto in = TRY(reader.take<abi::CreateIn>());
      return op::Create{TRY(reader.take_name()), static_cast<int>(in.flags), in.mode, in.umask};
    }
    case Opcode::kTmpfile: {
      const auto in = TRY(reader.take<abi::CreateIn>());
      // The kernel sends the name of an unborn dentry ("/"): it means nothing.
      if (reader.left() > 0) ignore(TRY(reader.take_string()));
      return op::Tmpfile{static_cast<int>(in.flags), in.mode, in.umask};
    }
    case Opcode::kRead: {
      const auto in = TRY(reader.take<abi::ReadIn>());
      return op::Read{handle(in.handle), TRY(check_offset(in.offset)), in.size};
    }
    case Opcode::kWrite: return decode_write(reader);
    case Opcode::kStatfs: return op::Statfs{};
    case Opcode::kRelease: return op::Release{handle(TRY(reader.take<abi::ReleaseIn>()).handle)};
    case Opcode::kReleasedir: return op::Releasedir{handle(TRY(reader.take<abi::ReleaseIn>()).handle)};
    case Opcode::kFsync: {
      const auto in = TRY(reader.take<abi::FsyncIn>());
      return op::Fsync{handle(in.handle), (in.flags & abi::kFsyncDataOnly) != 0};
    }
    case Opcode::kFsyncdir: {
      const auto in = TRY(reader.take<abi::FsyncIn>());
      return op::Fsyncdir{handle(in.handle), (in.flags & abi::kFsyncDataOnly) != 0};
    }
    case Opcode::kSetxattr: return decode_setxattr(reader, options.setxattr_ext);
    case Opcode::kGetxattr: {
      const auto in = TRY(reader.take<abi::GetxattrIn>());
      return op::Getxattr{TRY(reader.take_xattr_name()), in.size};
    }
    case Opcode::kListxattr: return op::Listxattr{TRY(reader.take<abi::GetxattrIn>()).size};
    case Opcode::kRemovexattr: return op::Removexattr{TRY(reader.take_xattr_name())};
    case Opcode::kFlush: return op::Flush{handle(TRY(reader.take<abi::FlushIn>()).handle)};
    case Opcode::kInit: return decode_init(reader);
    case Opcode::kOpendir: return op::Opendir{static_cast<int>(TRY(reader.take<abi::OpenIn>()).flags)};
    case Opcode::kReaddir: {
      const auto in = TRY(reader.take<abi::ReadIn>());
      return op::Readdir{handle(in.handle), in.offset, in.size};
    }
    case Opcode::kReaddirplus: {
      const auto in = TRY(reader.take<abi::ReadIn>());
      return op::Readdirplus{handle(in.handle), in.offset, in.size};
    }
    case Opcode::kAccess: return op::Access{TRY(reader.take<abi::AccessIn>()).mask};
    case Opcode::kInterrupt: return op::Interrupt{TRY(reader.take<abi::InterruptIn>()).unique};
    case Opcode::kIoctl: return decode_ioctl(reader);
    case Opcode::kFallocate: {
      const auto in = TRY(reader.take<abi::FallocateIn>());
      if (in.offset > kOffsetMax || in.length > kOffsetMax) return fail(EINVAL);
      if (in.length > kOffsetMax - in.offset) return fail(EFBIG);
      return op::Fallocate{handle(in.handle), in.offset, in.length, static_cast<int>(in.mode)};
    }
    case Opcode::kLseek: {
      const auto in = TRY(reader.take<abi::LseekIn>());
      if (in.offset > kOffsetMax) return fail(ENXIO);  // as for any offset that lies behind all data and holes
      return op::Lseek{handle(in.handle), in.offset, static_cast<int>(in.whence)};
    }
    case Opcode::kCopyFileRange: return decode_copy_file_range(reader, false);
    case Opcode::kCopyFileRange64: return decode_copy_file_range(reader, true);
    case Opcode::kSyncfs: ignore(TRY(reader.take<abi::SyncfsIn>())); return op::Syncfs{};
    case Opcode::kDestroy: return op::Destroy{};
    case Opcode::kGetlk:
    case Opcode::kSetlk:
    case Opcode::kSetlkw:
    case Opcode::kBmap:
    case Opcode::kPoll:
    case Opcode::kNotifyReply:
    case Opcode::kSetupMapping:
    case Opcode::kRemoveMapping: return fail(ENOSYS);
  }
  return fail(ENOSYS);
}

// Which requests are about no node, so that node 0 is no mistake in them.
bool needs_node(abi::Opcode op) {
  using abi::Opcode;
  return op != Opcode::kInit && op != Opcode::kDestroy && op != Opcode::kInterrupt && op != Opcode::kBatchForget &&
         op != Opcode::kStatfs && op != Opcode::kForget && static_cast<std::uint32_t>(op) < abi::kOpcodeLimit;
}

}  // namespace

Result<Header> decode_header(const RequestBytes& bytes) {
  if (bytes.head.size() < sizeof(abi::InHeader)) return fail(EIO);
  abi::InHeader in;
  std::memcpy(&in, bytes.head.data(), sizeof in);
  return Header{.unique = in.unique,
                .opcode = in.opcode,
                .node = node(in.node),
                .caller = {.uid = in.uid, .gid = in.gid, .pid = in.pid},
                .extension_bytes = std::size_t{in.extension_words} * 8};
}

Result<Operation> decode_operation(const Header& header, const RequestBytes& bytes, const DecodeOptions& options) {
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.head.data(), sizeof length);
  if (length != bytes.head.size() + bytes.rest.size()) return fail(EIO);
  auto head = bytes.head.subspan(sizeof(abi::InHeader));
  auto rest = bytes.rest;
  // Security contexts and supplementary groups come last and are not asked for: pass them over.
  auto& tail = rest.empty() ? head : rest;
  if (header.extension_bytes > tail.size()) return fail(EIO);
  tail = tail.first(tail.size() - header.extension_bytes);

  Reader reader(head, rest);
  Result<Operation> operation = decode_body(header, reader, options);
  if (!operation) return operation;
  if (!reader.at_end()) return fail(EIO);
  if (header.node == NodeId::kNone && needs_node(header.op())) return fail(ESTALE);
  return operation;
}

const char* opcode_name(std::uint32_t opcode) {
  static constexpr const char* kNames[abi::kOpcodeLimit] = {
      nullptr,        "LOOKUP",        "FORGET",      "GETATTR",  "SETATTR",  "READLINK",
      "SYMLINK",      nullptr,         "MKNOD",       "MKDIR",    "UNLINK",   "RMDIR",
      "RENAME",       "LINK",          "OPEN",        "READ",     "WRITE",    "STATFS",
      "RELEASE",      nullptr,         "FSYNC",       "SETXATTR", "GETXATTR", "LISTXATTR",
      "REMOVEXATTR",  "FLUSH",         "INIT",        "OPENDIR",  "READDIR",  "RELEASEDIR",
      "FSYNCDIR",     "GETLK",         "SETLK",       "SETLKW",   "ACCESS",   "CREATE",
      "INTERRUPT",    "BMAP",          "DESTROY",     "IOCTL",    "POLL",     "NOTIFY_REPLY",
      "BATCH_FORGET", "FALLOCATE",     "READDIRPLUS", "RENAME2",  "LSEEK",    "COPY_FILE_RANGE",
      "SETUPMAPPING", "REMOVEMAPPING", "SYNCFS",      "TMPFILE",  "STATX",    "COPY_FILE_RANGE_64"};
  if (opcode >= abi::kOpcodeLimit || kNames[opcode] == nullptr) return "OPCODE";
  return kNames[opcode];
}

}  // namespace vellum::fuse
