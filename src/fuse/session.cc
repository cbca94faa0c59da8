#include "fuse/session.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/log.h"
#include "base/scope.h"
#include "fuse/uring_channel.h"
#include "fuse/worker.h"
#include "sys/thread.h"

namespace vellum::fuse {

Session::Session(Filesystem& filesystem, SessionOptions options)
    : filesystem_(filesystem), options_(std::move(options)) {}

Session::~Session() = default;

Status Session::run(std::unique_ptr<Channel> channel, unsigned threads) {
  const Status status = serve(std::move(channel), std::max(threads, 1U));
  if (agreement_.connection.minor != 0) filesystem_.destroy();
  // The last descriptors: if the mount is still there, the kernel ends its connection now.
  const MutexLock lock(mutex_);
  channel_.reset();
  for (const auto& worker : workers_) worker->close_channel();
  return status;
}

Status Session::serve(std::shared_ptr<Channel> channel, unsigned threads) {
  {
    const MutexLock lock(mutex_);
    channel_ = channel;
  }
  wanted_threads_ = threads;
  // Threads that wait for a verdict get one, whatever happens here.
  const auto end_threads = on_exit([this] {
    open_gate(Gate::kAbandoned);
    threads_.clear();
  });
  Worker* const first = add_worker(channel, {});
  if (const Status status = first->serve_init(); !status) {
    if (status.error() == ECANCELED) return {};
    return status;
  }
  const bool rings = agreement_.has(abi::init_flag::kOverIoUring);
  open_gate(Gate::kOpen);
  if (rings) rings_started_->wait();
  const unsigned workers = rings ? ring_workers_ : start_workers(channel, threads);
  if (options_.on_ready) options_.on_ready(workers);
  work(first);
  threads_.clear();
  if (failure_.load() != 0) return fail(failure_.load());
  return {};
}

Worker* Session::add_worker(std::shared_ptr<Channel> channel, const Agreement& agreement) {
  const MutexLock lock(mutex_);
  return workers_.emplace_back(std::make_unique<Worker>(*this, std::move(channel), agreement)).get();
}

void Session::work(Worker* worker) {
  const Status status = worker->serve();
  if (status) return;
  failure_.store(status.error().value());
  // Nobody should wait for requests that this thread no longer takes.
  stop();
}

unsigned Session::start_workers(const std::shared_ptr<Channel>& channel, unsigned threads) {
  try {
    threads_.reserve(threads - 1);
    for (unsigned i = 1; i < threads; ++i) {
      std::shared_ptr<Channel> own = channel;
      if (auto clone = channel->clone()) own = std::move(*clone);
      Worker* const worker = add_worker(std::move(own), agreement_);
      auto undo = on_failure([this] {
        const MutexLock lock(mutex_);
        workers_.pop_back();
      });
      threads_.emplace_back([this, worker] {
        sys::name_this_thread("fuse");
        work(worker);
      });
      undo.done();
    }
  } catch (const std::exception& error) {
    // A limit on processes or memory. Fewer threads serve as well, only not as many at once.
    log::warning("serving with {} threads instead of {}: {}", threads_.size() + 1, threads, error.what());
  }
  return static_cast<unsigned>(threads_.size()) + 1;
}

bool Session::start_rings(const Agreement& agreement) {
  if (wanted_threads_ < 2) return false;
  std::size_t before = 0;
  {
    const MutexLock lock(mutex_);
    before = workers_.size();
  }
  try {
    // The kernel takes no entry with less room than its longest message has.
    const std::size_t payload = std::max<std::size_t>({abi::kMinReadBuffer, agreement.connection.max_write,
                                                       agreement.max_pages * abi::kPageSize, abi::kXattrSizeMax});
    auto channels = make_ring_channels(first_channel(), {.threads = options_.ring_threads, .payload = payload});
    if (!channels) {
      log::debug("no io_uring: {}", channels.error().message());
      return false;
    }
    threads_.reserve(channels->size());
    rings_started_ = std::make_unique<std::latch>(static_cast<std::ptrdiff_t>(channels->size()));
    for (auto& channel : *channels) {
      Worker* const worker = add_worker(std::move(channel), agreement);
      threads_.emplace_back([this, worker] {
        sys::name_this_thread("fuse-ring");
        gate_.wait(Gate::kClosed);
        if (gate_.load() != Gate::kOpen) return;
        worker->start();
        rings_started_->arrive_and_wait();
        work(worker);
      });
    }
    ring_workers_ = static_cast<unsigned>(channels->size());
    return true;
  } catch (const std::exception& error) {
    // All or none: with a queue that nobody serves, the kernel would wait for ever.
    log::warning("no io_uring: {}", error.what());
    open_gate(Gate::kAbandoned);
    threads_.clear();
    const MutexLock lock(mutex_);
    workers_.resize(before);
    return false;
  }
}

void Session::open_gate(Gate gate) {
  gate_.store(gate);
  gate_.notify_all();
}

void Session::stop() {
  stopping_.store(true);
  const auto anyone_left = [this] {
    const MutexLock lock(mutex_);
    // Not any_of: each must be woken.
    bool left = false;
    for (const auto& worker : workers_) left = worker->try_wake() || left;
    return left;
  };
  // A wake-up can come a moment before its target falls asleep, so it is repeated.
  while (anyone_left()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

bool Session::idle() const {
  // A request is nowhere to be seen for the moment between its arrival and the worker's waking up to it: look again.
  for (int look = 0; look < 3; ++look) {
    {
      const MutexLock lock(mutex_);
      if (!channel_) return true;
      if (channel_->pending()) return false;
      for (const auto& worker : workers_) {
        if (worker->is_working()) return false;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

void Session::publish(const Agreement& agreement) {
  agreement_ = agreement;
  const MutexLock lock(mutex_);
  published_ = agreement;
}

Connection Session::connection() const {
  const MutexLock lock(mutex_);
  return published_.connection;
}

bool Session::over_io_uring() const {
  const MutexLock lock(mutex_);
  return published_.has(abi::init_flag::kOverIoUring);
}

SessionStats Session::stats() const {
  SessionStats sum;
  std::array<OperationStats, abi::kOpcodeLimit> operations;
  const MutexLock lock(mutex_);
  for (const auto& worker : workers_) worker->counters().add_to(sum, operations);
  for (std::uint32_t opcode = 0; opcode < abi::kOpcodeLimit; ++opcode) {
    if (operations[opcode].count == 0) continue;
    operations[opcode].name = opcode_name(opcode);
    sum.operations.push_back(std::move(operations[opcode]));
  }
  sum.notifications = notifications_.load();
  sum.open_backing = open_backing_.load();
  sum.threads = static_cast<unsigned>(workers_.size());
  sum.minor = published_.connection.minor;
  sum.transport = workers_.empty() ? "" : workers_.back()->transport();
  return sum;
}

std::shared_ptr<Channel> Session::first_channel() const {
  const MutexLock lock(mutex_);
  return channel_;
}

Status Session::notify(abi::NotifyCode code, std::span<const std::byte> body, std::span<const std::byte> tail) {
  const auto channel = first_channel();
  if (!channel) return fail(ENODEV);
  const abi::OutHeader header{.length = static_cast<std::uint32_t>(sizeof(abi::OutHeader) + body.size() + tail.size()),
                              .error = static_cast<std::int32_t>(code),
                              .unique = 0};
  const auto part = [](std::span<const std::byte> bytes) {
    return iovec{const_cast<std::byte*>(bytes.data()), bytes.size()};
  };
  const iovec parts[] = {part(std::as_bytes(std::span(&header, 1))), part(body), part(tail)};
  notifications_.fetch_add(1, std::memory_order_relaxed);
  const Status sent = channel->send(std::span(parts, tail.empty() ? (body.empty() ? 1 : 2) : 3));
  if (log::debug_enabled()) {
    log::debug("notify code={} {} bytes -> {}", header.error, header.length, sent ? "OK" : sent.error().message());
  }
  return sent;
}

Status Session::notify_name(abi::NotifyCode code, std::span<const std::byte> body, std::string_view name) {
  const std::string ended(name);  // the zero byte goes too
  return notify(code, body, std::as_bytes(std::span(ended.c_str(), ended.size() + 1)));
}

Status Session::inval_attr(NodeId node) {
  const abi::NotifyInvalInode body{.node = raw(node), .offset = -1, .length = 0};
  return notify(abi::NotifyCode::kInvalInode, std::as_bytes(std::span(&body, 1)), {});
}

Status Session::inval_data(NodeId node, std::int64_t offset, std::int64_t length) {
  const abi::NotifyInvalInode body{.node = raw(node), .offset = offset, .length = length};
  return notify(abi::NotifyCode::kInvalInode, std::as_bytes(std::span(&body, 1)), {});
}

Status Session::inval_entry(NodeId parent, std::string_view name) {
  const abi::NotifyInvalEntry body{
      .parent = raw(parent), .name_length = static_cast<std::uint32_t>(name.size()), .flags = 0};
  return notify_name(abi::NotifyCode::kInvalEntry, std::as_bytes(std::span(&body, 1)), name);
}

Status Session::delete_entry(NodeId parent, NodeId child, std::string_view name) {
  const abi::NotifyDelete body{
      .parent = raw(parent), .child = raw(child), .name_length = static_cast<std::uint32_t>(name.size()), .padding = 0};
  return notify_name(abi::NotifyCode::kDelete, std::as_bytes(std::span(&body, 1)), name);
}

Status Session::store_data(NodeId node, std::uint64_t offset, std::span<const std::byte> bytes) {
  const abi::NotifyStore body{
      .node = raw(node), .offset = offset, .size = static_cast<std::uint32_t>(bytes.size()), .padding = 0};
  return notify(abi::NotifyCode::kStore, std::as_bytes(std::span(&body, 1)), bytes);
}

Status Session::resend() {
  {
    const MutexLock lock(mutex_);
    if (!published_.resend()) return fail(EOPNOTSUPP);
  }
  return notify(abi::NotifyCode::kResend, {}, {});
}

Result<std::int32_t> Session::open_backing(int fd) {
  const auto channel = first_channel();
  if (!channel) return fail(ENODEV);
  const auto id = channel->open_backing(sys::FdRef(fd));
  if (id) open_backing_.fetch_add(1, std::memory_order_relaxed);
  return id;
}

Status Session::close_backing(std::int32_t backing_id) {
  const auto channel = first_channel();
  if (!channel) return fail(ENODEV);
  const Status closed = channel->close_backing(backing_id);
  if (closed) open_backing_.fetch_sub(1, std::memory_order_relaxed);
  return closed;
}

}  // namespace vellum::fuse
