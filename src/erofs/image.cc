#include "erofs/image.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "base/log.h"

namespace vellum::erofs {
namespace {

constexpr std::uint32_t kKnownIncompat = kIncompatZeroPadding | kIncompatChunked;
constexpr std::uint32_t kMostChunkBits = 63;
constexpr std::uint64_t kLongestLink = 4095;
constexpr std::uint32_t kMostNsec = 999'999'999;

// What a superblock asks for and we do not do. In the words of mkfs.erofs's options where there are some.
struct Feature {
  std::uint32_t bit;
  const char* name;
};
constexpr std::array<Feature, 7> kUnsupported = {{{kIncompatCompression, "compressed data"},
                                                  {kIncompatDevices, "several devices, or compression heads"},
                                                  {kIncompatZTailPacking, "compressed tails"},
                                                  {kIncompatFragments, "fragments or deduplication"},
                                                  {kIncompatXattrPrefixes, "long xattr name prefixes"},
                                                  {kIncompat48Bit, "48-bit block addresses"},
                                                  {kIncompatMetabox, "a metadata box"}}};

std::string unsupported_features(std::uint32_t incompat) {
  std::string text;
  for (const Feature& feature : kUnsupported) {
    if ((incompat & feature.bit) != 0) text += (text.empty() ? "" : ", ") + std::string(feature.name);
    incompat &= ~feature.bit;
  }
  incompat &= ~kKnownIncompat;
  if (incompat != 0) text += fmt::format("{}unknown features {:#x}", text.empty() ? "" : ", ", incompat);
  return text;
}

constexpr std::array<std::uint32_t, 256> crc32c_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78u : 0u);
    table[i] = value;
  }
  return table;
}

// Seeded with all ones and not inverted at the end, as EROFS has it.
std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> bytes) {
  static constexpr auto kTable = crc32c_table();
  for (const std::byte byte : bytes) crc = kTable[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xff] ^ (crc >> 8);
  return crc;
}

// Over the rest of the block (the first 1024 bytes belong to somebody else), with the field itself taken for zero.
std::uint32_t super_checksum(std::span<const std::byte> bytes, SuperBlock super, std::uint64_t block_size) {
  const std::uint64_t end = block_size > kSuperBlockOffset ? block_size : block_size + kSuperBlockOffset;
  super.checksum = 0;
  const std::uint32_t crc = crc32c(~0u, std::as_bytes(std::span(&super, 1)));
  return crc32c(crc, bytes.subspan(kFirstInodeOffset, end - kFirstInodeOffset));
}

