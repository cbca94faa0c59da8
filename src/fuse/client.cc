#include "fuse/client.h"

#include <linux/fs.h>
#include <sys/xattr.h>

#include <array>
#include <cstring>

#include "fuse/wire.h"
#include "sys/packet_socket.h"
#include "sys/thread.h"

namespace vellum::fuse {

using abi::Opcode;

struct Client::Waiter {
  bool done = false;
  Reply reply;
};

namespace {

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

constexpr std::byte kZero{0};

std::span<const std::byte> text(std::string_view name) { return std::as_bytes(std::span(name)); }
std::span<const std::byte> zero() { return {&kZero, 1}; }

std::string string_of(const std::vector<std::byte>& body) {
  return {reinterpret_cast<const char*>(body.data()), body.size()};
}

template <class T>
Result<T> read_struct(const std::vector<std::byte>& body, std::size_t offset = 0) {
  if (body.size() < offset + sizeof(T)) return fail(EIO);
  T value;
  std::memcpy(&value, body.data() + offset, sizeof value);
  return value;
}

// The flags that a kernel of this version knows.
std::uint64_t known_flags(std::uint32_t minor) {
  namespace flag = abi::init_flag;
  std::uint64_t known = ~std::uint64_t{0};
  const auto since = [&](std::uint32_t version, std::uint64_t bits) {
    if (minor < version) known &= ~bits;
  };
  since(32, flag::kSubmounts);
  since(33, flag::kHandleKillprivV2 | flag::kSetxattrExt);
  since(36, flag::kInitExt | flag::kSecurityCtx | flag::kHasInodeDax | 0xffffffff00000000ULL);
  since(38, flag::kCreateSuppGroup | flag::kHasExpireOnly);
  since(39, flag::kDirectIoAllowMmap);
  since(40, flag::kPassthrough | flag::kNoExportSupport | flag::kHasResend);
  since(41, flag::kAllowIdmap);
  since(42, flag::kOverIoUring);
  since(43, flag::kRequestTimeout);
  return known;
}

std::uint32_t handle_flag(const std::optional<HandleId>& handle) { return handle ? abi::kGetattrHandle : 0; }
std::uint64_t handle_value(const std::optional<HandleId>& handle) { return handle ? raw(*handle) : 0; }

Result<Created> created_of(const Result<Client::Reply>& reply) {
  if (!reply) return fail(reply.error());
  if (reply->error != 0) return fail(reply->error);
  const auto entry = TRY(read_struct<abi::EntryOut>(reply->body));
  const auto open = TRY(read_struct<abi::OpenOut>(reply->body, sizeof entry));
  return Created{.entry = plain_entry(entry), .open = plain_open(open)};
}

// ENOSYS from OPEN and OPENDIR: as the kernel, go on without a handle.
Result<OpenReply> open_or_go_without(const Result<abi::OpenOut>& answer, bool directory) {
  if (answer) return plain_open(*answer);
  if (answer.error() != ENOSYS) return fail(answer.error());
  OpenReply without;
  without.keep_cache = true;
  without.cache_dir = directory;
  return without;
}

}  // namespace

Client::Client(sys::UniqueFd socket) : socket_(std::move(socket)), receiver_([this] { receive_replies(); }) {}

Client::~Client() {
  disconnect();
  receiver_.join();
}

void Client::disconnect() { sys::shut_down(socket_); }

Result<abi::InitOut> Client::initialize(const Hello& hello) {
  const std::uint64_t flags = hello.flags & known_flags(hello.minor);
  const abi::InitIn in{.major = hello.major,
                       .minor = hello.minor,
                       .max_readahead = hello.max_readahead,
                       .flags = static_cast<std::uint32_t>(flags),
                       .flags2 = static_cast<std::uint32_t>(flags >> 32),
                       .unused = {}};
  const auto whole = bytes_of(in);
  const auto sent = hello.minor < 36 ? whole.first(abi::kInitInBefore36) : whole;
  const Reply reply = TRY(call(static_cast<std::uint32_t>(Opcode::kInit), NodeId::kNone, {}, {sent}));
  if (reply.error != 0) return fail(reply.error);
  const auto out = TRY(read_struct<abi::InitOut>(reply.body));
  minor_ = std::min(hello.minor, out.minor);
  setxattr_ext_ = (out.flags & abi::init_flag::kSetxattrExt) != 0;
  return out;
}

std::uint64_t Client::next_unique() {
  const std::lock_guard lock(mutex_);
  return last_unique_ += 2;  // odd ones are interrupts
}

Status Client::send(std::uint64_t unique, std::uint32_t opcode, NodeId node, const Caller& caller,
                    std::initializer_list<std::span<const std::byte>> pieces) {
  constexpr std::size_t kMostPieces = 6;
  abi::InHeader header{.length = sizeof header,
                       .opcode = opcode,
                       .unique = unique,
                       .node = raw(node),
                       .uid = caller.uid,
                       .gid = caller.gid,
                       .pid = caller.pid,
                       .extension_words = 0,
                       .padding = 0};
  std::array<iovec, 1 + kMostPieces> parts;
  if (pieces.size() > kMostPieces) return fail(E2BIG);
  std::size_t count = 0;
  parts[count++] = {&header, sizeof header};
  for (const auto piece : pieces) {
    parts[count++] = {const_cast<std::byte*>(piece.data()), piece.size()};
    header.length += static_cast<std::uint32_t>(piece.size());
  }
  const Status sent = sys::send_message(socket_, std::span(parts.data(), count));
  if (!sent && (sent.error() == EPIPE || sent.error() == ECONNRESET)) return fail(ENOTCONN);
  return sent;
}

Result<Client::Reply> Client::await(Waiter& waiter, std::uint64_t unique) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiter.done || gone_; });
  waiters_.erase(unique);
  if (!waiter.done) return fail(ENOTCONN);
  return std::move(waiter.reply);
}

