#include "composefs/image_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/process.h"
#include "sys/thread.h"
#include "sys/verity.h"

namespace vellum::composefs {
namespace {

// A copy is memory. Larger images can be had with fs-verity, which needs none.
constexpr std::uint64_t kLargestCopy = std::uint64_t{4} << 30;

VerityFormat format_of(const Digest& digest) {
  return {.hash = digest.size == VerityFormat{}.digest_size() ? Hash::kSha256 : Hash::kSha512, .block_bits = 12};
}

// How much of the file the image takes, as its superblock has it; of what has none, as much as it takes to see that. A
// file may be far larger, at no cost to its owner.
std::uint64_t image_size(sys::FdRef file, std::uint64_t file_size) {
  erofs::SuperBlock super;
  std::array<std::byte, sizeof super> bytes;
  const auto got = sys::pread(file, bytes, erofs::kSuperBlockOffset);
  std::uint64_t size = erofs::kFirstInodeOffset;
  if (got && *got == sizeof super) {
    std::memcpy(&super, bytes.data(), sizeof super);
    if (super.magic == erofs::kSuperMagic && super.block_bits <= erofs::kMostBlockBits)
      size = std::max(size, std::uint64_t{super.blocks} << super.block_bits);
  }
  return std::min(size, file_size);
}

std::string wrong_digest(const Digest& expected, const Digest& found) {
  return fmt::format("wrong content: digest expected {}, found {}", expected.hex(), found.hex());
}

}  // namespace

std::expected<std::unique_ptr<ImageFile>, std::string> ImageFile::load(sys::FdRef file,
                                                                       const std::optional<Digest>& expected) {
  return load(file, expected, false);
}

std::expected<std::unique_ptr<ImageFile>, std::string> ImageFile::hold(sys::FdRef file,
                                                                       const std::optional<Digest>& expected) {
  return load(file, expected, true);
}

std::expected<std::unique_ptr<ImageFile>, std::string> ImageFile::load(sys::FdRef file,
                                                                       const std::optional<Digest>& expected,
                                                                       bool serves) {
  std::unique_ptr<ImageFile> loaded(new ImageFile);
  const bool fixed = sys::cannot_change(file);
  // What was measured must be what is served: a lease holds back those who write by way of the file, not those who
  // write to the disk below it.
  const bool map = fixed || (serves && !expected && loaded->take_lease(file));
  const auto st = sys::statx(file, "");  // of the size that stays
  if (!st) return std::unexpected(st.error().message());
  if (!st->is_regular()) return std::unexpected("is no regular file");
  const std::uint64_t size = serves && !expected ? image_size(file, st->size) : st->size;
  if (!fixed && size > kLargestCopy)
    return std::unexpected(
        fmt::format("is larger than {} GiB: give it fs-verity, so that it need not be copied", kLargestCopy >> 30));
  auto mapping = map ? sys::FileMapping::map(file, size) : sys::FileMapping::copy(file, size);
  if (!mapping) return std::unexpected("cannot be brought into memory: " + mapping.error().message());
  loaded->mapping_ = std::move(*mapping);
  sys::FaultGuard::Mark mark;
  if (map && serves) {
    auto guard = sys::FaultGuard::create(loaded->mapping_, file);
    if (!guard) return std::unexpected("cannot be guarded: " + guard.error().message());
    loaded->guard_ = std::move(*guard);
    mark = loaded->guard_->mark();
  }
  std::optional<Digest> found = expected;
  if (expected && !(fixed && kernel_vouches(file, *expected)))
    found = digest_of_bytes(loaded->mapping_.bytes(), format_of(*expected), default_threads());
  auto image = erofs::Image::open(loaded->mapping_.bytes());
  if (loaded->guard_ && !loaded->guard_->whole_since(mark))
    return std::unexpected(fmt::format("cannot be read at byte {}", loaded->guard_->last_fault()));
  if (found != expected) return std::unexpected(wrong_digest(*expected, *found));
  if (!image) return std::unexpected(std::move(image.error()));
  loaded->image_ = std::move(*image);
  if (loaded->held_) loaded->held_->watcher = std::thread([self = loaded.get()] { self->watch(); });
  return loaded;
}

ImageFile::~ImageFile() {
  if (!held_ || !held_->watcher.joinable()) return;
  held_->asked.interrupt();
  held_->watcher.join();
}

// Only of files that nobody but us and root may write to: whoever may has ways that a lease does not know of
// (truncate(2) by way of an overlay), by which it would change under our users.
Status ImageFile::take_lease(sys::FdRef file) {
  const sys::Statx st = TRY(sys::statx(file, ""));
  const bool ours = st.uid == 0 || st.uid == sys::effective_uid();
  if (!ours || (st.mode & (S_IWGRP | S_IWOTH)) != 0) return fail(EPERM);
  TRY(sys::block_signals({SIGIO}));
  auto asked = TRY(sys::SignalQueue::create({SIGIO}));
  held_ = Held{.lease = TRY(sys::ReadLease::take(file)), .asked = std::move(asked), .watcher = {}};
  return {};
}

void ImageFile::watch() {
  sys::name_this_thread("image-lease");
  const auto asked = held_->asked.next();
  if (!asked || *asked == 0) return;
  Status kept = guard_->detach();
  if (kept) kept = held_->lease.give_back();
  if (kept) return log::info("the image is being written to: going on with a copy of it");
  log::error("the image is being written to, and cannot be kept as it was ({}): ending", kept.error().message());
  ignore(sys::send_signal(sys::this_process(), SIGTERM));
}

std::expected<ImageHeader, std::string> read_image_header(sys::FdRef file) {
  std::array<std::byte, erofs::kFirstInodeOffset> start{};
  const auto got = sys::pread(file, start, 0);
  if (!got) return std::unexpected(got.error().message());
  erofs::ComposefsHeader header;
  erofs::SuperBlock super;
  std::memcpy(&header, start.data(), sizeof header);
  std::memcpy(&super, start.data() + erofs::kSuperBlockOffset, sizeof super);
  if (*got < start.size() || super.magic != erofs::kSuperMagic) return std::unexpected("is no EROFS image");
  const bool composefs = header.magic == erofs::kComposefsMagic;
  if (composefs && header.version != erofs::kComposefsVersion)
    return std::unexpected(fmt::format("composefs header of version {}: not supported", std::uint32_t{header.version}));
  return ImageHeader{.composefs = composefs, .has_acl = !composefs || (header.flags & erofs::kComposefsHasAcl) != 0};
}

bool kernel_vouches(sys::FdRef file, const Digest& digest) {
  const auto measured = sys::measure_verity(file);
  return measured && measured->size == digest.size && measured->digest == digest.bytes;
}

bool has_verity(sys::FdRef directory) {
  const auto measured = sys::measure_verity(directory);
  return measured || measured.error() == ENODATA;
}

}  // namespace vellum::composefs
