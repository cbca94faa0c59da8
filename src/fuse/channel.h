// How requests come in and replies go out. The Session knows only this; what is behind it may be /dev/fuse, a
// socket pair, or io_uring (uring_channel.h).
//
// Ownership: receive() fills the caller's buffer, or lends memory of its own; either way the bytes stay valid
// until the same thread's next receive() on the channel. A request is answered with send() on the channel that it
// came from, by the thread that received it, before that thread's next receive(). So a channel whose transport
// joins "reply and fetch the next" (io_uring) can keep the reply until then.
// Notifications (unique 0) may be sent by any thread at any time, on the session's first channel.
// Threads: several threads may share a channel that clone() could not multiply.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::fuse {

// A request in one or two pieces: header (and perhaps all of it), then the rest. A struct of the protocol never
// straddles the two.
struct RequestBytes {
  std::span<const std::byte> head;
  std::span<const std::byte> rest = {};
};

class Channel {
 public:
  virtual ~Channel() = default;

  // Waits for a request. ENODEV: the connection has ended. EINTR, ENOENT, EAGAIN: nothing came, ask again.
  virtual Result<RequestBytes> receive(std::span<std::byte> buffer) = 0;
  // Sends one message, whole or not at all. ENOENT: nobody waits for this reply any more.
  virtual Status send(std::span<const iovec> parts) = 0;
  // A channel of the same connection for another thread.
  virtual Result<std::unique_ptr<Channel>> clone() = 0;
  virtual const char* name() const = 0;
  // Whether a request waits to be received, as far as this channel can tell.
  virtual bool pending() const { return false; }
  // Memory in which the reply to the current request may be built, so that send() has nothing to copy. Empty: none.
  virtual std::span<std::byte> reply_space() { return {}; }
  // Before the first receive(), by the same thread: from now on requests may come.
  virtual void start() {}
  // The thread will not receive() again: a reply that was kept goes out.
  virtual void finish() {}
  // The descriptor behind it, if it is /dev/fuse, read and written by system calls of one message each.
  virtual sys::FdRef device() const { return {}; }

  // The longest message this channel can carry, either way.
  virtual std::size_t message_limit() const { return std::numeric_limits<std::size_t>::max(); }

  // Passthrough. can_open_backing() is a guess made before the connection is set up.
  virtual bool can_open_backing() const { return false; }
  virtual Result<std::int32_t> open_backing(sys::FdRef) { return fail(EOPNOTSUPP); }
  virtual Status close_backing(std::int32_t) { return fail(EOPNOTSUPP); }
};

// /dev/fuse, read and written.
class DeviceChannel final : public Channel {
 public:
  explicit DeviceChannel(sys::UniqueFd device) : device_(std::move(device)) {}

  Result<RequestBytes> receive(std::span<std::byte> buffer) override;
  Status send(std::span<const iovec> parts) override;
  Result<std::unique_ptr<Channel>> clone() override;
  const char* name() const override { return "device"; }
  sys::FdRef device() const override { return device_; }
  bool pending() const override;
  bool can_open_backing() const override;
  Result<std::int32_t> open_backing(sys::FdRef file) override;
  Status close_backing(std::int32_t backing_id) override;

 private:
  sys::UniqueFd device_;
};

// One end of a packet socket; a Client is at the other. Needs no kernel support and no rights.
class SocketChannel final : public Channel {
 public:
  explicit SocketChannel(sys::UniqueFd socket) : socket_(std::move(socket)) {}

  Result<RequestBytes> receive(std::span<std::byte> buffer) override;
  Status send(std::span<const iovec> parts) override;
  // A packet socket serves any number of threads as it is.
  Result<std::unique_ptr<Channel>> clone() override { return fail(EOPNOTSUPP); }
  const char* name() const override { return "socket"; }
  std::size_t message_limit() const override;

 private:
  sys::UniqueFd socket_;
};

}  // namespace vellum::fuse
