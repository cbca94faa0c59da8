#include "fuse/uring_channel.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/log.h"
#include "fuse/abi.h"
#include "fuse/page_buffer.h"
#include "sys/cpus.h"
#include "sys/fuse_ring.h"

namespace vellum::fuse {
namespace {

// What the channels of one connection share.
struct Connected {
  std::shared_ptr<Channel> device;
  std::atomic<bool> refused{false};  // a registration: requests come by the device, now or later
};

class UringChannel final : public Channel {
 public:
  UringChannel(std::shared_ptr<Connected> connected, sys::FuseRing ring, std::uint16_t queue, std::size_t payload)
      : connected_(std::move(connected)),
        queue_(queue),
        header_(sizeof(abi::RingHeader)),
        payload_(payload),
        ring_(std::move(ring)) {}

  Result<RequestBytes> receive(std::span<std::byte> buffer) override;
  Status send(std::span<const iovec> parts) override;
  Result<std::unique_ptr<Channel>> clone() override { return fail(EOPNOTSUPP); }
  const char* name() const override { return connected_->refused ? connected_->device->name() : "io_uring"; }
  bool pending() const override { return ring_.pending(); }
  std::span<std::byte> reply_space() override;
  void start() override;
  void finish() override;

 private:
  // kWaiting: for a request. kWorking: on one. kAnswered: the reply is in the entry.
  enum class State { kWaiting, kWorking, kAnswered, kOnDevice };

  Status enter();
  Status commit();
  RequestBytes take();
  Status recover(Errno error);
  void use_device(Errno reason);
  abi::RingHeader& header() { return *reinterpret_cast<abi::RingHeader*>(header_.span().data()); }

