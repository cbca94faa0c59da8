// The FUSE character device: requests are read from it, replies and notifications written to it.
// A reply must go to the descriptor that its request came from. Threads: every call is safe from any thread.
// Source: facts of Linux include/uapi/linux/fuse.h (ioctls of protocols 7.40 and older).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::sys {

inline constexpr const char* kFuseDevicePath = "/dev/fuse";

Result<UniqueFd> open_fuse_device();
// Another descriptor of the same connection, with its own queue of requests being worked on.
Result<UniqueFd> clone_fuse_device(FdRef device);

// One whole request. ENODEV: unmounted. ENOENT: it was withdrawn, read again. EINTR: a signal came.
Result<std::size_t> read_request(FdRef device, std::span<std::byte> buffer);
// Whether a request could be read at once.
bool request_waits(FdRef device);
// One whole message; it is taken as a whole or not at all.
Status write_message(FdRef device, std::span<const iovec> parts);

// Whether this process may register backing files at all (CAP_SYS_ADMIN in the first user namespace).
bool may_open_backing();
// Writes that pass through are done with the rights of the thread that registered the file. It keeps CAP_FSETID out of
// them, so that they take setuid and setgid bits as anybody's would.
Result<std::int32_t> open_backing(FdRef device, FdRef file);
Status close_backing(FdRef device, std::int32_t backing_id);

}  // namespace vellum::sys