dev_t decode_device(std::uint32_t value) {
  return makedev((value & 0xfff00) >> 8, (value & 0xff) | ((value >> 12) & 0xfff00));
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::uint32_t filter_bit(std::uint8_t index, std::string_view suffix) {
  return 1u << (XXH32(suffix.data(), suffix.size(), kXattrFilterSeed + index) & (kXattrFilterBits - 1));
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

void report_to_log(std::string_view line) { log::error("{}", line); }

std::pair<std::uint8_t, std::string_view> split_xattr_name(std::string_view name) {
  for (std::uint8_t index = kXattrUser; index <= kXattrSecurity; ++index) {
    if (name.starts_with(kXattrPrefixes[index])) return {index, name.substr(kXattrPrefixes[index].size())};
  }
  return {kXattrNone, name};
}

template <class T>
std::optional<T> Image::copy_at(std::uint64_t offset) const {
  if (!inside(offset, sizeof(T))) return std::nullopt;
  T value;
  std::memcpy(&value, bytes_.data() + offset, sizeof(T));
  return value;
}

std::expected<Image, std::string> Image::open(std::span<const std::byte> bytes, const ImageOptions& options) {
  Image image;
  image.bytes_ = bytes;
  image.options_ = options;
  const auto super = image.copy_at<SuperBlock>(kSuperBlockOffset);
  if (!super) return std::unexpected(fmt::format("no EROFS image: only {} bytes", bytes.size()));
  if (super->magic != kSuperMagic) return std::unexpected("no EROFS image: no superblock at byte 1024");
  image.super_ = *super;
  if (const std::string features = unsupported_features(super->feature_incompat); !features.empty())
    return std::unexpected("this EROFS image needs what is not supported: " + features);
  if (super->block_bits < kLeastBlockBits || super->block_bits > kMostBlockBits)
    return std::unexpected(fmt::format("damaged superblock: blocks of 2^{} bytes", super->block_bits));
  if (super->dir_block_bits != 0) return std::unexpected("this EROFS image has directory blocks of another size");
  if (super->extra_devices != 0) return std::unexpected("this EROFS image spans several devices: not supported");

  image.block_bits_ = super->block_bits;
  image.block_size_ = 1u << super->block_bits;
  image.blocks_ = super->blocks;
  const std::uint64_t size = image.blocks_ << image.block_bits_;
  if (size > bytes.size()) return std::unexpected(fmt::format("truncated: {} bytes, should be {}", bytes.size(), size));
  if (size < kFirstInodeOffset) return std::unexpected(fmt::format("damaged superblock: {} blocks", image.blocks_));
  image.bytes_ = bytes.first(size);
  if ((super->feature_compat & kCompatChecksum) != 0 && options.check_checksum) {
    const std::uint64_t end =
        image.block_size_ > kSuperBlockOffset ? image.block_size_ : image.block_size_ + kSuperBlockOffset;
    if (size < end || super_checksum(image.bytes_, *super, image.block_size_) != super->checksum)
      return std::unexpected("damaged superblock: wrong checksum");
  }
  image.meta_at_ = std::uint64_t{super->meta_block} << image.block_bits_;
  image.shared_xattrs_at_ = std::uint64_t{super->xattr_block} << image.block_bits_;
  if (image.meta_at_ >= size || image.shared_xattrs_at_ > size)
    return std::unexpected("damaged superblock: its areas lie outside of the image");
  if (const auto header = image.copy_at<ComposefsHeader>(0); header && header->magic == kComposefsMagic) {
    if (header->version != kComposefsVersion)
      return std::unexpected(
          fmt::format("composefs header of version {}: not supported", std::uint32_t{header->version}));
    image.composefs_ = header;
  }

  image.root_ = Nid{std::uint16_t{super->root_nid}};
  const auto root = image.inode(image.root_);
  if (!root) return std::unexpected("damaged: the root directory cannot be read");
  if (!root->is_dir()) return std::unexpected("damaged: its root is no directory");
  return image;
}

void Image::report(std::string_view line) const {
  if (options_.report == nullptr) return;
  const std::uint64_t before = reports_->fetch_add(1, std::memory_order_relaxed);
  if (before < kMostReports) options_.report(line);
  if (before + 1 == kMostReports) options_.report("image damaged in many places: no more of them are told");
}

std::unexpected<Errno> Image::damaged(Nid nid, const char* what) const {
  report(fmt::format("image damaged at inode {}: {}", raw(nid), what));
  return fail(EUCLEAN);
}

std::unexpected<Errno> Image::unsupported(Nid nid, const char* what) const {
  report(fmt::format("image, inode {}: {}: not supported", raw(nid), what));
  return fail(EOPNOTSUPP);
}

Result<Inode> Image::inode(Nid nid) const {
  if (raw(nid) >= bytes_.size() >> kSlotBits) return damaged(nid, "lies outside of the image");
  const std::uint64_t at = meta_at_ + (raw(nid) << kSlotBits);
  const auto compact = copy_at<CompactInode>(at);
  if (!compact || at < kFirstInodeOffset) return damaged(nid, "lies outside of the image");
  const std::uint16_t format = compact->format;
  if ((format & ~kFormatKnownBits) != 0) return unsupported(nid, "its format");
  const auto layout = static_cast<Layout>((format >> kFormatLayoutShift) & kFormatLayoutMask);
  if (layout == Layout::kCompressed || layout == Layout::kCompressedFull) return unsupported(nid, "compressed data");
  if (layout != Layout::kPlain && layout != Layout::kInline && layout != Layout::kChunks)
    return unsupported(nid, "its layout");

  Inode inode;
  inode.nid = nid;
  inode.layout = layout;
  inode.mode = compact->mode;
  inode.xattrs_size = xattr_area_size(compact->xattr_count);
  if ((format & kFormatExtended) != 0) {
    const auto extended = copy_at<ExtendedInode>(at);
    if (!extended) return damaged(nid, "lies outside of the image");
    inode.extended = true;
    inode.nlink = extended->nlink;
    inode.uid = extended->uid;
    inode.gid = extended->gid;
    inode.ino = extended->ino;
    inode.size = extended->size;
    inode.mtime = static_cast<std::int64_t>(std::uint64_t{extended->mtime});
    inode.mtime_nsec = extended->mtime_nsec;
    inode.u = extended->u;
    inode.xattrs_at = at + sizeof(ExtendedInode);
  } else {
    inode.nlink = compact->nlink;
    inode.uid = compact->uid;
    inode.gid = compact->gid;
    inode.ino = compact->ino;
    inode.size = compact->size;
    inode.mtime = static_cast<std::int64_t>(std::uint64_t{super_.build_time});
    inode.mtime_nsec = super_.build_time_nsec;
    inode.u = compact->u;
    inode.xattrs_at = at + sizeof(CompactInode);
  }
  if (!inside(inode.xattrs_at, inode.xattrs_size)) return damaged(nid, "its xattrs lie outside of the image");
  inode.tail_at = inode.xattrs_at + inode.xattrs_size;
  if (inode.mtime_nsec > kMostNsec) return damaged(nid, "its time has more than a second of nanoseconds");
  if (inode.size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return damaged(nid, "its size");

  switch (inode.mode & 0170000) {
    case 0100000: break;
    case 0040000:
    case 0120000:
      if (inode.size > bytes_.size()) return damaged(nid, "it is larger than the image");
      break;
    case 0020000:
    case 0060000: inode.rdev = decode_device(inode.u); break;
    case 0010000:
    case 0140000: break;
    default: return damaged(nid, "it has no file type");
  }
  return inode;
}

Result<Piece> Image::piece(const Inode& inode, std::uint64_t offset) const {
  if (offset >= inode.size) return Piece{};
  return inode.layout == Layout::kChunks ? chunk_piece(inode, offset) : flat_piece(inode, offset);
}

Result<Piece> Image::flat_piece(const Inode& inode, std::uint64_t offset) const {
  // With a tail, the last block is the tail, however full it is.
  const std::uint64_t last_block = (inode.size - 1) >> block_bits_ << block_bits_;
  const std::uint64_t in_blocks = inode.layout == Layout::kInline ? last_block : inode.size;
  if (offset < in_blocks) {
    const std::uint64_t at = (std::uint64_t{inode.u} << block_bits_) + offset;
    const std::uint64_t length = in_blocks - offset;
    if (!inside(at, length)) return damaged(inode.nid, "its data lies outside of the image");
    return Piece{.bytes = bytes_.subspan(at, length), .hole = 0};
  }
  const std::uint64_t at = inode.tail_at + (offset - in_blocks);
  const std::uint64_t length = inode.size - offset;
  if (!inside(at, length)) return damaged(inode.nid, "its tail lies outside of the image");
  return Piece{.bytes = bytes_.subspan(at, length), .hole = 0};
}

Result<Piece> Image::chunk_piece(const Inode& inode, std::uint64_t offset) const {
  const auto format = static_cast<std::uint16_t>(inode.u);
  if ((format & ~(kChunkBitsMask | kChunkIndexes)) != 0) return unsupported(inode.nid, "its chunk format");
  const std::uint32_t chunk_bits = block_bits_ + (format & kChunkBitsMask);
  if (chunk_bits > kMostChunkBits) return damaged(inode.nid, "its chunks are too large");
  const bool indexes = (format & kChunkIndexes) != 0;
  const std::uint64_t unit = indexes ? sizeof(ChunkIndex) : sizeof(Le32);
  const std::uint64_t chunk = offset >> chunk_bits;
  const std::uint64_t map = round_up(inode.tail_at, unit);
  if (chunk >= bytes_.size() / unit) return damaged(inode.nid, "its chunk map lies outside of the image");
  const std::uint64_t in_chunk = offset - (chunk << chunk_bits);
  const std::uint64_t length = std::min((std::uint64_t{1} << chunk_bits) - in_chunk, inode.size - offset);

  std::uint32_t block = 0;
  if (indexes) {
    const auto index = copy_at<ChunkIndex>(map + chunk * unit);
    if (!index) return damaged(inode.nid, "its chunk map lies outside of the image");
    block = index->block;
    if (block != kNullBlock && index->device != 0) return unsupported(inode.nid, "data on another device");
  } else {
    const auto address = copy_at<Le32>(map + chunk * unit);
    if (!address) return damaged(inode.nid, "its chunk map lies outside of the image");
    block = *address;
  }
  if (block == kNullBlock) return Piece{.bytes = {}, .hole = length};
  const std::uint64_t at = (std::uint64_t{block} << block_bits_) + in_chunk;
  if (!inside(at, length)) return damaged(inode.nid, "its data lies outside of the image");
  return Piece{.bytes = bytes_.subspan(at, length), .hole = 0};
}

Result<std::size_t> Image::read(const Inode& inode, std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const Piece next = TRY(piece(inode, offset + done));
    const std::size_t length = std::min<std::uint64_t>(next.size(), out.size() - done);
    if (length == 0) break;
    if (next.bytes.empty())
      std::memset(out.data() + done, 0, length);
    else
      std::memcpy(out.data() + done, next.bytes.data(), length);
    done += length;
  }
  return done;
}

Result<std::string> Image::symlink(const Inode& inode) const {
  if (!inode.is_symlink()) return fail(EINVAL);
  if (inode.size == 0 || inode.size > kLongestLink) return damaged(inode.nid, "the length of its target");
  std::string target(inode.size, '\0');
  const std::size_t got = TRY(read(inode, 0, std::as_writable_bytes(std::span(target))));
  if (got != target.size() || target.find('\0') != std::string::npos)
    return damaged(inode.nid, "its target holds zero bytes");
  return target;
}

Result<Image::DirBlock> Image::dir_block(const Inode& dir, std::uint64_t index) const {
  const std::uint64_t at = index << block_bits_;
  const std::uint64_t length = std::min<std::uint64_t>(block_size_, dir.size - at);
  const Piece found = TRY(piece(dir, at));
  if (found.bytes.size() < length) return damaged(dir.nid, "a block of the directory is missing");
  DirBlock block{.bytes = as_text(found.bytes.first(length)), .entries = 0};
  DirEntry first;
  if (length < sizeof first) return damaged(dir.nid, "a block of the directory is too short");
  std::memcpy(&first, block.bytes.data(), sizeof first);
  const std::uint16_t names = first.name_offset;
  if (names < sizeof first || names % sizeof first != 0 || names >= length)
    return damaged(dir.nid, "a block of the directory has no place for names");
  block.entries = static_cast<std::uint32_t>(names / sizeof first);
  return block;
}

Result<Child> Image::dir_entry(const Inode& dir, const DirBlock& block, std::uint32_t index) const {
  DirEntry entry;
  std::memcpy(&entry, block.bytes.data() + index * sizeof entry, sizeof entry);
  const std::size_t start = entry.name_offset;
  std::size_t end = block.bytes.size();
  if (start < block.entries * sizeof entry || start >= end) return damaged(dir.nid, "a name lies outside of its block");
  if (index + 1 < block.entries) {
    DirEntry after;
    std::memcpy(&after, block.bytes.data() + (index + 1) * sizeof after, sizeof after);
    end = std::min<std::size_t>(end, after.name_offset);
    if (end <= start) return damaged(dir.nid, "the names of a block overlap");
  } else {
    // A block that is not full ends in zeros.
    end = std::min(end, block.bytes.find('\0', start));
  }
  const std::string_view name = block.bytes.substr(start, end - start);
  if (name.empty() || name.size() > kNameMax) return damaged(dir.nid, "the length of a name");
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return damaged(dir.nid, "a slash or a zero byte in a name");
  return Child{.name = name, .nid = Nid{std::uint64_t{entry.nid}}, .type = static_cast<FileType>(entry.file_type)};
}

Result<Child> Image::find(const Inode& dir, std::string_view name) const {
  if (!dir.is_dir()) return fail(ENOTDIR);
  // The last block whose first name is not greater. Not found: the name would lie before the first of all.
  std::uint64_t low = 0, high = (dir.size + block_size_ - 1) >> block_bits_;
  DirBlock block;
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    const DirBlock candidate = TRY(dir_block(dir, middle));
    const Child first = TRY(dir_entry(dir, candidate, 0));
    if (first.name == name) return first;
    if (first.name < name) {
      block = candidate;
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  std::uint32_t from = 1, to = block.entries;  // the first is smaller
  while (from < to) {
    const std::uint32_t middle = from + (to - from) / 2;
    const Child child = TRY(dir_entry(dir, block, middle));
    if (child.name == name) return child;
    if (child.name < name)
      from = middle + 1;
    else
      to = middle;
  }
  return fail(ENOENT);
}

Status Image::read_dir(const Inode& dir, std::uint64_t position, void* context, ChildFn entry) const {
  if (!dir.is_dir()) return fail(ENOTDIR);
  const std::uint64_t blocks = (dir.size + block_size_ - 1) >> block_bits_;
  std::uint64_t index = position >> block_bits_;
  // An offset is where the entry stands; seekdir() may bring any number.
  auto first = static_cast<std::uint32_t>(round_up(position & (block_size_ - 1), sizeof(DirEntry)) / sizeof(DirEntry));
  for (; index < blocks; ++index, first = 0) {
    const DirBlock block = TRY(dir_block(dir, index));
    for (std::uint32_t i = first; i < block.entries; ++i) {
      const Child child = TRY(dir_entry(dir, block, i));
      const bool last = i + 1 == block.entries;
      const std::uint64_t next =
          last ? (index + 1) << block_bits_ : (index << block_bits_) + (i + 1) * sizeof(DirEntry);
      if (!entry(context, child, next)) return {};
    }
  }
  return {};
}

Result<Xattr> Image::xattr_at(const Inode& inode, std::uint64_t offset, std::uint64_t end, std::uint64_t* next) const {
  const auto entry = copy_at<XattrEntry>(offset);
  if (!entry || offset + sizeof *entry > end) return damaged(inode.nid, "an xattr lies outside of its area");
  const std::uint64_t name = offset + sizeof *entry;
  const std::uint64_t value = name + entry->name_length;
  if (value > end || entry->value_size > end - value) return damaged(inode.nid, "an xattr lies outside of its area");
  if ((entry->name_index & kXattrLongPrefix) != 0) return unsupported(inode.nid, "a long xattr name prefix");
  if (entry->name_index >= kXattrPrefixes.size()) return damaged(inode.nid, "an xattr of unknown kind");
  const std::string_view suffix = as_text(bytes_.subspan(name, entry->name_length));
  if (suffix.find('\0') != std::string_view::npos) return damaged(inode.nid, "a zero byte in the name of an xattr");
  *next = round_up(value + entry->value_size, kXattrUnit);
  return Xattr{.index = entry->name_index,
               .suffix = suffix,
               .value = as_text(bytes_.subspan(value, entry->value_size)),
               .shared = false};
}

Status Image::read_xattrs(const Inode& inode, void* context, XattrFn entry) const {
  if (inode.xattrs_size == 0) return {};
  const auto header = copy_at<XattrHeader>(inode.xattrs_at);
  const std::uint64_t end = inode.xattrs_at + inode.xattrs_size;
  const std::uint64_t ids = inode.xattrs_at + sizeof(XattrHeader);
  if (!header || header->shared_count > (end - ids) / sizeof(Le32))
    return damaged(inode.nid, "it has more shared xattrs than its area holds");

  std::uint64_t next = 0;
  for (std::uint64_t at = ids + header->shared_count * sizeof(Le32); at < end; at = next) {
    const Xattr own = TRY(xattr_at(inode, at, end, &next));
    if (!entry(context, own)) return {};
  }
  for (std::uint32_t i = 0; i < header->shared_count; ++i) {
    const auto id = copy_at<Le32>(ids + i * sizeof(Le32));
    const std::uint64_t at = shared_xattrs_at_ + std::uint64_t{*id} * kXattrUnit;
    Xattr shared = TRY(xattr_at(inode, at, bytes_.size(), &next));
    shared.shared = true;
    if (!entry(context, shared)) return {};
  }
  return {};
}

Result<std::optional<std::string_view>> Image::xattr(const Inode& inode, std::uint8_t index,
                                                     std::string_view suffix) const {
  std::optional<std::string_view> found;
  if (inode.xattrs_size == 0) return found;
  if ((super_.feature_compat & kCompatXattrFilter) != 0 && super_.xattr_filter_reserved == 0) {
    const auto header = copy_at<XattrHeader>(inode.xattrs_at);
    if (header && (header->name_filter & filter_bit(index, suffix)) != 0) return found;
  }
  TRY(read_xattrs(inode, [&](const Xattr& xattr) {
    if (xattr.index != index || xattr.suffix != suffix) return true;
    found = xattr.value;
    return false;
  }));
  return found;
}

}  // namespace vellum::erofs
