// Reads an EROFS image that lies in memory: inodes by number, names in directories, file content, xattrs.
//
// Nothing in the image is trusted: every offset, size, count and name is checked at the moment of use, work per call is
// bounded by what the call returns (a lookup by the logarithm of the directory), and nothing recurses. Damage gives
// EUCLEAN for the file that has it, and a line through Options::report; what the format allows and we do not know
// (compression, several devices, ...) gives EOPNOTSUPP. What reads only looks: no allocation unless the answer owns
// bytes, no state. Strings and spans that come out point into the image.
//
// Supported: compact and extended inodes, layouts plain, inline and chunk-based, shared and inline xattrs with the name
// filter, blocks of 512 bytes to 64 KiB. So: images of composefs (C and Rust) and of mkfs.erofs without compression.
// Threads: const, safe. The bytes must outlive the Image and must not change: see sys/mapping.h.
// Source: facts of the kernel's EROFS document.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "erofs/format.h"

namespace vellum::erofs {

enum class Nid : std::uint64_t {};
constexpr std::uint64_t raw(Nid nid) { return static_cast<std::uint64_t>(nid); }

// An inode, decoded. The positions at the end are the reader's; they lie inside the image.
struct Inode {
  Nid nid{};
  std::uint32_t mode = 0;  // type and permissions
  std::uint32_t nlink = 0;
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t ino = 0;  // as written; numbers of files that are seen are nids
  std::uint64_t size = 0;
  std::int64_t mtime = 0;
  std::uint32_t mtime_nsec = 0;
  dev_t rdev = 0;
  Layout layout = Layout::kPlain;
  bool extended = false;

  std::uint32_t u = 0;
  std::uint64_t xattrs_at = 0;
  std::uint32_t xattrs_size = 0;
  std::uint64_t tail_at = 0;  // behind inode and xattrs: the inline tail, or the chunk map

  bool is_dir() const { return (mode & 0170000) == 0040000; }
  bool is_regular() const { return (mode & 0170000) == 0100000; }
  bool is_symlink() const { return (mode & 0170000) == 0120000; }
  bool is_char_device() const { return (mode & 0170000) == 0020000; }
};

struct Child {
  std::string_view name;
  Nid nid{};
  FileType type = kTypeUnknown;
};

struct Xattr {
  std::uint8_t index = 0;   // XattrIndex
  std::string_view suffix;  // the name behind kXattrPrefixes[index]
  std::string_view value;
  bool shared = false;
};

// A piece of a file: bytes of the image, or that many zeros that are stored nowhere.
struct Piece {
  std::span<const std::byte> bytes;
  std::uint64_t hole = 0;
  std::uint64_t size() const { return bytes.empty() ? hole : bytes.size(); }
};

struct ImageOptions {
  // Called with one line for each damage found, at most kMostReports times. Null: nobody hears. Default: the log.
  void (*report)(std::string_view line) = nullptr;
  bool check_checksum = true;  // of the superblock, where the image has one
};
void report_to_log(std::string_view line);

class Image {
 public:
  static constexpr std::uint64_t kMostReports = 64;

  // The error is a line for people: what is wrong with the image, or which feature we do not support.
  static std::expected<Image, std::string> open(std::span<const std::byte> bytes,
                                                const ImageOptions& options = {.report = report_to_log});