Result<Client::Reply> Client::call(std::uint32_t opcode, NodeId node, const Caller& caller,
                                   std::initializer_list<std::span<const std::byte>> pieces) {
  const std::uint64_t unique = next_unique();
  Waiter waiter;
  {
    const std::lock_guard lock(mutex_);
    waiters_[unique] = &waiter;
  }
  if (const Status sent = send(unique, opcode, node, caller, pieces); !sent) {
    const std::lock_guard lock(mutex_);
    waiters_.erase(unique);
    return fail(sent.error());
  }
  return await(waiter, unique);
}

Status Client::post(std::uint32_t opcode, NodeId node, const Caller& caller,
                    std::initializer_list<std::span<const std::byte>> pieces) {
  return send(next_unique(), opcode, node, caller, pieces);
}

Status Client::post_raw(std::span<const std::byte> bytes) {
  const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  return sys::send_message(socket_, std::span(&part, 1));
}

Result<Client::Reply> Client::call_raw(std::span<const std::byte> bytes, std::uint64_t unique) {
  Waiter waiter;
  {
    const std::lock_guard lock(mutex_);
    waiters_[unique] = &waiter;
  }
  if (const Status sent = post_raw(bytes); !sent) {
    const std::lock_guard lock(mutex_);
    waiters_.erase(unique);
    return fail(sent.error());
  }
  return await(waiter, unique);
}

