// INIT: what we would like, what the kernel offers, what is agreed. No I/O.
// Threads: pure functions on plain values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fuse/abi.h"
#include "fuse/filesystem.h"

namespace vellum::fuse {

// What the mount's owner would like; each comes true only if the kernel offers it and the file system agrees.
struct Wishes {
  std::uint32_t newest_minor = abi::kNewestMinor;
  std::uint32_t max_write = 512 << 10;  // bytes in one READ or WRITE; a plain user gets a pipe that holds one
  std::uint32_t max_readahead = 1 << 20;
  std::uint16_t max_background = 64;
  std::uint32_t max_stack_depth = 1;  // of passthrough: 1 lets one more stacked file system lie over us
  bool writeback_cache = false;       // passthrough wins where both are wished and possible
  bool passthrough = false;
  bool posix_acl = false;
  bool dont_mask = true;
  bool handle_killpriv_v2 = true;
  bool atomic_o_trunc = true;
  bool export_support = false;
  bool readdirplus = true;
  bool readdirplus_auto = true;
  bool cache_symlinks = true;
  bool parallel_dirops = true;
  bool explicit_inval_data = true;
  bool direct_io_mmap = true;
  bool splice = true;    // long reads and writes without our memory, where requests are read from /dev/fuse
  bool io_uring = true;  // requests over io_uring, where kernel and process can
};

struct Agreement {
  Connection connection;
  std::uint64_t flags = 0;  // init_flag
  std::uint32_t max_readahead = 0;
  std::uint16_t max_pages = 0;
  bool has(std::uint64_t flag) const { return (flags & flag) == flag; }
  bool setxattr_ext() const { return has(abi::init_flag::kSetxattrExt); }
  bool resend() const { return has(abi::init_flag::kHasResend); }
};

// `message_limit`: of the channel. `backing`: whether it can register backing files.
Agreement agree(const abi::InitIn& offer, const Wishes& wishes, std::size_t message_limit, bool backing);
// The reply, after Filesystem::init may have switched off some of agreement.connection. Updates the agreement.
abi::InitOut settle(Agreement& agreement, const Wishes& wishes);

}  // namespace vellum::fuse