  std::shared_ptr<Connected> connected_;
  std::uint16_t queue_;
  PageBuffer header_, payload_;
  sys::FuseRing ring_;  // goes before the memory that the kernel knows
  State state_ = State::kWaiting;
  std::uint64_t commit_id_ = 0;  // of the last request; 0: none came yet
};

void UringChannel::start() {
  // Not allowed on this CPU, or it is offline: then served from elsewhere, only slower.
  ignore(sys::stay_on_cpu(queue_));
  const auto begin = [this]() -> Status {
    TRY(ring_.enable());
    TRY(enter());
    return ring_.flush();
  };
  if (const Status status = begin(); !status) use_device(status.error());
}

Status UringChannel::enter() { return ring_.register_entry(queue_, header_.span(), payload_.span()); }

Result<RequestBytes> UringChannel::receive(std::span<std::byte> buffer) {
  if (state_ == State::kOnDevice) return connected_->device->receive(buffer);
  TRY(commit());
  if (const Status status = ring_.wait(); !status) {
    TRY(recover(status.error()));
    return fail(EAGAIN);
  }
  return take();
}

// The reply and the wish for another request are one command, so a request that nobody answered gets an answer, too.
Status UringChannel::commit() {
  if (state_ == State::kWaiting) return {};
  if (state_ == State::kWorking) {
    const abi::OutHeader eio{.length = sizeof eio, .error = -EIO, .unique = commit_id_};
    std::memcpy(header().in_out, &eio, sizeof eio);
    header().transfer.payload_size = 0;
  }
  state_ = State::kWaiting;
  return ring_.commit_and_fetch(queue_, commit_id_);
}

RequestBytes UringChannel::take() {
  state_ = State::kWorking;
  const abi::RingTransfer& transfer = header().transfer;
  commit_id_ = transfer.commit_id;
  const auto payload = payload_.span();
  const std::size_t data = std::min<std::size_t>(transfer.payload_size, payload.size());
  abi::InHeader in;
  std::memcpy(&in, header().in_out, sizeof in);
  // The struct of the operation lies apart, and its length follows from the whole. Everywhere else it is right behind
  // the header, so it is put there.
  std::size_t body = in.length > sizeof in + data ? in.length - sizeof in - data : 0;
  body = std::min(body, sizeof header().operation);
  std::byte* const head = header_.span().data();
  std::memmove(head + sizeof in, header().operation, body);
  return {.head = {head, sizeof in + body}, .rest = payload.first(data)};
}

Status UringChannel::send(std::span<const iovec> parts) {
  if (state_ == State::kOnDevice) return connected_->device->send(parts);
  if (state_ == State::kWaiting) return fail(EINVAL);
  const auto payload = payload_.span();
  std::size_t size = 0;
  for (const iovec& part : parts.subspan(1)) {
    if (part.iov_len > payload.size() - size) return fail(EMSGSIZE);
    std::byte* const to = payload.data() + size;
    // What was built in reply_space() is in place.
    if (part.iov_base != to && part.iov_len > 0) std::memmove(to, part.iov_base, part.iov_len);
    size += part.iov_len;
  }
  std::memcpy(header().in_out, parts[0].iov_base, sizeof(abi::OutHeader));
  header().transfer.payload_size = static_cast<std::uint32_t>(size);
  state_ = State::kAnswered;
  return {};
}

std::span<std::byte> UringChannel::reply_space() {
  // As long as the request's own data lies there, it may still be needed.
  if (state_ != State::kWorking || header().transfer.payload_size != 0) return {};
  return payload_.span();
}

void UringChannel::finish() {
  // Nobody takes the request that might come back: the connection ends with this thread.
  if (state_ == State::kWorking || state_ == State::kAnswered) {
    if (commit()) ignore(ring_.flush());
  }
}

Status UringChannel::recover(Errno error) {
  switch (error.value()) {
    case EINTR: return {};  // the command stands
    case ENOTCONN:
    case ENODEV:
    case ECONNABORTED:
    case ECANCELED: return fail(ENODEV);
    default: break;
  }
  if (commit_id_ == 0) {
    use_device(error);
    return {};
  }
  log::error("a reply over io_uring was refused: {}", error.message());
  commit_id_ = 0;
  return enter();
}

void UringChannel::use_device(Errno reason) {
  state_ = State::kOnDevice;
  if (connected_->refused.exchange(true)) return;  // said by another thread
  // The kernel's switch was turned off between its offer and our answer, as another mount's io_uring=1 does: then it is
  // as if there had been no offer.
  if (reason == EOPNOTSUPP)
    log::debug("no io_uring: the kernel's offer has ended");
  else
    log::warning("requests over io_uring are refused ({}); going on with /dev/fuse", reason.message());
}

}  // namespace

unsigned ring_threads_per_queue(unsigned possible_cpus, unsigned online_cpus, unsigned most) {
  constexpr unsigned kLeast = 2;
  constexpr unsigned kFew = 16;
  if (possible_cpus > kFew && possible_cpus > 4 * online_cpus) return 0;
  if (most == 0) return kLeast;
  const unsigned each = most / possible_cpus;
  return each < kLeast ? 0 : each;
}

Result<std::vector<std::unique_ptr<Channel>>> make_ring_channels(const std::shared_ptr<Channel>& device,
                                                                 const RingOptions& options) {
  if (!device || !device->device()) return fail(EOPNOTSUPP);
  // With a queue too few the kernel would hold back every request for ever; so no guessing.
  const unsigned possible = TRY(sys::possible_cpus());
  const auto online = static_cast<unsigned>(TRY(sys::online_cpus()).size());
  const unsigned each = ring_threads_per_queue(possible, online, options.threads);
  if (each == 0) return fail(EOPNOTSUPP);

  auto connected = std::make_shared<Connected>();
  connected->device = device;
  std::vector<std::unique_ptr<Channel>> channels;
  for (unsigned i = 0; i < possible * each; ++i) {
    channels.push_back(std::make_unique<UringChannel>(connected, TRY(sys::FuseRing::create(device->device())),
                                                      static_cast<std::uint16_t>(i % possible), options.payload));
  }
  return channels;
}

}  // namespace vellum::fuse
