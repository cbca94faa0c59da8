#include "fuse/channel.h"

#include "sys/fuse_device.h"
#include "sys/packet_socket.h"

namespace vellum::fuse {

Result<RequestBytes> DeviceChannel::receive(std::span<std::byte> buffer) {
  const std::size_t got = TRY(sys::read_request(device_, buffer));
  return RequestBytes{.head = buffer.first(got)};
}

Status DeviceChannel::send(std::span<const iovec> parts) { return sys::write_message(device_, parts); }

Result<std::unique_ptr<Channel>> DeviceChannel::clone() {
  return std::make_unique<DeviceChannel>(TRY(sys::clone_fuse_device(device_)));
}

bool DeviceChannel::pending() const { return sys::request_waits(device_); }

bool DeviceChannel::can_open_backing() const { return sys::may_open_backing(); }

Result<std::int32_t> DeviceChannel::open_backing(sys::FdRef file) { return sys::open_backing(device_, file); }

Status DeviceChannel::close_backing(std::int32_t backing_id) { return sys::close_backing(device_, backing_id); }

Result<RequestBytes> SocketChannel::receive(std::span<std::byte> buffer) {
  const std::size_t got = TRY(sys::receive_message(socket_, buffer));
  // A packet of no bytes and the end of the connection look alike; nobody sends the former.
  if (got == 0) return fail(ENODEV);
  return RequestBytes{.head = buffer.first(got)};
}

Status SocketChannel::send(std::span<const iovec> parts) {
  Status sent = sys::send_message(socket_, parts);
  if (!sent && (sent.error() == EPIPE || sent.error() == ECONNRESET)) return fail(ENODEV);
  return sent;
}

std::size_t SocketChannel::message_limit() const { return sys::message_limit(socket_); }

}  // namespace vellum::fuse
