// EROFS on disk: structures and constants as they lie in an image, for images without compression, and the header
// that composefs puts in front. Every number is little endian and may lie at any byte: Le<T> has alignment 1, so a
// structure is copied out of (or into) an image with memcpy. No policy, no checks; those are in image.h.
// Threads: plain values. Source: facts of the kernel's EROFS format; composefs's writer.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vellum::erofs {

template <std::unsigned_integral T>
class Le {
 public:
  constexpr Le() = default;
  constexpr Le(T value) {  // so that structures are written with plain numbers
    for (std::size_t i = 0; i < sizeof(T); ++i) bytes_[i] = static_cast<std::uint8_t>(value >> (8 * i));
  }
  constexpr operator T() const {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | (T{bytes_[i]} << (8 * i)));
    return value;
  }

 private:
  std::array<std::uint8_t, sizeof(T)> bytes_{};
};
using Le16 = Le<std::uint16_t>;
using Le32 = Le<std::uint32_t>;
using Le64 = Le<std::uint64_t>;

inline constexpr std::uint32_t kBlockBits = 12;  // of what we write; readers take the superblock's
inline constexpr std::uint32_t kBlockSize = 1u << kBlockBits;
inline constexpr std::uint32_t kSlotBits = 5;  // an inode's number counts slots of 32 bytes from the metadata area on
inline constexpr std::uint32_t kSlotSize = 1u << kSlotBits;
inline constexpr std::size_t kNameMax = 255;

// At byte 0 of composefs images; others have anything there.
struct ComposefsHeader {
  Le32 magic;
  Le32 version;
  Le32 flags;
  Le32 composefs_version;  // 0, 1: C format; 2: composefs-rs
  std::array<Le32, 4> reserved;
};
static_assert(sizeof(ComposefsHeader) == 32);
inline constexpr std::uint32_t kComposefsMagic = 0xd078629a;
inline constexpr std::uint32_t kComposefsVersion = 1;
inline constexpr std::uint32_t kComposefsHasAcl = 1;  // flags: some inode has an ACL

struct SuperBlock {
  Le32 magic;
  Le32 checksum;  // CRC-32C of the rest of the block, if compat has kCompatChecksum
  Le32 feature_compat;
  std::uint8_t block_bits;
  std::uint8_t extension_slots;  // of 16 bytes, behind this structure
  Le16 root_nid;
  Le64 inodes;
  Le64 build_time;
  Le32 build_time_nsec;
  Le32 blocks;
  Le32 meta_block;   // where inode 0 would lie
  Le32 xattr_block;  // what shared xattr ids count from
  std::array<std::uint8_t, 16> uuid;
  std::array<char, 16> volume_name;
  Le32 feature_incompat;
  Le16 compression;  // algorithms, or LZ4's distance
  Le16 extra_devices;
  Le16 device_slot;
  std::uint8_t dir_block_bits;
  std::uint8_t xattr_prefix_count;
  Le32 xattr_prefix_start;
  Le64 packed_nid;
  std::uint8_t xattr_filter_reserved;  // 0, or the filter has another meaning
  std::array<std::uint8_t, 23> reserved;
};
static_assert(sizeof(SuperBlock) == 128);
inline constexpr std::uint64_t kSuperBlockOffset = 1024;
inline constexpr std::uint64_t kFirstInodeOffset = kSuperBlockOffset + sizeof(SuperBlock);  // of composefs images
inline constexpr std::uint32_t kSuperMagic = 0xE0F5E1E2;
inline constexpr std::uint8_t kLeastBlockBits = 9, kMostBlockBits = 16;

// feature_compat: what a reader may leave alone.
inline constexpr std::uint32_t kCompatChecksum = 1;
inline constexpr std::uint32_t kCompatMtime = 2;  // inode times are mtime (else ctime)
inline constexpr std::uint32_t kCompatXattrFilter = 4;
// feature_incompat: what it must know.
inline constexpr std::uint32_t kIncompatZeroPadding = 0x1;  // LZ4
inline constexpr std::uint32_t kIncompatCompression = 0x2;
inline constexpr std::uint32_t kIncompatChunked = 0x4;
inline constexpr std::uint32_t kIncompatDevices = 0x8;
inline constexpr std::uint32_t kIncompatZTailPacking = 0x10;
inline constexpr std::uint32_t kIncompatFragments = 0x20;
inline constexpr std::uint32_t kIncompatXattrPrefixes = 0x40;
inline constexpr std::uint32_t kIncompat48Bit = 0x80;
inline constexpr std::uint32_t kIncompatMetabox = 0x100;