  Nid root() const { return root_; }
  std::uint32_t block_size() const { return block_size_; }
  std::uint64_t blocks() const { return blocks_; }
  std::uint64_t inodes() const { return super_.inodes; }
  const SuperBlock& super() const { return super_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  // The header in front, if this is an image of composefs.
  const std::optional<ComposefsHeader>& composefs() const { return composefs_; }
  // How many slots of 32 bytes lie before inode 0: nid + slot_base() is where an inode lies, and never below 36.
  std::uint64_t slot_base() const { return meta_at_ >> kSlotBits; }

  Result<Inode> inode(Nid nid) const;

  // ENOENT: no such name.
  Result<Child> find(const Inode& dir, std::string_view name) const;
  // Calls entry(child, next) for each, "." and ".." included, from `position` on (0, or a `next` of before), until it
  // returns false.
  template <class Entry>
  Status read_dir(const Inode& dir, std::uint64_t position, Entry&& entry) const;

  // Where a file's byte `offset` is, and what follows it in one piece. Empty at and behind the end.
  Result<Piece> piece(const Inode& inode, std::uint64_t offset) const;
  // Fills `out`; fewer bytes only at the end of the file.
  Result<std::size_t> read(const Inode& inode, std::uint64_t offset, std::span<std::byte> out) const;
  Result<std::string> symlink(const Inode& inode) const;

  // Calls entry(Xattr) for each, the inode's own first, then the shared ones, until it returns false.
  template <class Entry>
  Status read_xattrs(const Inode& inode, Entry&& entry) const;
  // The value of kXattrPrefixes[index] + suffix; nullopt: the inode has none.
  Result<std::optional<std::string_view>> xattr(const Inode& inode, std::uint8_t index, std::string_view suffix) const;

  // Says that something of this inode is damaged. Returns EUCLEAN, for whoever found it.
  std::unexpected<Errno> damaged(Nid nid, const char* what) const;

 private:
  using ChildFn = bool (*)(void* context, const Child& child, std::uint64_t next);
  using XattrFn = bool (*)(void* context, const Xattr& xattr);

  // A directory's block: the bytes, and how many entries stand in front.
  struct DirBlock {
    std::string_view bytes;
    std::uint32_t entries = 0;
  };

  Image() = default;
  template <class T>
  std::optional<T> copy_at(std::uint64_t offset) const;
  bool inside(std::uint64_t offset, std::uint64_t length) const {
    return offset <= bytes_.size() && length <= bytes_.size() - offset;
  }
  std::unexpected<Errno> unsupported(Nid nid, const char* what) const;
  Result<Piece> flat_piece(const Inode& inode, std::uint64_t offset) const;
  Result<Piece> chunk_piece(const Inode& inode, std::uint64_t offset) const;
  Result<DirBlock> dir_block(const Inode& dir, std::uint64_t index) const;
  Result<Child> dir_entry(const Inode& dir, const DirBlock& block, std::uint32_t index) const;
  Result<Xattr> xattr_at(const Inode& inode, std::uint64_t offset, std::uint64_t end, std::uint64_t* next) const;
  Status read_dir(const Inode& dir, std::uint64_t position, void* context, ChildFn entry) const;
  Status read_xattrs(const Inode& inode, void* context, XattrFn entry) const;
  void report(std::string_view line) const;

  std::span<const std::byte> bytes_;
  SuperBlock super_;
  std::optional<ComposefsHeader> composefs_;
  ImageOptions options_;
  Nid root_{};
  std::uint32_t block_bits_ = 0, block_size_ = 0;
  std::uint64_t blocks_ = 0;
  std::uint64_t meta_at_ = 0, shared_xattrs_at_ = 0;
  std::unique_ptr<std::atomic<std::uint64_t>> reports_ = std::make_unique<std::atomic<std::uint64_t>>(0);
};

// "user.x" is (1, "x"); index 0 with the whole name if no prefix is known.
std::pair<std::uint8_t, std::string_view> split_xattr_name(std::string_view name);

template <class Entry>
Status Image::read_dir(const Inode& dir, std::uint64_t position, Entry&& entry) const {
  return read_dir(dir, position, &entry, [](void* context, const Child& child, std::uint64_t next) {
    return (*static_cast<std::remove_reference_t<Entry>*>(context))(child, next);
  });
}

template <class Entry>
Status Image::read_xattrs(const Inode& inode, Entry&& entry) const {
  return read_xattrs(inode, &entry, [](void* context, const Xattr& xattr) {
    return (*static_cast<std::remove_reference_t<Entry>*>(context))(xattr);
  });
}

}  // namespace vellum::erofs