void Client::receive_replies() {
  sys::name_this_thread("fuse-client");
  std::vector<std::byte> buffer(sys::message_limit(socket_) + 65536);
  while (true) {
    const auto got = sys::receive_message(socket_, buffer);
    if (!got && got.error() == EINTR) continue;
    if (!got || *got == 0) break;
    if (*got < sizeof(abi::OutHeader)) continue;
    abi::OutHeader header;
    std::memcpy(&header, buffer.data(), sizeof header);
    std::vector<std::byte> body(buffer.begin() + sizeof header, buffer.begin() + static_cast<std::ptrdiff_t>(*got));
    const std::lock_guard lock(mutex_);
    if (header.unique == 0) {
      notifications_.push_back({static_cast<abi::NotifyCode>(header.error), std::move(body)});
    } else if (const auto found = waiters_.find(header.unique); found != waiters_.end() && !found->second->done) {
      const bool sensible =
          header.length == *got && header.error <= 0 && header.error > -512 && (header.error == 0 || body.empty());
      found->second->reply = {sensible ? -header.error : EIO, std::move(body)};
      found->second->done = true;
    }
    changed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  gone_ = true;
  changed_.notify_all();
}

std::optional<Client::Notification> Client::next_notification(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, timeout, [&] { return !notifications_.empty() || gone_; }) || notifications_.empty())
    return std::nullopt;
  Notification first = std::move(notifications_.front());
  notifications_.pop_front();
  return first;
}

Status Client::status(Opcode op, NodeId node, const Caller& caller,
                      std::initializer_list<std::span<const std::byte>> pieces) {
  const Reply reply = TRY(call(static_cast<std::uint32_t>(op), node, caller, pieces));
  if (reply.error != 0) return fail(reply.error);
  return {};
}

template <class T>
Result<T> Client::value(Opcode op, NodeId node, const Caller& caller,
                        std::initializer_list<std::span<const std::byte>> pieces) {
  const Reply reply = TRY(call(static_cast<std::uint32_t>(op), node, caller, pieces));
  if (reply.error != 0) return fail(reply.error);
  if (reply.body.size() != sizeof(T)) return fail(EIO);
  return read_struct<T>(reply.body);
}

void Client::destroy() { ignore(status(Opcode::kDestroy, NodeId::kNone, {}, {})); }

Status Client::interrupt(std::uint64_t unique) {
  const abi::InterruptIn in{.unique = unique};
  return send(unique | abi::kUniqueInterrupt, static_cast<std::uint32_t>(Opcode::kInterrupt), NodeId::kNone, {},
              {bytes_of(in)});
}

Result<Entry> Client::lookup(const Caller& caller, NodeId parent, std::string_view name) {
  return plain_entry(TRY(value<abi::EntryOut>(Opcode::kLookup, parent, caller, {text(name), zero()})));
}

void Client::forget(NodeId node, std::uint64_t count) {
  const abi::ForgetIn in{.lookups = count};
  ignore(post(static_cast<std::uint32_t>(Opcode::kForget), node, {}, {bytes_of(in)}));
}

Status Client::forget_batch(std::span<const abi::ForgetOne> items) {
  const abi::BatchForgetIn in{.count = static_cast<std::uint32_t>(items.size()), .padding = 0};
  return post(static_cast<std::uint32_t>(Opcode::kBatchForget), NodeId::kNone, {},
              {bytes_of(in), std::as_bytes(items)});
}

Result<AttrReply> Client::getattr(const Caller& caller, NodeId node, std::optional<HandleId> handle) {
  const abi::GetattrIn in{.flags = handle_flag(handle), .padding = 0, .handle = handle_value(handle)};
  return plain_attr_reply(TRY(value<abi::AttrOut>(Opcode::kGetattr, node, caller, {bytes_of(in)})));
}

Result<AttrReply> Client::statx(const Caller& caller, NodeId node, std::optional<HandleId> handle) {
  constexpr std::uint32_t kBasicAndBirth = 0xfff;
  const abi::StatxIn in{.getattr_flags = handle_flag(handle),
                        .reserved = 0,
                        .handle = handle_value(handle),
                        .flags = 0,
                        .mask = kBasicAndBirth};
  return plain_statx_reply(TRY(value<abi::StatxOut>(Opcode::kStatx, node, caller, {bytes_of(in)})));
}

