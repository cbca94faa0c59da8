#include "fuse/worker.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "fuse/trace.h"
#include "fuse/wire.h"
#include "sys/thread.h"

namespace vellum::fuse {
namespace {

// So placed, the data of a WRITE starts on a page: a file system may hand it on to a file opened with O_DIRECT.
constexpr std::size_t kBeforeData = sizeof(abi::InHeader) + sizeof(abi::WriteIn);
static_assert(kBeforeData < abi::kPageSize);

// INIT itself must fit, and the kernel insists on a least size.
constexpr std::size_t kLeastPayload = abi::kMinReadBuffer;

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

iovec part(const void* bytes, std::size_t size) { return {const_cast<void*>(bytes), size}; }

// Room beyond the agreed payload: names, xattr values (64 KiB) with their headers.
std::size_t input_size(std::size_t payload) { return std::max(payload, abi::kXattrSizeMax) + 2 * abi::kPageSize; }

}  // namespace

Worker::Worker(Session& session, std::shared_ptr<Channel> channel, const Agreement& agreement)
    : session_(session),
      filesystem_(session.filesystem_),
      channel_(std::move(channel)),
      // Before INIT the wish stands for what will be agreed.
      payload_(std::max<std::size_t>(session.options_.wishes.max_write, kLeastPayload)),
      in_(abi::kPageSize + input_size(payload_)),
      out_(payload_) {
  ready_ = agreement.connection.minor != 0;
  decode_ = {.setxattr_ext = agreement.setxattr_ext(), .dot_names = agreement.connection.export_support};
}

void Worker::close_channel() {
  transport_ = transport();
  channel_.reset();
}

void Worker::leave() {
  const MutexLock lock(leaving_);
  state_.store(State::kLeft);
}

bool Worker::try_wake() {
  const MutexLock lock(leaving_);
  const State state = state_.load();
  if (state == State::kReceiving) sys::wake(thread_);
  return state == State::kReceiving || state == State::kWorking;
}

Status Worker::serve_init() {
  thread_ = sys::this_thread();
  sys::allow_wake();
  state_.store(State::kWorking);
  Status status;
  while (!ready_ && status) {
    if (session_.stopping_.load()) {
      status = fail(ECANCELED);
    } else if (const auto more = serve_one(); !more) {
      status = fail(more.error());
    } else if (!*more) {
      status = fail(ENODEV);
    } else if (refused_ != 0) {
      status = fail(refused_);
    }
  }
  leave();
  return status;
}

Status Worker::serve() {
  thread_ = sys::this_thread();
  sys::allow_wake();
  state_.store(State::kWorking);
  if (session_.options_.wishes.splice && channel_->device()) {
    lane_.emplace(channel_->device(), session_.agreement_.connection.max_write);
  }
  if (session_.options_.on_thread) session_.options_.on_thread();
  Status status;
  while (!session_.stopping_.load()) {
    const auto more = serve_one();
    if (!more) status = fail(more.error());
    if (!more || !*more) break;
  }
  channel_->finish();
  leave();
  return status;
}

Result<bool> Worker::serve_one() {
  state_.store(State::kReceiving);
  // stop() sets its flag before it looks at states: either it sees kReceiving, or we see the flag here.
  if (session_.stopping_.load()) {
    state_.store(State::kWorking);
    return true;
  }
  const auto room = in_.span().subspan(abi::kPageSize - kBeforeData);
  const bool by_lane = lane_ && lane_->expects_data();
  const auto bytes = by_lane ? lane_->receive(room) : channel_->receive(room);
  state_.store(State::kWorking);
  if (bytes) {
    work(*bytes);
    if (lane_) lane_->settle();
    return true;
  }
  if (by_lane && (bytes.error() == ENOMEM || bytes.error() == EIO || bytes.error() == EINVAL)) {
    lane_->give_up();
    return true;
  }
  switch (bytes.error().value()) {
    case EINTR:
    case ENOENT:
    case EAGAIN: return true;
    case ENODEV:
    case ECONNABORTED: return false;
    default: return fail(bytes.error());
  }
}

void Worker::work(const RequestBytes& bytes) {
  const auto header = decode_header(bytes);
  if (!header) {
    Counters::bump(counters_.malformed);
    log::debug("dropped a request of {} bytes", bytes.head.size());
    return;
  }
  started_ns_ = now_ns();
  header_ = *header;
  error_ = 0;
  answered_ = is_unanswered(header_.opcode);
  const bool traced = log::debug_enabled();
  if (const auto operation = decode_operation(header_, bytes, decode_)) {
    if (traced) log::debug("unique={} {}", header_.unique, describe(header_, *operation));
    dispatch(*operation);
  } else {
    // Bad names are not counted: users can give them (the kernel passes names of up to 1024 bytes).
    if (operation.error() == EIO) Counters::bump(counters_.malformed);
    if (traced)
      log::debug("unique={} {}({}) node={} of {} bytes", header_.unique, opcode_name(header_.opcode), header_.opcode,
                 raw(header_.node), bytes.head.size() + bytes.rest.size());
    if (!answered_) reply_error(operation.error());
  }
  if (!answered_) reply_error(Errno(EIO));
  if (traced && !is_unanswered(header_.opcode)) log::debug("unique={} -> {}", header_.unique, describe_error(error_));
  if (is_unanswered(header_.opcode)) count(false);
}

void Worker::count(bool failed) { counters_.count(header_.opcode, failed, now_ns() - started_ns_); }

void Worker::dispatch(const Operation& operation) {
  // Only INIT makes sense before INIT, and only once. (INTERRUPT and DESTROY never hurt.)
  const bool is_init = std::holds_alternative<op::Init>(operation);
  if (is_init == ready_) {
    if (!answered_) reply_error(Errno(EIO));
    return;
  }
  try {
    std::visit([this](const auto& o) { on(o); }, operation);
  } catch (const std::bad_alloc&) {
    if (!answered_) reply_error(Errno(ENOMEM));
  } catch (const std::exception& e) {
    log::error("{}: {}", opcode_name(header_.opcode), e.what());
    if (!answered_) reply_error(Errno(EIO));
  }
}

// ---- replies

bool Worker::send(const abi::OutHeader& header, const void* body, std::size_t size, const void* more,
                  std::size_t more_size) {
  const iovec parts[] = {part(&header, sizeof header), part(body, size), part(more, more_size)};
  const std::size_t used = more_size > 0 ? 3 : size > 0 ? 2 : 1;
  // Before the caller goes on: who then reads the counters finds this request among them.
  count(header.error != 0);
  return delivered(header, channel_->send(std::span(parts, used)));
}

bool Worker::delivered(const abi::OutHeader& header, const Status& sent) {
  if (sent) return true;
  switch (sent.error().value()) {
    case ENOENT:
    case ENODEV:
    case ECONNABORTED: Counters::bump(counters_.lost_replies); return false;
    default: break;
  }
  // The kernel refused our words: its caller would wait for ever, so give it an error that cannot be refused.
  log::error("reply to {} (node {}, {} bytes) refused: {}", opcode_name(header_.opcode), raw(header_.node),
             header.length, sent.error().message());
  const abi::OutHeader eio{.length = sizeof eio, .error = -EIO, .unique = header.unique};
  const iovec alone = part(&eio, sizeof eio);
  error_ = EIO;
  ignore(channel_->send(std::span(&alone, 1)));  // if this fails too, there is nothing left to say
  return false;
}

bool Worker::reply_bytes(const void* body, std::size_t size, const void* more, std::size_t more_size) {
  answered_ = true;
  const abi::OutHeader header{.length = static_cast<std::uint32_t>(sizeof(abi::OutHeader) + size + more_size),
                              .error = 0,
                              .unique = header_.unique};
  return send(header, body, size, more, more_size);
}

bool Worker::reply_error(Errno error) {
  answered_ = true;
  // The kernel takes -511 to 0 only.
  constexpr int kLargest = 511;
  error_ = error.value() > 0 && error.value() <= kLargest ? error.value() : EIO;
  const abi::OutHeader header{.length = sizeof header, .error = -error_, .unique = header_.unique};
  return send(header, nullptr, 0, nullptr, 0);
}

bool Worker::reply_status(const Status& status) { return status ? reply_empty() : reply_error(status.error()); }

void Worker::reply_entry(const Result<Entry>& entry) {
  if (!entry) {
    reply_error(entry.error());
    return;
  }
  if (!reply(wire_entry(*entry)) && entry->node != NodeId::kNone) filesystem_.forget(entry->node, 1);
}

void Worker::reply_created(const Result<Created>& created) {
  if (!created) {
    reply_error(created.error());
    return;
  }
  const Connection& connection = session_.agreement_.connection;
  const abi::EntryOut entry = wire_entry(created->entry);
  const abi::OpenOut open = wire_open(created->open, connection.minor, connection.passthrough);
  if (reply_bytes(&entry, sizeof entry, &open, sizeof open)) return;
  filesystem_.release(created->entry.node, created->open.handle);
  filesystem_.forget(created->entry.node, 1);
}

void Worker::reply_xattr(const Result<std::string>& value, std::uint32_t size) {
  if (!value) {
    reply_error(value.error());
  } else if (size == 0) {
    reply(abi::GetxattrOut{.size = static_cast<std::uint32_t>(value->size()), .padding = 0});
  } else if (value->size() > size) {
    reply_error(Errno(ERANGE));
  } else {
    reply_bytes(value->data(), value->size());
  }
}

std::span<std::byte> Worker::output(std::uint32_t wanted) {
  const std::size_t size = std::min<std::size_t>(wanted, payload_);
  const auto lent = channel_->reply_space();
  return lent.size() >= size && size > 0 ? lent.first(size) : out_.span().first(size);
}

// ---- operations

void Worker::on(const op::Init& o) {
  const abi::InitIn& in = o.in;
  if (in.major > abi::kMajor) {
    // A kernel from the future asks again, in our version.
    abi::InitOut out{};
    out.major = abi::kMajor;
    out.minor = abi::kNewestMinor;
    reply(out);
    return;
  }
  if (in.major < abi::kMajor || in.minor < abi::kOldestMinor) {
    log::error("the kernel speaks FUSE protocol {}.{}; at least {}.{} (Linux 5.4) is needed", in.major, in.minor,
               abi::kMajor, abi::kOldestMinor);
    refused_ = EPROTO;
    reply_error(Errno(refused_));
    return;
  }
  const Wishes& wishes = session_.options_.wishes;
  Agreement agreement = agree(in, wishes, channel_->message_limit(), channel_->can_open_backing());
  agreement.connection.notifier = &session_;
  if (const Status status = filesystem_.init(agreement.connection); !status) {
    refused_ = status.error().value();
    reply_error(status.error());
    return;
  }
  // From the reply on the kernel waits for the rings, so they must be there before.
  if (agreement.has(abi::init_flag::kOverIoUring) && !session_.start_rings(agreement))
    agreement.flags &= ~abi::init_flag::kOverIoUring;
  const abi::InitOut out = settle(agreement, wishes);
  payload_ = std::min<std::size_t>(payload_, std::max<std::size_t>(out.max_write, kLeastPayload));
  session_.publish(agreement);
  decode_ = {.setxattr_ext = agreement.setxattr_ext(), .dot_names = agreement.connection.export_support};
  if (log::debug_enabled())
    log::debug("protocol 7.{} flags={:#x} max_write={} transport={}", out.minor, agreement.flags, out.max_write,
               agreement.has(abi::init_flag::kOverIoUring) ? "io_uring" : channel_->name());
  ready_ = reply(out);
  if (!ready_) refused_ = EPROTO;  // run() still destroys what init() made
}

void Worker::on(const op::Destroy&) { reply_empty(); }

// ENOSYS makes the kernel stop sending it: no operation here waits so long that giving it up early would pay.
void Worker::on(const op::Interrupt&) { reply_error(Errno(ENOSYS)); }

void Worker::on(const op::Lookup& o) { reply_entry(filesystem_.lookup(header_.caller, header_.node, o.name)); }

void Worker::on(const op::Forget& o) {
  if (header_.node != NodeId::kNone && o.count > 0) filesystem_.forget(header_.node, o.count);
}

void Worker::on(const op::BatchForget& o) {
  for (auto items = o.items; items.size() >= sizeof(abi::ForgetOne); items = items.subspan(sizeof(abi::ForgetOne))) {
    abi::ForgetOne one;
    std::memcpy(&one, items.data(), sizeof one);
    if (one.node != 0 && one.lookups > 0) filesystem_.forget(static_cast<NodeId>(one.node), one.lookups);
  }
}

void Worker::on(const op::Getattr& o) {
  const auto attr = filesystem_.getattr(header_.caller, header_.node, o.handle);
  attr ? reply(wire_attr_reply(*attr)) : reply_error(attr.error());
}

void Worker::on(const op::Statx& o) {
  const auto attr = filesystem_.statx(header_.caller, header_.node, o.handle);
  attr ? reply(wire_statx_reply(*attr)) : reply_error(attr.error());
}

void Worker::on(const op::Setattr& o) {
  const auto attr = filesystem_.setattr(header_.caller, header_.node, o.change);
  attr ? reply(wire_attr_reply(*attr)) : reply_error(attr.error());
}

void Worker::on(const op::Readlink&) {
  const auto target = filesystem_.readlink(header_.caller, header_.node);
  if (!target) {
    reply_error(target.error());
  } else if (target->size() >= abi::kPathMax) {
    reply_error(Errno(ENAMETOOLONG));
  } else {
    reply_bytes(target->data(), target->size());
  }
}

void Worker::on(const op::Symlink& o) {
  reply_entry(filesystem_.symlink(header_.caller, header_.node, o.name, o.target));
}

void Worker::on(const op::Mknod& o) {
  reply_entry(filesystem_.mknod(header_.caller, header_.node, o.name, o.mode, o.rdev, o.umask));
}

void Worker::on(const op::Mkdir& o) {
  reply_entry(filesystem_.mkdir(header_.caller, header_.node, o.name, o.mode, o.umask));
}

void Worker::on(const op::Unlink& o) { reply_status(filesystem_.unlink(header_.caller, header_.node, o.name)); }
void Worker::on(const op::Rmdir& o) { reply_status(filesystem_.rmdir(header_.caller, header_.node, o.name)); }

void Worker::on(const op::Rename& o) {
  reply_status(filesystem_.rename(header_.caller, header_.node, o.name, o.new_parent, o.new_name, o.flags));
}

void Worker::on(const op::Link& o) { reply_entry(filesystem_.link(header_.caller, o.node, header_.node, o.new_name)); }

void Worker::on(const op::Open& o) {
  const auto opened = filesystem_.open(header_.caller, header_.node, o.flags, o.kill_suidgid);
  if (!opened) {
    reply_error(opened.error());
    return;
  }
  const Connection& connection = session_.agreement_.connection;
  if (!reply(wire_open(*opened, connection.minor, connection.passthrough)))
    filesystem_.release(header_.node, opened->handle);
}

void Worker::on(const op::Create& o) {
  reply_created(filesystem_.create(header_.caller, header_.node, o.name, o.flags, o.mode, o.umask));
}

void Worker::on(const op::Tmpfile& o) {
  reply_created(filesystem_.tmpfile(header_.caller, header_.node, o.flags, o.mode, o.umask));
}

bool Worker::read_by_splice(const op::Read& o) {
  class Loader final : public FileMover {
   public:
    Loader(SpliceLane& lane, std::uint64_t unique, std::size_t size) : lane_(lane), unique_(unique), size_(size) {}
    Result<std::size_t> move(sys::FdRef file, std::uint64_t offset) override {
      return lane_.load(unique_, file, offset, size_);
    }

   private:
    SpliceLane& lane_;
    std::uint64_t unique_;
    std::size_t size_;
  };
  if (!lane_ || o.size < SpliceLane::kLeast) return false;
  Loader loader(*lane_, header_.unique, o.size);
  const auto got = filesystem_.move_out(header_.node, o.handle, o.offset, loader);
  if (!got || !lane_->is_loaded()) return false;
  Counters::bump(counters_.bytes_read, *got);
  answered_ = true;
  const abi::OutHeader header{
      .length = static_cast<std::uint32_t>(sizeof header + *got), .error = 0, .unique = header_.unique};
  count(false);
  delivered(header, lane_->send());
  return true;
}

void Worker::on(const op::Read& o) {
  // A shorter answer would mean the end of the file.
  if (o.size > payload_) {
    reply_error(Errno(EINVAL));
    return;
  }
  if (read_by_splice(o)) return;
  const auto out = output(o.size);
  const auto got = filesystem_.read(header_.caller, header_.node, o.handle, o.offset, out);
  if (!got) {
    reply_error(got.error());
    return;
  }
  const std::size_t size = std::min(*got, out.size());
  Counters::bump(counters_.bytes_read, size);
  reply_bytes(out.data(), size);
}

Result<std::size_t> Worker::put(const op::Write& o) {
  class Unloader final : public FileMover {
   public:
    explicit Unloader(SpliceLane& lane) : lane_(lane) {}
    Result<std::size_t> move(sys::FdRef file, std::uint64_t offset) override { return lane_.unload(file, offset); }

   private:
    SpliceLane& lane_;
  };
  if (lane_ && lane_->holds_data()) {
    if (!o.kill_suidgid) {
      Unloader unloader(*lane_);
      if (const auto moved = filesystem_.move_in(header_.node, o.handle, o.offset, unloader)) return moved;
    }
    TRY(lane_->unload_to_buffer());
  }
  return filesystem_.write(header_.caller, header_.node, o.handle, o.offset, o.data, o.kill_suidgid);
}

void Worker::on(const op::Write& o) {
  if (lane_) lane_->expect_data(o.data.size() >= SpliceLane::kLeast);
  auto written = put(o);
  // Who writes by a call of their own learn of the error when they write the rest. Of what comes from the kernel's
  // cache nobody ever does, and the kernel does not look at how much was written.
  while (written && o.from_cache && *written < o.data.size()) {
    const auto more = filesystem_.write(header_.caller, header_.node, o.handle, o.offset + *written,
                                        o.data.subspan(*written), o.kill_suidgid);
    if (!more || *more == 0)
      written = fail(more ? Errno(EIO) : more.error());
    else
      *written += *more;
  }
  if (!written) {
    reply_error(written.error());
    return;
  }
  Counters::bump(counters_.bytes_written, *written);
  reply(abi::WriteOut{.size = static_cast<std::uint32_t>(std::min(*written, o.data.size())), .padding = 0});
}

void Worker::on(const op::Statfs&) {
  const auto statfs = filesystem_.statfs(header_.caller, header_.node);
  statfs ? reply(wire_statfs(*statfs)) : reply_error(statfs.error());
}

void Worker::on(const op::Release& o) {
  filesystem_.release(header_.node, o.handle);
  reply_empty();
}

void Worker::on(const op::Releasedir& o) {
  filesystem_.releasedir(header_.node, o.handle);
  reply_empty();
}

void Worker::on(const op::Flush& o) { reply_status(filesystem_.flush(header_.caller, header_.node, o.handle)); }

void Worker::on(const op::Fsync& o) {
  reply_status(filesystem_.fsync(header_.caller, header_.node, o.handle, o.data_only));
}

void Worker::on(const op::Fsyncdir& o) {
  reply_status(filesystem_.fsyncdir(header_.caller, header_.node, o.handle, o.data_only));
}

void Worker::on(const op::Setxattr& o) {
  reply_status(filesystem_.setxattr(header_.caller, header_.node, o.name, o.value, o.flags));
}

void Worker::on(const op::Getxattr& o) {
  reply_xattr(filesystem_.getxattr(header_.caller, header_.node, o.name), o.size);
}

void Worker::on(const op::Listxattr& o) { reply_xattr(filesystem_.listxattr(header_.caller, header_.node), o.size); }

void Worker::on(const op::Removexattr& o) {
  reply_status(filesystem_.removexattr(header_.caller, header_.node, o.name));
}

void Worker::on(const op::Opendir& o) {
  const auto opened = filesystem_.opendir(header_.caller, header_.node, o.flags);
  if (!opened) {
    reply_error(opened.error());
    return;
  }
  if (!reply(wire_open(*opened, session_.agreement_.connection.minor, false)))
    filesystem_.releasedir(header_.node, opened->handle);
}

void Worker::on(const op::Readdir& o) {
  DirBuffer buffer(output(o.size));
  const Status status = filesystem_.readdir(header_.caller, header_.node, o.handle, o.offset, buffer);
  status ? reply_bytes(buffer.bytes().data(), buffer.bytes().size()) : reply_error(status.error());
}

void Worker::on(const op::Readdirplus& o) {
  DirPlusBuffer buffer(output(o.size), counted_);
  const Status status = filesystem_.readdirplus(header_.caller, header_.node, o.handle, o.offset, buffer);
  const bool delivered = status && reply_bytes(buffer.bytes().data(), buffer.bytes().size());
  if (!delivered)
    for (const NodeId node : counted_) filesystem_.forget(node, 1);
  if (!status) reply_error(status.error());
}

void Worker::on(const op::Access& o) {
  reply_status(filesystem_.access(header_.caller, header_.node, static_cast<int>(o.mask)));
}

void Worker::on(const op::Ioctl& o) {
  const auto answer = filesystem_.ioctl(header_.caller, header_.node, o.handle, o.request);
  if (!answer) {
    reply_error(answer.error());
    return;
  }
  const abi::IoctlOut out{.result = answer->result, .flags = 0, .in_iovs = 0, .out_iovs = 0};
  reply_bytes(&out, sizeof out, answer->out.data(), std::min(answer->out.size(), o.request.out_size));
}

void Worker::on(const op::Fallocate& o) {
  reply_status(filesystem_.fallocate(header_.caller, header_.node, o.handle, o.mode, o.offset, o.length));
}

void Worker::on(const op::Lseek& o) {
  const auto offset = filesystem_.lseek(header_.caller, header_.node, o.handle, o.offset, o.whence);
  offset ? reply(abi::LseekOut{.offset = *offset}) : reply_error(offset.error());
}

void Worker::on(const op::CopyFileRange& o) {
  // The old reply counts in 32 bits; a shorter copy is a correct answer.
  constexpr std::uint64_t kNarrowMost = 0x7ffff000;
  const std::uint64_t length = o.wide ? o.length : std::min(o.length, kNarrowMost);
  const auto copied = filesystem_.copy_file_range(header_.caller, header_.node, o.handle_in, o.offset_in, o.node_out,
                                                  o.handle_out, o.offset_out, length);
  if (!copied) {
    reply_error(copied.error());
  } else if (o.wide) {
    reply(abi::CopyFileRangeOut{.copied = *copied});
  } else {
    reply(abi::WriteOut{.size = static_cast<std::uint32_t>(*copied), .padding = 0});
  }
}

void Worker::on(const op::Syncfs&) { reply_status(filesystem_.syncfs(header_.caller, header_.node)); }

}  // namespace vellum::fuse
