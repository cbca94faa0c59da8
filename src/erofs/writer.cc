#include "erofs/writer.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <span>

#include "erofs/format.h"
#include "erofs/image.h"

namespace vellum::erofs {
namespace {

constexpr std::uint32_t kNotShared = ~std::uint32_t{0};
constexpr std::size_t kMostShared = 128;  // of one inode

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

std::uint32_t file_type(const NewInode& inode) { return inode.mode & 0170000; }
bool is_dir(const NewInode& inode) { return file_type(inode) == 0040000; }
bool is_regular(const NewInode& inode) { return file_type(inode) == 0100000; }
bool is_symlink(const NewInode& inode) { return file_type(inode) == 0120000; }
bool is_device(const NewInode& inode) { return file_type(inode) == 0020000 || file_type(inode) == 0060000; }
// A file whose content is not in the image: a map of holes stands for it.
bool has_chunks(const NewInode& inode) { return is_regular(inode) && inode.size > 0 && inode.data.empty(); }

FileType entry_type(const NewInode& inode) {
  switch (file_type(inode)) {
    case 0100000: return kTypeRegular;
    case 0040000: return kTypeDirectory;
    case 0020000: return kTypeCharDevice;
    case 0060000: return kTypeBlockDevice;
    case 0010000: return kTypeFifo;
    case 0140000: return kTypeSocket;
    case 0120000: return kTypeSymlink;
    default: return kTypeUnknown;
  }
}

// Where an inode lies, and how much of its data beside it.
struct Placed {
  std::uint64_t at = 0;
  std::uint32_t xattr_size = 0;
  std::uint32_t tail = 0;
  std::uint32_t blocks = 0;
  std::uint32_t first_block = 0;
  bool compact = false;

  std::uint64_t nid() const { return at / kSlotSize; }
  std::uint32_t head() const {
    return static_cast<std::uint32_t>(compact ? sizeof(CompactInode) : sizeof(ExtendedInode)) + xattr_size;
  }
};

struct SharedXattr {
  std::uint8_t index = 0;
  std::string_view suffix;
  std::uint32_t filter_bit = 0;
  std::uint32_t uses = 0;
  std::uint32_t offset = kNotShared;  // bytes into the area of shared xattrs
  std::uint32_t entry_size = 0;
};

class Writer {
 public:
  explicit Writer(const NewImage& image) : image_(image) {}
  Result<std::vector<std::byte>> write();

 private:
  void share_xattrs();
  void size_of_data(const NewInode& inode, Placed& placed) const;
  void find_epoch();
  bool fits_compact(const NewInode& inode, const Placed& placed) const;
  Status place();
  static std::uint64_t padding(const NewInode& inode, std::uint64_t position, Placed& placed);

  void put(std::uint64_t at, const void* bytes, std::size_t size) {
    if (size > 0) std::memcpy(out_.data() + at, bytes, size);
  }
  template <class T>
  void put(std::uint64_t at, const T& value) {
    put(at, &value, sizeof value);
  }
  void put_super();
  void put_inode(std::size_t index);
  void put_xattrs(const NewInode& inode, std::uint64_t at);
  void put_xattr(std::uint32_t id, std::uint64_t at);
  void put_data(const NewInode& inode, const Placed& placed);
  void put_entries(const NewInode& dir, const Placed& placed);
  void put_entry_block(std::span<const NewEntry> entries, std::uint64_t at);

  std::span<const std::uint32_t> xattrs(const NewInode& inode) const {
    return std::span(image_.inode_xattrs).subspan(inode.xattrs_begin, inode.xattrs_count);
  }
  std::span<const NewEntry> entries(const NewInode& inode) const {
    return std::span(image_.entries).subspan(inode.entries_begin, inode.entries_count);
  }

