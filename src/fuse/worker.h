// One thread of a Session: its channel, its buffers, and the request it is working on. Not part of the API.
//
// The buffers are made once; answering a request allocates nothing beyond what the Filesystem itself returns.
// Threads: everything belongs to the worker's own thread, except counters() and try_wake().
#pragma once

#include <pthread.h>

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "fuse/channel.h"
#include "fuse/decode.h"
#include "fuse/page_buffer.h"
#include "fuse/session.h"
#include "fuse/splice_lane.h"

namespace vellum::fuse {

class Worker {
 public:
  // `agreement`: what INIT came to; its minor is 0 for the worker that is to serve INIT.
  Worker(Session& session, std::shared_ptr<Channel> channel, const Agreement& agreement);

  // Serves until INIT is answered (success), refused, or the connection ends.
  Status serve_init();
  // For a channel that must be ready before others are served; by the thread that will serve().
  void start() { channel_->start(); }
  // Serves until the connection ends (success: unmounted or stopped) or fails.
  Status serve();
  // Wakes the worker if it sleeps in receive(). True while it has not left serve().
  bool try_wake();
  bool is_working() const { return state_.load() == State::kWorking; }

  Counters& counters() { return counters_; }
  // How requests reach it. Guarded, as close_channel(), by the session's mutex.
  const char* transport() const { return channel_ ? channel_->name() : transport_; }
  // After serve(): lets go of the descriptor. The counters stay.
  void close_channel();

 private:
  enum class State { kIdle, kReceiving, kWorking, kLeft };

  Result<bool> serve_one();  // false: the connection has ended
  void work(const RequestBytes& bytes);
  void dispatch(const Operation& operation);
  void count(bool failed);

  void on(const op::Lookup&);
  void on(const op::Forget&);
  void on(const op::BatchForget&);
  void on(const op::Getattr&);
  void on(const op::Statx&);
  void on(const op::Setattr&);
  void on(const op::Readlink&);
  void on(const op::Symlink&);
  void on(const op::Mknod&);
  void on(const op::Mkdir&);
  void on(const op::Unlink&);
  void on(const op::Rmdir&);
  void on(const op::Rename&);
  void on(const op::Link&);
  void on(const op::Open&);
  void on(const op::Create&);
  void on(const op::Tmpfile&);
  void on(const op::Read&);
  void on(const op::Write&);
  void on(const op::Statfs&);
  void on(const op::Release&);
  void on(const op::Fsync&);
  void on(const op::Setxattr&);
  void on(const op::Getxattr&);
  void on(const op::Listxattr&);
  void on(const op::Removexattr&);
  void on(const op::Flush&);
  void on(const op::Init&);
  void on(const op::Opendir&);
  void on(const op::Readdir&);
  void on(const op::Readdirplus&);
  void on(const op::Releasedir&);
  void on(const op::Fsyncdir&);
  void on(const op::Access&);
  void on(const op::Interrupt&);
  void on(const op::Ioctl&);
  void on(const op::Fallocate&);
  void on(const op::Lseek&);
  void on(const op::CopyFileRange&);
  void on(const op::Syncfs&);
  void on(const op::Destroy&);

  // Each sends the one reply of the current request; false if nobody wanted it any more.
  bool reply_error(Errno error);
  bool reply_bytes(const void* body, std::size_t size, const void* more = nullptr, std::size_t more_size = 0);
  template <class T>
  bool reply(const T& body) {
    return reply_bytes(&body, sizeof body);
  }
  bool reply_status(const Status& status);
  bool reply_empty() { return reply_bytes(nullptr, 0); }
  void reply_entry(const Result<Entry>& entry);
  void reply_created(const Result<Created>& created);
  void reply_xattr(const Result<std::string>& value, std::uint32_t size);
  bool send(const abi::OutHeader& header, const void* body, std::size_t size, const void* more, std::size_t more_size);
  // What became of the reply; true if somebody wanted it.
  bool delivered(const abi::OutHeader& header, const Status& sent);
  // False: it is to be answered as usual.
  bool read_by_splice(const op::Read& o);
  Result<std::size_t> put(const op::Write& o);
  // Where a long reply is built: in the channel's memory if it lends some.
  std::span<std::byte> output(std::uint32_t wanted);

  Session& session_;
  Filesystem& filesystem_;
  std::shared_ptr<Channel> channel_;
  const char* transport_ = "";  // of a channel that was closed
  DecodeOptions decode_;
  std::size_t payload_;  // the most bytes in a READ, WRITE or READDIR
  PageBuffer in_, out_;
  std::optional<SpliceLane> lane_;  // long reads and writes, on /dev/fuse
  std::vector<NodeId> counted_;     // by the READDIRPLUS reply being made
  Counters counters_;

  Header header_;  // of the current request
  std::uint64_t started_ns_ = 0;
  int error_ = 0;  // what it was answered
  bool answered_ = false;
  bool ready_ = false;  // INIT was answered
  int refused_ = 0;     // why INIT was not

  void leave();

  std::atomic<State> state_{State::kIdle};
  Mutex leaving_;  // held to become kLeft, and by who wakes: a thread must not end between look and wake
  pthread_t thread_{};
};

}  // namespace vellum::fuse
