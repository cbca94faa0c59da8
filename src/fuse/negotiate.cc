#include "fuse/negotiate.h"

#include <algorithm>

namespace vellum::fuse {

namespace flag = abi::init_flag;

namespace {

// A request that carries data: its headers before it.
constexpr std::size_t kWriteOverhead = sizeof(abi::InHeader) + sizeof(abi::WriteIn);

std::uint32_t round_down(std::size_t bytes) {
  return static_cast<std::uint32_t>(std::max(bytes / abi::kPageSize, std::size_t{1}) * abi::kPageSize);
}

}  // namespace

Agreement agree(const abi::InitIn& offer, const Wishes& wishes, std::size_t message_limit, bool backing) {
  std::uint64_t offered = offer.flags;
  if ((offered & flag::kInitExt) != 0) offered |= std::uint64_t{offer.flags2} << 32;
  const auto both = [offered](bool wished, std::uint64_t bit) { return wished && (offered & bit) != 0; };

  Agreement agreement;
  // In effect whatever the file system thinks of them: they change how messages travel, not what they mean.
  constexpr std::uint64_t kAlways = flag::kAsyncRead | flag::kBigWrites | flag::kAsyncDio | flag::kMaxPages |
                                    flag::kSetxattrExt | flag::kInitExt | flag::kHasResend | flag::kSpliceWrite |
                                    flag::kSpliceMove | flag::kSpliceRead;
  agreement.flags = offered & kAlways;
  if (both(wishes.explicit_inval_data, flag::kExplicitInvalData)) agreement.flags |= flag::kExplicitInvalData;
  if (both(wishes.io_uring, flag::kOverIoUring)) agreement.flags |= flag::kOverIoUring;
  if (both(wishes.direct_io_mmap, flag::kDirectIoAllowMmap)) agreement.flags |= flag::kDirectIoAllowMmap;

  Connection& connection = agreement.connection;
  connection.minor = std::min(offer.minor, wishes.newest_minor);
  // Without kMaxPages the kernel moves 32 pages at a time.
  constexpr std::size_t kPagesBefore = 32;
  std::size_t max_write = round_down(wishes.max_write);
  if ((offered & flag::kMaxPages) == 0) max_write = std::min(max_write, kPagesBefore * abi::kPageSize);
  max_write = std::min<std::size_t>(max_write, round_down(message_limit - std::min(message_limit, kWriteOverhead)));
  max_write = std::min<std::size_t>(max_write, std::size_t{65535} * abi::kPageSize);
  connection.max_write = static_cast<std::uint32_t>(max_write);
  agreement.max_pages = static_cast<std::uint16_t>(max_write / abi::kPageSize);
  agreement.max_readahead = std::min(offer.max_readahead, wishes.max_readahead);

  connection.writeback_cache = both(wishes.writeback_cache, flag::kWritebackCache);
  connection.posix_acl = both(wishes.posix_acl, flag::kPosixAcl);
  connection.dont_mask = both(wishes.dont_mask, flag::kDontMask);
  connection.handle_killpriv_v2 = both(wishes.handle_killpriv_v2, flag::kHandleKillprivV2);
  connection.readdirplus = both(wishes.readdirplus, flag::kDoReaddirplus);
  connection.atomic_o_trunc = both(wishes.atomic_o_trunc, flag::kAtomicOTrunc);
  connection.passthrough = both(wishes.passthrough && backing, flag::kPassthrough);
  connection.export_support = both(wishes.export_support, flag::kExportSupport);
  connection.cache_symlinks = both(wishes.cache_symlinks, flag::kCacheSymlinks);
  connection.parallel_dirops = both(wishes.parallel_dirops, flag::kParallelDirops);
  connection.no_open = (offered & flag::kNoOpenSupport) != 0;
  connection.no_opendir = (offered & flag::kNoOpendirSupport) != 0;
  connection.no_fsync = true;
  // Remembered here only to know whether it was offered; settle() drops it with kDoReaddirplus.
  if (both(wishes.readdirplus_auto, flag::kReaddirplusAuto)) agreement.flags |= flag::kReaddirplusAuto;
  return agreement;
}

abi::InitOut settle(Agreement& agreement, const Wishes& wishes) {
  Connection& connection = agreement.connection;
  // The kernel turns passthrough down on a connection with writeback cache.
  if (connection.passthrough) connection.writeback_cache = false;
  const auto set = [&agreement](bool on, std::uint64_t bit) {
    if (on) agreement.flags |= bit;
  };
  set(connection.writeback_cache, flag::kWritebackCache);
  set(connection.posix_acl, flag::kPosixAcl);
  set(connection.dont_mask, flag::kDontMask);
  set(connection.handle_killpriv_v2, flag::kHandleKillprivV2);
  set(connection.readdirplus, flag::kDoReaddirplus);
  set(connection.atomic_o_trunc, flag::kAtomicOTrunc);
  set(connection.passthrough, flag::kPassthrough);
  set(connection.export_support, flag::kExportSupport);
  set(connection.cache_symlinks, flag::kCacheSymlinks);
  set(connection.parallel_dirops, flag::kParallelDirops);
  if (!connection.readdirplus) agreement.flags &= ~flag::kReaddirplusAuto;

  abi::InitOut out{};
  out.major = abi::kMajor;
  out.minor = connection.minor;
  out.max_readahead = agreement.max_readahead;
  out.flags = static_cast<std::uint32_t>(agreement.flags);
  out.flags2 = static_cast<std::uint32_t>(agreement.flags >> 32);
  out.max_background = wishes.max_background;
  out.congestion_threshold = static_cast<std::uint16_t>(wishes.max_background - wishes.max_background / 4);
  out.max_write = connection.max_write;
  out.time_gran = 1;
  out.max_pages = agreement.has(flag::kMaxPages) ? agreement.max_pages : std::uint16_t{0};
  out.max_stack_depth = connection.passthrough ? wishes.max_stack_depth : 0;
  return out;
}

}  // namespace vellum::fuse