Result<AttrReply> Client::setattr(const Caller& caller, NodeId node, const SetAttr& change) {
  namespace valid = abi::setattr_valid;
  abi::SetattrIn in{};
  const auto time = [&in](const std::optional<Timestamp>& given, std::uint32_t bit, std::uint64_t& sec,
                          std::uint32_t& nsec) {
    if (!given) return;
    in.valid |= bit;
    sec = static_cast<std::uint64_t>(given->sec);
    nsec = given->nsec;
  };
  const auto number = [&in](const auto& given, std::uint32_t bit, auto& to) {
    if (!given) return;
    in.valid |= bit;
    to = *given;
  };
  number(change.mode, valid::kMode, in.mode);
  number(change.uid, valid::kUid, in.uid);
  number(change.gid, valid::kGid, in.gid);
  number(change.size, valid::kSize, in.size);
  time(change.atime, valid::kAtime, in.atime, in.atime_nsec);
  time(change.mtime, valid::kMtime, in.mtime, in.mtime_nsec);
  time(change.ctime, valid::kCtime, in.ctime, in.ctime_nsec);
  // As the kernel: "now" comes with the plain bit.
  if (change.atime_now) in.valid |= valid::kAtime | valid::kAtimeNow;
  if (change.mtime_now) in.valid |= valid::kMtime | valid::kMtimeNow;
  if (change.kill_suidgid) in.valid |= valid::kKillSuidgid;
  if (change.handle) {
    in.valid |= valid::kHandle;
    in.handle = raw(*change.handle);
  }
  return plain_attr_reply(TRY(value<abi::AttrOut>(Opcode::kSetattr, node, caller, {bytes_of(in)})));
}

Result<std::string> Client::readlink(const Caller& caller, NodeId node) {
  const Reply reply = TRY(call(static_cast<std::uint32_t>(Opcode::kReadlink), node, caller, {}));
  if (reply.error != 0) return fail(reply.error);
  return string_of(reply.body);
}

Result<Entry> Client::symlink(const Caller& caller, NodeId parent, std::string_view name, std::string_view target) {
  return plain_entry(
      TRY(value<abi::EntryOut>(Opcode::kSymlink, parent, caller, {text(name), zero(), text(target), zero()})));
}

Result<Entry> Client::mknod(const Caller& caller, NodeId parent, std::string_view name, std::uint32_t mode, dev_t rdev,
                            std::uint32_t umask) {
  const abi::MknodIn in{.mode = mode, .rdev = wire_device(rdev), .umask = umask, .padding = 0};
  return plain_entry(TRY(value<abi::EntryOut>(Opcode::kMknod, parent, caller, {bytes_of(in), text(name), zero()})));
}

Result<Entry> Client::mkdir(const Caller& caller, NodeId parent, std::string_view name, std::uint32_t mode,
                            std::uint32_t umask) {
  const abi::MkdirIn in{.mode = mode, .umask = umask};
  return plain_entry(TRY(value<abi::EntryOut>(Opcode::kMkdir, parent, caller, {bytes_of(in), text(name), zero()})));
}

Status Client::unlink(const Caller& caller, NodeId parent, std::string_view name) {
  return status(Opcode::kUnlink, parent, caller, {text(name), zero()});
}

Status Client::rmdir(const Caller& caller, NodeId parent, std::string_view name) {
  return status(Opcode::kRmdir, parent, caller, {text(name), zero()});
}

Status Client::rename(const Caller& caller, NodeId parent, std::string_view name, NodeId new_parent,
                      std::string_view new_name, RenameFlags flags) {
  const std::uint32_t bits = (flags.noreplace ? RENAME_NOREPLACE : 0U) | (flags.exchange ? RENAME_EXCHANGE : 0U) |
                             (flags.whiteout ? RENAME_WHITEOUT : 0U);
  if (bits == 0) {
    const abi::RenameIn in{.new_parent = raw(new_parent)};
    return status(Opcode::kRename, parent, caller, {bytes_of(in), text(name), zero(), text(new_name), zero()});
  }
  const abi::Rename2In in{.new_parent = raw(new_parent), .flags = bits, .padding = 0};
  return status(Opcode::kRename2, parent, caller, {bytes_of(in), text(name), zero(), text(new_name), zero()});
}

