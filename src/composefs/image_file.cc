#include "composefs/image_file.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "sys/file.h"
#include "sys/verity.h"

namespace vellum::composefs {
namespace {

// A copy is memory. Larger images can be had with fs-verity, which needs none.
constexpr std::uint64_t kLargestCopy = std::uint64_t{4} << 30;

VerityFormat format_of(const Digest& digest) {
  return {.hash = digest.size == VerityFormat{}.digest_size() ? Hash::kSha256 : Hash::kSha512, .block_bits = 12};
}

std::string wrong_digest(const Digest& expected, const Digest& found) {
  return fmt::format("wrong content: digest expected {}, found {}", expected.hex(), found.hex());
}

}  // namespace

std::expected<std::unique_ptr<ImageFile>, std::string> ImageFile::load(sys::FdRef file,
                                                                       const std::optional<Digest>& expected) {
  const auto st = sys::statx(file, "");
  if (!st) return std::unexpected(st.error().message());
  if (!st->is_regular()) return std::unexpected("is no regular file");
  std::unique_ptr<ImageFile> loaded(new ImageFile);
  loaded->shared_ = sys::cannot_change(file);
  if (!loaded->shared_ && st->size > kLargestCopy)
    return std::unexpected(
        fmt::format("is larger than {} GiB: give it fs-verity, so that it need not be copied", kLargestCopy >> 30));
  auto mapping = loaded->shared_ ? sys::FileMapping::map(file, st->size) : sys::FileMapping::copy(file, st->size);
  if (!mapping) return std::unexpected("cannot be brought into memory: " + mapping.error().message());
  loaded->mapping_ = std::move(*mapping);
  if (expected && !(loaded->shared_ && kernel_vouches(file, *expected))) {
    const Digest found = digest_of_bytes(loaded->mapping_.bytes(), format_of(*expected), default_threads());
    if (found != *expected) return std::unexpected(wrong_digest(*expected, found));
  }
  auto image = erofs::Image::open(loaded->mapping_.bytes());
  if (!image) return std::unexpected(std::move(image.error()));
  loaded->image_ = std::move(*image);
  return loaded;
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
