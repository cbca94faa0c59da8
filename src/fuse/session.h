// The server's side of the protocol: agrees on it with the kernel (or a Client), reads requests on several threads,
// calls the Filesystem, answers, and notifies. It knows nothing of layers, mounts or options.
//
// Life: make it, then run() on the thread that may block. run() answers INIT (calling Filesystem::init and then
// on_ready), serves until the connection ends or stop() is called, joins its workers, calls Filesystem::destroy.
// Replies that the kernel no longer wants are undone: counted lookups are forgotten, opened handles released.
//
// Threads: run() once; everything else from any thread at any time. stop() must not be called from inside a
// Filesystem operation or on_ready. Errors: those of the channel; a failing request is answered, never fatal.
#pragma once

#include <pthread.h>

#include <atomic>
#include <functional>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fuse/channel.h"
#include "fuse/filesystem.h"
#include "fuse/negotiate.h"
#include "fuse/stats.h"

namespace vellum::fuse {

struct SessionOptions {
  Wishes wishes = {};
  unsigned ring_threads = 0;  // when requests come over io_uring; 0: two for each CPU
  // INIT was answered and this many workers exist: the mount is usable.
  std::function<void(unsigned workers)> on_ready = {};
  // In each thread that serves, before its first request after INIT.
  std::function<void()> on_thread = {};
};

class Worker;

class Session final : public Notifier {
 public:
  explicit Session(Filesystem& filesystem, SessionOptions options = {});
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Serves with `threads` threads, the calling one among them; over io_uring with ring_threads, while the calling one
  // sees to the device. A single thread stays alone, on the device. Success: unmounted, or stopped.
  Status run(std::unique_ptr<Channel> channel, unsigned threads);
  // Ends run() even while the mount is busy; returns once no worker takes requests any more.
  void stop();
  // No request waits or is worked on at this moment.
  bool idle() const;

  SessionStats stats() const;
  // What was agreed; minor is 0 before INIT was answered.
  Connection connection() const;
  // Whether INIT came to requests over io_uring.
  bool over_io_uring() const;

  Status inval_attr(NodeId node) override;
  Status inval_data(NodeId node, std::int64_t offset, std::int64_t length) override;
  Status inval_entry(NodeId parent, std::string_view name) override;
  Status delete_entry(NodeId parent, NodeId child, std::string_view name) override;
  Status store_data(NodeId node, std::uint64_t offset, std::span<const std::byte> bytes) override;
  Result<std::int32_t> open_backing(int fd) override;
  Status close_backing(std::int32_t backing_id) override;
  // Has every unanswered request sent again, to whoever reads now. EOPNOTSUPP before 7.40.
  Status resend();

 private:
  friend class Worker;

  enum class Gate { kClosed, kOpen, kAbandoned };

  Status serve(std::shared_ptr<Channel> channel, unsigned threads);
  Status notify(abi::NotifyCode code, std::span<const std::byte> body, std::span<const std::byte> tail);
  Status notify_name(abi::NotifyCode code, std::span<const std::byte> body, std::string_view name);
  Worker* add_worker(std::shared_ptr<Channel> channel, const Agreement& agreement);
  void work(Worker* worker);
  unsigned start_workers(const std::shared_ptr<Channel>& channel, unsigned threads);
  // Threads with a ring each, which wait until INIT is answered. False: there are none, and nothing is left of them.
  bool start_rings(const Agreement& agreement);
  void open_gate(Gate gate);
  std::shared_ptr<Channel> first_channel() const;
  void publish(const Agreement& agreement);

  Filesystem& filesystem_;
  const SessionOptions options_;
  Agreement agreement_;  // written while INIT is answered, by the only worker there is then
  unsigned wanted_threads_ = 1;
  unsigned ring_workers_ = 0;
  std::atomic<Gate> gate_{Gate::kClosed};      // what the threads with rings wait for
  std::unique_ptr<std::latch> rings_started_;  // and then for one another
  std::atomic<int> failure_{0};                // why a worker gave up
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> notifications_{0}, open_backing_{0};

  mutable Mutex mutex_;
  std::shared_ptr<Channel> channel_ VELLUM_GUARDED_BY(mutex_);
  Agreement published_ VELLUM_GUARDED_BY(mutex_);  // agreement_ for other threads
  std::vector<std::unique_ptr<Worker>> workers_ VELLUM_GUARDED_BY(mutex_);
  std::vector<std::jthread> threads_;  // of the run() thread
};

}  // namespace vellum::fuse