  const NewImage& image_;
  std::vector<Placed> placed_;
  std::vector<SharedXattr> xattrs_;
  std::vector<std::uint32_t> shared_;  // ids in the order of the area
  std::int64_t epoch_ = 0;             // the earliest time: inodes that have it can be compact
  std::uint32_t epoch_nsec_ = 0;
  bool has_acl_ = false;
  std::uint64_t inodes_end_ = 0, shared_size_ = 0, data_start_ = 0, end_ = 0;
  std::vector<std::byte> out_;
};

// A pair that several inodes have is stored once. The order of that area is descending: by name, by length of the
// value, by value.
void Writer::share_xattrs() {
  xattrs_.resize(image_.xattrs.size());
  for (std::size_t id = 0; id < xattrs_.size(); ++id) {
    const NewXattr& source = image_.xattrs[id];
    SharedXattr& xattr = xattrs_[id];
    // "lustre." is known to readers only.
    std::tie(xattr.index, xattr.suffix) = split_xattr_name(source.name);
    if (xattr.index == kXattrLustre) std::tie(xattr.index, xattr.suffix) = std::pair(kXattrNone, source.name);
    xattr.filter_bit = 1u << (XXH32(xattr.suffix.data(), xattr.suffix.size(), kXattrFilterSeed + xattr.index) &
                              (kXattrFilterBits - 1));
    xattr.entry_size = static_cast<std::uint32_t>(
        round_up(sizeof(XattrEntry) + xattr.suffix.size() + source.value.size(), kXattrUnit));
  }
  for (const NewInode& inode : image_.inodes)
    for (const std::uint32_t id : xattrs(inode)) {
      ++xattrs_[id].uses;
      has_acl_ = has_acl_ || image_.xattrs[id].name == kXattrPrefixes[kXattrAclAccess] ||
                 image_.xattrs[id].name == kXattrPrefixes[kXattrAclDefault];
    }
  for (std::uint32_t id = 0; id < xattrs_.size(); ++id)
    if (xattrs_[id].uses > 1) shared_.push_back(id);
  std::ranges::sort(shared_, [this](std::uint32_t a, std::uint32_t b) {
    const NewXattr &left = image_.xattrs[a], &right = image_.xattrs[b];
    if (left.name != right.name) return left.name > right.name;
    if (left.value.size() != right.value.size()) return left.value.size() > right.value.size();
    return left.value > right.value;
  });
  for (const std::uint32_t id : shared_) {
    xattrs_[id].offset = static_cast<std::uint32_t>(shared_size_);
    shared_size_ += xattrs_[id].entry_size;
  }
}

void Writer::find_epoch() {
  epoch_ = image_.inodes[0].mtime;
  epoch_nsec_ = image_.inodes[0].mtime_nsec;
  for (const NewInode& inode : image_.inodes) {
    if (std::pair(inode.mtime, inode.mtime_nsec) < std::pair(epoch_, epoch_nsec_)) {
      epoch_ = inode.mtime;
      epoch_nsec_ = inode.mtime_nsec;
    }
  }
}

void Writer::size_of_data(const NewInode& inode, Placed& placed) const {
  std::uint64_t blocks = 0, tail = 0;
  if (is_dir(inode)) {
    for (const NewEntry& entry : entries(inode)) {
      const std::size_t size = sizeof(DirEntry) + entry.name.size();
      if (tail + size > kBlockSize) {
        ++blocks;
        tail = 0;
      }
      tail += size;
    }
  } else if (is_symlink(inode)) {
    tail = inode.data.size();
  } else if (has_chunks(inode)) {
    tail = chunking(inode.size).count * sizeof(Le32);
  } else if (is_regular(inode)) {
    blocks = inode.size / kBlockSize;
    tail = inode.size % kBlockSize;
  }
  // More than half a block is worth one of its own.
  if ((is_dir(inode) || (is_regular(inode) && !has_chunks(inode))) && tail > kBlockSize / 2) {
    ++blocks;
    tail = 0;
  }
  placed.blocks = static_cast<std::uint32_t>(blocks);
  placed.tail = static_cast<std::uint32_t>(tail);
}

bool Writer::fits_compact(const NewInode& inode, const Placed& placed) const {
  constexpr std::uint32_t kMost = std::numeric_limits<std::uint16_t>::max();
  const std::uint64_t size = is_dir(inode) ? std::uint64_t{placed.blocks} * kBlockSize + placed.tail : inode.size;
  return inode.mtime == epoch_ && inode.mtime_nsec == epoch_nsec_ && inode.nlink <= kMost && inode.uid <= kMost &&
         inode.gid <= kMost && size <= std::numeric_limits<std::uint32_t>::max();
}

// What lies in front of an inode so that its tail does not cross a block's edge. May move the tail out.
std::uint64_t Writer::padding(const NewInode& inode, std::uint64_t position, Placed& placed) {
  const std::uint64_t to_next_block = round_up(position, kBlockSize) - position;
  const std::uint64_t head = placed.head();
  if (is_symlink(inode)) {
    // Inode and target share a block. A target that cannot moves out, but its length still counts here.
    const std::uint64_t total = head + placed.tail;
    if (total >= kBlockSize) {
      ++placed.blocks;
      placed.tail = 0;
    }
    return position / kBlockSize == (position + total - 1) / kBlockSize ? 0 : to_next_block;
  }
  const std::uint64_t room = kBlockSize - (position + head) % kBlockSize;
  if (room >= placed.tail) return 0;
  const std::uint64_t pad = round_up(room, kSlotSize);
  if (placed.tail <= kBlockSize - (position + head + pad) % kBlockSize) return pad;
  ++placed.blocks;
  placed.tail = 0;
  return to_next_block;
}

Status Writer::place() {
  placed_.resize(image_.inodes.size());
  std::uint64_t position = kFirstInodeOffset, blocks = 0;
  for (std::size_t i = 0; i < placed_.size(); ++i) {
    const NewInode& inode = image_.inodes[i];
    Placed& placed = placed_[i];
    if (has_chunks(inode) && chunking(inode.size).count > kMostChunks) return fail(EFBIG);
    size_of_data(inode, placed);
    placed.compact = fits_compact(inode, placed);
    std::uint64_t own = 0, shared = 0;
    for (const std::uint32_t id : xattrs(inode)) {
      if (xattrs_[id].offset != kNotShared && shared < kMostShared)
        ++shared;
      else
        own += xattrs_[id].entry_size;
    }
    if (inode.xattrs_count > 0) {
      const std::uint64_t size = sizeof(XattrHeader) + shared * sizeof(Le32) + own;
      if ((size - sizeof(XattrHeader)) / kXattrUnit + 1 > std::numeric_limits<std::uint16_t>::max())
        return fail(EINVAL);
      placed.xattr_size = static_cast<std::uint32_t>(size);
    }
    position = round_up(position, kSlotSize);
    position += padding(inode, position, placed);
    placed.at = position;
    position += placed.head() + placed.tail;
    blocks += placed.blocks;
  }
  inodes_end_ = round_up(position, kSlotSize);
  data_start_ = round_up(inodes_end_ + shared_size_, kBlockSize);
  end_ = data_start_ + blocks * kBlockSize;
  if (end_ / kBlockSize > std::numeric_limits<std::uint32_t>::max() ||
      shared_size_ > std::numeric_limits<std::uint32_t>::max() ||
      placed_[0].nid() > std::numeric_limits<std::uint16_t>::max())
    return fail(EFBIG);
  std::uint64_t block = data_start_ / kBlockSize;
  for (Placed& placed : placed_) {
    placed.first_block = placed.blocks > 0 ? static_cast<std::uint32_t>(block) : 0;
    block += placed.blocks;
  }
  return {};
}

void Writer::put_super() {
  ComposefsHeader header{};
  header.magic = kComposefsMagic;
  header.version = kComposefsVersion;
  header.flags = has_acl_ ? kComposefsHasAcl : 0u;
  header.composefs_version = image_.composefs_version;
  put(0, header);
  SuperBlock super{};
  super.magic = kSuperMagic;
  super.feature_compat = kCompatMtime | kCompatXattrFilter;
  super.block_bits = kBlockBits;
  super.root_nid = static_cast<std::uint16_t>(placed_[0].nid());
  super.inodes = std::uint64_t{image_.inodes.size()};
  super.build_time = static_cast<std::uint64_t>(epoch_);
  super.build_time_nsec = epoch_nsec_;
  super.blocks = static_cast<std::uint32_t>(end_ / kBlockSize);
  super.xattr_block = static_cast<std::uint32_t>(inodes_end_ / kBlockSize);
  put(kSuperBlockOffset, super);
}

void Writer::put_inode(std::size_t index) {
  const NewInode& inode = image_.inodes[index];
  const Placed& placed = placed_[index];
  std::uint64_t size = 0;
  std::uint32_t u = placed.first_block;
  Layout layout = placed.tail > 0 ? Layout::kInline : Layout::kPlain;
  if (is_dir(inode)) {
    size = std::uint64_t{placed.blocks} * kBlockSize + placed.tail;
  } else if (is_regular(inode)) {
    size = inode.size;
    if (has_chunks(inode)) {
      layout = Layout::kChunks;
      // The format takes the lower half; what the upper half holds of a block number is how the first writer left it.
      u = (u & 0xffff0000u) | (chunking(inode.size).bits - kBlockBits);
    }
  } else if (is_symlink(inode)) {
    size = inode.data.size();
  } else if (is_device(inode)) {
    u = inode.rdev;
  }
  const auto format = static_cast<std::uint16_t>((placed.compact ? 0 : kFormatExtended) | static_cast<unsigned>(layout)
                                                                                              << kFormatLayoutShift);
  const auto xattr_count = static_cast<std::uint16_t>(
      placed.xattr_size == 0 ? 0 : (placed.xattr_size - sizeof(XattrHeader)) / kXattrUnit + 1);
  if (placed.compact) {
    CompactInode out{};
    out.format = format;
    out.xattr_count = xattr_count;
    out.mode = static_cast<std::uint16_t>(inode.mode);
    out.nlink = static_cast<std::uint16_t>(inode.nlink);
    out.size = static_cast<std::uint32_t>(size);
    out.u = u;
    out.ino = static_cast<std::uint32_t>(index);
    out.uid = static_cast<std::uint16_t>(inode.uid);
    out.gid = static_cast<std::uint16_t>(inode.gid);
    put(placed.at, out);
  } else {
    ExtendedInode out{};
    out.format = format;
    out.xattr_count = xattr_count;
    out.mode = static_cast<std::uint16_t>(inode.mode);
    out.size = size;
    out.u = u;
    out.ino = static_cast<std::uint32_t>(index);
    out.uid = inode.uid;
    out.gid = inode.gid;
    out.mtime = static_cast<std::uint64_t>(inode.mtime);
    out.mtime_nsec = inode.mtime_nsec;
    out.nlink = inode.nlink;
    put(placed.at, out);
  }
  put_xattrs(inode, placed.at + placed.head() - placed.xattr_size);
  put_data(inode, placed);
}

void Writer::put_xattrs(const NewInode& inode, std::uint64_t at) {
  if (inode.xattrs_count == 0) return;
  std::uint32_t filter = ~std::uint32_t{0};
  std::size_t shared = 0;
  for (const std::uint32_t id : xattrs(inode)) {
    filter &= ~xattrs_[id].filter_bit;
    if (xattrs_[id].offset != kNotShared && shared < kMostShared) ++shared;
  }
  XattrHeader header{};
  header.name_filter = filter;
  header.shared_count = static_cast<std::uint8_t>(shared);
  put(at, header);
  std::uint64_t ids = at + sizeof header, own = ids + shared * sizeof(Le32);
  for (const std::uint32_t id : xattrs(inode)) {
    if (xattrs_[id].offset != kNotShared && shared > 0) {
      put(ids, Le32(static_cast<std::uint32_t>((inodes_end_ % kBlockSize + xattrs_[id].offset) / kXattrUnit)));
      ids += sizeof(Le32);
      --shared;
    } else {
      put_xattr(id, own);
      own += xattrs_[id].entry_size;
    }
  }
}

void Writer::put_xattr(std::uint32_t id, std::uint64_t at) {
  const SharedXattr& xattr = xattrs_[id];
  const std::string_view value = image_.xattrs[id].value;
  XattrEntry entry{};
  entry.name_length = static_cast<std::uint8_t>(xattr.suffix.size());
  entry.name_index = xattr.index;
  entry.value_size = static_cast<std::uint16_t>(value.size());
  put(at, entry);
  put(at + sizeof entry, xattr.suffix.data(), xattr.suffix.size());
  put(at + sizeof entry + xattr.suffix.size(), value.data(), value.size());
}

void Writer::put_data(const NewInode& inode, const Placed& placed) {
  const std::uint64_t tail_at = placed.at + placed.head();
  const std::uint64_t block_at = std::uint64_t{placed.first_block} * kBlockSize;
  if (is_dir(inode)) {
    put_entries(inode, placed);
  } else if (has_chunks(inode)) {
    if (placed.blocks > 0)
      std::memset(out_.data() + block_at, 0xff, kBlockSize);
    else
      std::memset(out_.data() + tail_at, 0xff, placed.tail);
  } else if (!inode.data.empty() && (is_regular(inode) || is_symlink(inode))) {
    const std::size_t in_blocks = inode.data.size() - placed.tail;
    put(block_at, inode.data.data(), in_blocks);
    put(tail_at, inode.data.data() + in_blocks, placed.tail);
  }
}

void Writer::put_entries(const NewInode& dir, const Placed& placed) {
  const std::span<const NewEntry> all = entries(dir);
  std::size_t first = 0, used = 0;
  std::uint64_t block = 0;
  for (std::size_t i = 0; i <= all.size(); ++i) {
    const std::size_t size = i < all.size() ? sizeof(DirEntry) + all[i].name.size() : kBlockSize + 1;
    if (used + size > kBlockSize && i > first) {
      const bool in_block = block < placed.blocks;
      put_entry_block(all.subspan(first, i - first),
                      in_block ? (placed.first_block + block) * kBlockSize : placed.at + placed.head());
      ++block;
      first = i;
      used = 0;
    }
    used += size;
  }
}

void Writer::put_entry_block(std::span<const NewEntry> part, std::uint64_t at) {
  std::uint64_t entry_at = at;
  std::size_t name_at = part.size() * sizeof(DirEntry);
  for (const NewEntry& entry : part) {
    DirEntry out{};
    out.nid = placed_[entry.inode].nid();
    out.name_offset = static_cast<std::uint16_t>(name_at);
    out.file_type = entry_type(image_.inodes[entry.inode]);
    put(entry_at, out);
    put(at + name_at, entry.name.data(), entry.name.size());
    entry_at += sizeof out;
    name_at += entry.name.size();
  }
}

Result<std::vector<std::byte>> Writer::write() {
  if (image_.inodes.empty() || !is_dir(image_.inodes[0])) return fail(EINVAL);
  share_xattrs();
  find_epoch();
  TRY(place());
  out_.resize(end_);
  put_super();
  for (std::size_t i = 0; i < image_.inodes.size(); ++i) put_inode(i);
  for (const std::uint32_t id : shared_) put_xattr(id, inodes_end_ + xattrs_[id].offset);
  return std::move(out_);
}

}  // namespace

Chunking chunking(std::uint64_t size) {
  constexpr std::uint32_t kMostBits = kBlockBits + kChunkBitsMask;
  const auto wanted = static_cast<std::uint32_t>(std::bit_width(size - 1));
  const std::uint32_t bits = std::clamp(wanted, kBlockBits, kMostBits);
  const std::uint64_t chunk = std::uint64_t{1} << bits;
  return {.bits = bits, .count = size / chunk + (size % chunk != 0 ? 1 : 0)};
}

Result<std::vector<std::byte>> write_image(const NewImage& image) { return Writer(image).write(); }

}  // namespace vellum::erofs