Result<Entry> Client::link(const Caller& caller, NodeId node, NodeId new_parent, std::string_view new_name) {
  const abi::LinkIn in{.node = raw(node)};
  return plain_entry(
      TRY(value<abi::EntryOut>(Opcode::kLink, new_parent, caller, {bytes_of(in), text(new_name), zero()})));
}

Result<OpenReply> Client::open(const Caller& caller, NodeId node, int flags, bool kill_suidgid) {
  const abi::OpenIn in{.flags = static_cast<std::uint32_t>(flags),
                       .open_flags = kill_suidgid ? abi::kOpenKillSuidgid : 0};
  return open_or_go_without(value<abi::OpenOut>(Opcode::kOpen, node, caller, {bytes_of(in)}), false);
}

Result<Created> Client::create(const Caller& caller, NodeId parent, std::string_view name, int flags,
                               std::uint32_t mode, std::uint32_t umask) {
  const abi::CreateIn in{.flags = static_cast<std::uint32_t>(flags), .mode = mode, .umask = umask, .open_flags = 0};
  return created_of(
      call(static_cast<std::uint32_t>(Opcode::kCreate), parent, caller, {bytes_of(in), text(name), zero()}));
}

Result<Created> Client::tmpfile(const Caller& caller, NodeId parent, int flags, std::uint32_t mode,
                                std::uint32_t umask) {
  const abi::CreateIn in{.flags = static_cast<std::uint32_t>(flags), .mode = mode, .umask = umask, .open_flags = 0};
  return created_of(
      call(static_cast<std::uint32_t>(Opcode::kTmpfile), parent, caller, {bytes_of(in), text("/"), zero()}));
}

Result<std::size_t> Client::read(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                                 std::span<std::byte> out) {
  abi::ReadIn in{};
  in.handle = raw(handle);
  in.offset = offset;
  in.size = static_cast<std::uint32_t>(out.size());
  const Reply reply = TRY(call(static_cast<std::uint32_t>(Opcode::kRead), node, caller, {bytes_of(in)}));
  if (reply.error != 0) return fail(reply.error);
  if (reply.body.size() > out.size()) return fail(EIO);
  std::ranges::copy(reply.body, out.begin());
  return reply.body.size();
}

Result<std::size_t> Client::write(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                                  std::span<const std::byte> data, bool kill_suidgid) {
  abi::WriteIn in{};
  in.handle = raw(handle);
  in.offset = offset;
  in.size = static_cast<std::uint32_t>(data.size());
  in.write_flags = kill_suidgid ? abi::kWriteKillSuidgid : 0;
  const auto out = TRY(value<abi::WriteOut>(Opcode::kWrite, node, caller, {bytes_of(in), data}));
  if (out.size > data.size()) return fail(EIO);
  return out.size;
}

Status Client::flush(const Caller& caller, NodeId node, HandleId handle) {
  abi::FlushIn in{};
  in.handle = raw(handle);
  return status(Opcode::kFlush, node, caller, {bytes_of(in)});
}

void Client::release(NodeId node, HandleId handle) {
  abi::ReleaseIn in{};
  in.handle = raw(handle);
  ignore(status(Opcode::kRelease, node, {}, {bytes_of(in)}));
}

Status Client::fsync(const Caller& caller, NodeId node, HandleId handle, bool data_only) {
  const abi::FsyncIn in{.handle = raw(handle), .flags = data_only ? abi::kFsyncDataOnly : 0, .padding = 0};
  return status(Opcode::kFsync, node, caller, {bytes_of(in)});
}

