// Writes an EROFS image, laid out byte for byte as composefs's tools lay theirs out: the same input always gives the
// same image, so its digest identifies the tree. No policy: which inodes and xattrs there are is the caller's matter.
//
// The caller brings the inodes in the order in which they are numbered, the root first; names of each directory in the
// order of their bytes, "." and ".." among them; xattrs of each inode in the order of their names.
// Memory: the image, and 40 bytes for each inode. Errors: EFBIG (a file of more than 1024 chunks, or more than the
// format's numbers hold), EINVAL (more xattrs on an inode than fit). Threads: safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace vellum::erofs {

struct NewXattr {
  std::string_view name, value;  // the whole name
};

struct NewEntry {
  std::string_view name;
  std::uint32_t inode = 0;
};

struct NewInode {
  std::uint32_t mode = 0;
  std::uint32_t nlink = 0;
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t rdev = 0;
  std::uint32_t mtime_nsec = 0;
  std::int64_t mtime = 0;
  std::uint64_t size = 0;  // of a symlink: its target's length
  // A symlink's target, or a file's whole content; empty in a file with a size: its content lies elsewhere.
  std::string_view data;
  std::uint32_t xattrs_begin = 0, xattrs_count = 0;    // in NewImage::inode_xattrs
  std::uint32_t entries_begin = 0, entries_count = 0;  // in NewImage::entries
};

struct NewImage {
  std::vector<NewInode> inodes;
  std::vector<NewEntry> entries;
  std::vector<std::uint32_t> inode_xattrs;  // numbers of `xattrs`
  std::vector<NewXattr> xattrs;             // no two of them equal
  std::uint32_t composefs_version = 0;
};

inline constexpr std::uint32_t kMostChunks = 1024;

// log2 of the size of a chunk, and how many there are, of a file whose content lies elsewhere.
struct Chunking {
  std::uint32_t bits = 0;
  std::uint64_t count = 0;
};
Chunking chunking(std::uint64_t size);

Result<std::vector<std::byte>> write_image(const NewImage& image);

}  // namespace vellum::erofs
