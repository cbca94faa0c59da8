// Socket pairs that keep message boundaries, and descriptors passed over sockets.
// Threads: every call is safe from any thread; a message goes to exactly one receiver.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <utility>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

// Two ends of a SOCK_SEQPACKET connection. Their buffers are made to hold messages of `message` bytes if the
// system allows it; message_limit() tells what came of it.
Result<std::pair<UniqueFd, UniqueFd>> packet_socket_pair(std::size_t message);
// The longest message that can be sent at this end.
std::size_t message_limit(FdRef socket);

// Waits until the message can be sent. EPIPE: the other end is gone (no signal is raised).
Status send_message(FdRef socket, std::span<const iovec> parts);
// 0: the other end is closed. A message longer than the buffer is cut.
Result<std::size_t> receive_message(FdRef socket, std::span<std::byte> buffer);
// Ends the connection for both sides; who waits in receive_message() wakes with 0.
void shut_down(FdRef socket);

// A plain stream pair, whose second end survives exec when asked for by process.h.
Result<std::pair<UniqueFd, UniqueFd>> stream_socket_pair();
// Receives one descriptor. EPIPE: the other end closed without sending one.
Result<UniqueFd> receive_fd(FdRef socket);

}  // namespace vellum::sys