enum class Layout : std::uint8_t {
  kPlain = 0,           // whole blocks
  kCompressedFull = 1,  // not supported
  kInline = 2,          // whole blocks, and the tail behind inode and xattrs
  kCompressed = 3,      // not supported
  kChunks = 4,          // a map of chunks behind inode and xattrs
};
// The format field: bit 0 extended, then the layout.
inline constexpr std::uint16_t kFormatExtended = 1;
inline constexpr std::uint16_t kFormatLayoutShift = 1;
inline constexpr std::uint16_t kFormatLayoutMask = 7;
inline constexpr std::uint16_t kFormatKnownBits = 0xf;

struct CompactInode {
  Le16 format;
  Le16 xattr_count;  // see xattr_area_size()
  Le16 mode;
  Le16 nlink;
  Le32 size;
  Le32 reserved;
  Le32 u;  // first block, device number, or chunk format
  Le32 ino;
  Le16 uid;
  Le16 gid;
  Le32 reserved2;
};
static_assert(sizeof(CompactInode) == 32);

struct ExtendedInode {
  Le16 format;
  Le16 xattr_count;
  Le16 mode;
  Le16 reserved;
  Le64 size;
  Le32 u;
  Le32 ino;
  Le32 uid;
  Le32 gid;
  Le64 mtime;
  Le32 mtime_nsec;
  Le32 nlink;
  std::array<std::uint8_t, 16> reserved2;
};
static_assert(sizeof(ExtendedInode) == 64);

// Chunk format: log2 of blocks in a chunk; with kChunkIndexes the map is of ChunkIndex, else of Le32 block numbers.
inline constexpr std::uint16_t kChunkBitsMask = 0x1f;
inline constexpr std::uint16_t kChunkIndexes = 0x20;
inline constexpr std::uint16_t kChunk48Bit = 0x40;
inline constexpr std::uint32_t kNullBlock = 0xffffffff;  // a hole
struct ChunkIndex {
  Le16 high;
  Le16 device;
  Le32 block;
};
static_assert(sizeof(ChunkIndex) == 8);

struct XattrHeader {
  Le32 name_filter;  // a bit is 1 if no name of the inode has this hash
  std::uint8_t shared_count;
  std::array<std::uint8_t, 7> reserved;
};
static_assert(sizeof(XattrHeader) == 12);
struct XattrEntry {
  std::uint8_t name_length;  // without the prefix
  std::uint8_t name_index;
  Le16 value_size;
};
static_assert(sizeof(XattrEntry) == 4);
inline constexpr std::uint32_t kXattrUnit = 4;  // entries start at multiples; shared ids count these
inline constexpr std::uint8_t kXattrLongPrefix = 0x80;
inline constexpr std::uint32_t kXattrFilterSeed = 0x25BBE08F;
inline constexpr std::uint32_t kXattrFilterBits = 32;

// Header, shared ids and entries together.
constexpr std::uint32_t xattr_area_size(std::uint16_t xattr_count) {
  return xattr_count == 0 ? 0 : static_cast<std::uint32_t>(sizeof(XattrHeader)) + (xattr_count - 1u) * kXattrUnit;
}

enum XattrIndex : std::uint8_t {
  kXattrNone = 0,  // the whole name is written out
  kXattrUser = 1,
  kXattrAclAccess = 2,
  kXattrAclDefault = 3,
  kXattrTrusted = 4,
  kXattrLustre = 5,
  kXattrSecurity = 6,
};
inline constexpr std::array<std::string_view, 7> kXattrPrefixes = {
    "", "user.", "system.posix_acl_access", "system.posix_acl_default", "trusted.", "lustre.", "security."};

struct DirEntry {
  Le64 nid;
  Le16 name_offset;  // in the block; of the first entry it also tells how many there are
  std::uint8_t file_type;
  std::uint8_t reserved;
};
static_assert(sizeof(DirEntry) == 12);
enum FileType : std::uint8_t {
  kTypeUnknown = 0,
  kTypeRegular = 1,
  kTypeDirectory = 2,
  kTypeCharDevice = 3,
  kTypeBlockDevice = 4,
  kTypeFifo = 5,
  kTypeSocket = 6,
  kTypeSymlink = 7,
};

}  // namespace vellum::erofs