Status Client::fallocate(const Caller& caller, NodeId node, HandleId handle, int mode, std::uint64_t offset,
                         std::uint64_t length) {
  const abi::FallocateIn in{.handle = raw(handle),
                            .offset = offset,
                            .length = length,
                            .mode = static_cast<std::uint32_t>(mode),
                            .padding = 0};
  return status(Opcode::kFallocate, node, caller, {bytes_of(in)});
}

Result<std::uint64_t> Client::lseek(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                                    int whence) {
  const abi::LseekIn in{
      .handle = raw(handle), .offset = offset, .whence = static_cast<std::uint32_t>(whence), .padding = 0};
  return TRY(value<abi::LseekOut>(Opcode::kLseek, node, caller, {bytes_of(in)})).offset;
}

Result<std::size_t> Client::copy_file_range(const Caller& caller, NodeId in, HandleId handle_in,
                                            std::uint64_t offset_in, NodeId out, HandleId handle_out,
                                            std::uint64_t offset_out, std::size_t length) {
  const abi::CopyFileRangeIn request{.handle_in = raw(handle_in),
                                     .offset_in = offset_in,
                                     .node_out = raw(out),
                                     .handle_out = raw(handle_out),
                                     .offset_out = offset_out,
                                     .length = length,
                                     .flags = 0};
  if (minor_ >= 45)
    return TRY(value<abi::CopyFileRangeOut>(Opcode::kCopyFileRange64, in, caller, {bytes_of(request)})).copied;
  return TRY(value<abi::WriteOut>(Opcode::kCopyFileRange, in, caller, {bytes_of(request)})).size;
}

Result<OpenReply> Client::opendir(const Caller& caller, NodeId node, int flags) {
  const abi::OpenIn in{.flags = static_cast<std::uint32_t>(flags), .open_flags = 0};
  return open_or_go_without(value<abi::OpenOut>(Opcode::kOpendir, node, caller, {bytes_of(in)}), true);
}

Status Client::readdir(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset, DirSink& sink) {
  abi::ReadIn in{};
  in.handle = raw(handle);
  in.offset = offset;
  in.size = directory_size_;
  const Reply reply = TRY(call(static_cast<std::uint32_t>(Opcode::kReaddir), node, caller, {bytes_of(in)}));
  if (reply.error != 0) return fail(reply.error);
  if (reply.body.size() > directory_size_) return fail(EIO);
  std::span<const std::byte> left = reply.body;
  DirRecord record;
  while (next_dir_record(left, false, record))
    if (!sink.add(record.name, record.ino, record.type, record.next)) return {};
  return left.empty() ? Status() : fail(EIO);
}

Status Client::readdirplus(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                           DirPlusSink& sink) {
  abi::ReadIn in{};
  in.handle = raw(handle);
  in.offset = offset;
  in.size = directory_size_;
  const Reply reply = TRY(call(static_cast<std::uint32_t>(Opcode::kReaddirplus), node, caller, {bytes_of(in)}));
  if (reply.error != 0) return fail(reply.error);
  if (reply.body.size() > directory_size_) return fail(EIO);
  std::span<const std::byte> left = reply.body;
  DirRecord record;
  bool refused = false;
  while (next_dir_record(left, true, record)) {
    // What the sink does not take was counted all the same.
    refused = refused || !sink.add(record.name, record.entry, record.next);
    if (refused && record.entry.node != NodeId::kNone) forget(record.entry.node, 1);
  }
  return left.empty() ? Status() : fail(EIO);
}

void Client::releasedir(NodeId node, HandleId handle) {
  abi::ReleaseIn in{};
  in.handle = raw(handle);
  ignore(status(Opcode::kReleasedir, node, {}, {bytes_of(in)}));
}

Status Client::fsyncdir(const Caller& caller, NodeId node, HandleId handle, bool data_only) {
  const abi::FsyncIn in{.handle = raw(handle), .flags = data_only ? abi::kFsyncDataOnly : 0, .padding = 0};
  return status(Opcode::kFsyncdir, node, caller, {bytes_of(in)});
}

