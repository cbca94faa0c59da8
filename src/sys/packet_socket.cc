#include "sys/packet_socket.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

namespace vellum::sys {
namespace {

// A packet is built from one linear part and at most 17 pages when memory is scarce; what is below this size
// the kernel can always allocate.
constexpr std::size_t kSafeMessage = 160 * 1024;

void grow_buffer(FdRef socket, std::size_t bytes) {
  const int size = static_cast<int>(std::min<std::size_t>(bytes, 64 << 20));
  // Best effort: the first needs CAP_NET_ADMIN, the second is capped by net.core.wmem_max.
  if (::setsockopt(socket.raw(), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
    ::setsockopt(socket.raw(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

Result<std::pair<UniqueFd, UniqueFd>> socket_pair(int type) {
  int ends[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno();
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> packet_socket_pair(std::size_t message) {
  auto ends = TRY(socket_pair(SOCK_SEQPACKET));
  // Several messages should fit, so that a sender rarely waits.
  grow_buffer(ends.first, 4 * message);
  grow_buffer(ends.second, 4 * message);
  return ends;
}

std::size_t message_limit(FdRef socket) {
  int size = 0;
  socklen_t length = sizeof size;
  if (::getsockopt(socket.raw(), SOL_SOCKET, SO_SNDBUF, &size, &length) != 0) return 4096;
  const auto room = static_cast<std::size_t>(std::max(size, 8192));
  return std::min(room - 4096, kSafeMessage);
}

Status send_message(FdRef socket, std::span<const iovec> parts) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  while (::sendmsg(socket.raw(), &message, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return fail_errno();
  }
  return {};
}

Result<std::size_t> receive_message(FdRef socket, std::span<std::byte> buffer) {
  const ssize_t got = ::recv(socket.raw(), buffer.data(), buffer.size(), 0);
  if (got < 0) {
    if (errno == ECONNRESET) return std::size_t{0};
    return fail_errno();
  }
  return static_cast<std::size_t>(got);
}

void shut_down(FdRef socket) { ::shutdown(socket.raw(), SHUT_RDWR); }

Result<std::pair<UniqueFd, UniqueFd>> stream_socket_pair() { return socket_pair(SOCK_STREAM); }

Result<UniqueFd> receive_fd(FdRef socket) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket.raw(), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return fail_errno();
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (got == 0 || header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
    return fail(EPIPE);
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

}  // namespace vellum::sys