Result<Statfs> Client::statfs(const Caller& caller, NodeId node) {
  return plain_statfs(TRY(value<abi::StatfsOut>(Opcode::kStatfs, node, caller, {})));
}

Status Client::syncfs(const Caller& caller, NodeId node) {
  const abi::SyncfsIn in{};
  return status(Opcode::kSyncfs, node, caller, {bytes_of(in)});
}

Status Client::access(const Caller& caller, NodeId node, int mask) {
  const abi::AccessIn in{.mask = static_cast<std::uint32_t>(mask), .padding = 0};
  return status(Opcode::kAccess, node, caller, {bytes_of(in)});
}

Status Client::setxattr(const Caller& caller, NodeId node, std::string_view name, std::span<const std::byte> value,
                        XattrFlags flags) {
  constexpr std::uint32_t kCreate = XATTR_CREATE, kReplace = XATTR_REPLACE;
  const abi::SetxattrExtIn in{.size = static_cast<std::uint32_t>(value.size()),
                              .flags = (flags.create ? kCreate : 0) | (flags.replace ? kReplace : 0),
                              .setxattr_flags = flags.acl_kill_sgid ? abi::kSetxattrAclKillSgid : 0,
                              .padding = 0};
  const auto sent = setxattr_ext_ ? bytes_of(in) : bytes_of(in).first(sizeof(abi::SetxattrIn));
  return status(Opcode::kSetxattr, node, caller, {sent, text(name), zero(), value});
}

Result<std::string> Client::getxattr(const Caller& caller, NodeId node, std::string_view name) {
  const abi::GetxattrIn in{.size = xattr_size_, .padding = 0};
  const Reply reply =
      TRY(call(static_cast<std::uint32_t>(Opcode::kGetxattr), node, caller, {bytes_of(in), text(name), zero()}));
  if (reply.error != 0) return fail(reply.error);
  if (reply.body.size() > xattr_size_) return fail(EIO);
  return string_of(reply.body);
}

Result<std::uint32_t> Client::xattr_length(const Caller& caller, NodeId node, std::string_view name) {
  const abi::GetxattrIn in{};
  if (name.empty()) return TRY(value<abi::GetxattrOut>(Opcode::kListxattr, node, caller, {bytes_of(in)})).size;
  return TRY(value<abi::GetxattrOut>(Opcode::kGetxattr, node, caller, {bytes_of(in), text(name), zero()})).size;
}

Result<std::string> Client::listxattr(const Caller& caller, NodeId node) {
  const abi::GetxattrIn in{.size = xattr_size_, .padding = 0};
  const Reply reply = TRY(call(static_cast<std::uint32_t>(Opcode::kListxattr), node, caller, {bytes_of(in)}));
  if (reply.error != 0) return fail(reply.error);
  if (reply.body.size() > xattr_size_) return fail(EIO);
  return string_of(reply.body);
}

Status Client::removexattr(const Caller& caller, NodeId node, std::string_view name) {
  return status(Opcode::kRemovexattr, node, caller, {text(name), zero()});
}

Result<IoctlReply> Client::ioctl(const Caller& caller, NodeId node, HandleId handle, const IoctlRequest& request) {
  const abi::IoctlIn in{.handle = raw(handle),
                        .flags = (request.directory ? abi::kIoctlDir : 0) | (request.compat32 ? abi::kIoctlCompat : 0),
                        .command = request.command,
                        .argument = request.argument,
                        .in_size = static_cast<std::uint32_t>(request.in.size()),
                        .out_size = static_cast<std::uint32_t>(request.out_size)};
  const Reply reply = TRY(call(static_cast<std::uint32_t>(Opcode::kIoctl), node, caller, {bytes_of(in), request.in}));
  if (reply.error != 0) return fail(reply.error);
  const auto out = TRY(read_struct<abi::IoctlOut>(reply.body));
  return IoctlReply{.result = out.result, .out = string_of(reply.body).substr(sizeof out)};
}

}  // namespace vellum::fuse
