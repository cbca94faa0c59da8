// Reads everything that an image offers, the way a mount could be asked to: for the fuzzer, and for tests that damage
// images. Bounded: a damaged image may have circles, so only so many inodes are visited.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "composefs/image_fs.h"
#include "erofs/image.h"

namespace vellum::testing {

struct Walked {
  std::size_t inodes = 0, errors = 0, xattrs = 0;
  std::uint64_t bytes = 0;
};

inline Walked walk_image(const erofs::Image& image, std::size_t most = 4096) {
  Walked walked;
  std::deque<erofs::Nid> waiting{image.root()};
  std::unordered_set<std::uint64_t> seen{erofs::raw(image.root())};
  std::array<std::byte, 8192> buffer;
  while (!waiting.empty() && walked.inodes < most) {
    const auto inode = image.inode(waiting.front());
    waiting.pop_front();
    ++walked.inodes;
    if (!inode) {
      ++walked.errors;
      continue;
    }
    const auto note = [&walked](const auto& result) { walked.errors += result.has_value() ? 0U : 1U; };
    note(image.read_xattrs(*inode, [&](const erofs::Xattr& xattr) {
      walked.xattrs += xattr.value.size() < 65536 ? 1U : 0U;
      return walked.xattrs < (std::size_t{1} << 20);
    }));
    note(image.xattr(*inode, erofs::kXattrUser, "a"));
    if (inode->is_symlink()) note(image.symlink(*inode));
    if (inode->is_regular()) {
      for (const std::uint64_t at : {std::uint64_t{0}, inode->size / 2, inode->size - 1, inode->size}) {
        const auto got = image.read(*inode, at, buffer);
        note(got);
        walked.bytes += got.value_or(0);
      }
    }
    if (!inode->is_dir()) continue;
    std::vector<std::string> names;
    note(image.read_dir(*inode, 0, [&](const erofs::Child& child, std::uint64_t next) {
      if (names.size() < 64) names.emplace_back(child.name);
      if (next % 7 == 0)
        static_cast<void>(image.read_dir(*inode, next + 5, [](const auto&, std::uint64_t) { return false; }));
      if (seen.insert(erofs::raw(child.nid)).second) waiting.push_back(child.nid);
      return seen.size() < most;
    }));
    for (const std::string& name : names) static_cast<void>(image.find(*inode, name));
    for (const char* name : {"", "!", "a", "zzzz", "\xff\xff"}) static_cast<void>(image.find(*inode, name));
  }
  return walked;
}

// The same through the file system that serves it.
inline void walk_image_fs(const erofs::Image& image, composefs::XattrRule rule) {
  struct Names final : fuse::DirPlusSink {
    std::vector<std::pair<std::string, fuse::NodeId>> children;
    bool fits(std::size_t) const override { return children.size() < 256; }
    bool add(std::string_view name, const fuse::Entry& entry, std::uint64_t) override {
      children.emplace_back(name, entry.node);
      return true;
    }
  };
  composefs::ImageFs fs(image, {.xattrs = rule, .trusted_xattrs = true});
  const fuse::Caller root{};
  std::array<std::byte, 4096> buffer;
  std::deque<fuse::NodeId> waiting{fuse::NodeId::kRoot};
  std::unordered_set<std::uint64_t> seen;
  while (!waiting.empty() && seen.size() < 512) {
    const fuse::NodeId node = waiting.front();
    waiting.pop_front();
    static_cast<void>(fs.getattr(root, node, {}));
    static_cast<void>(fs.readlink(root, node));
    static_cast<void>(fs.read(root, node, fuse::HandleId::kNone, 0, buffer));
    static_cast<void>(fs.lseek(root, node, fuse::HandleId::kNone, 0, 3));
    if (const auto names = fs.listxattr(root, node)) {
      for (std::size_t at = 0; at < names->size(); at += std::string_view(names->c_str() + at).size() + 1)
        static_cast<void>(fs.getxattr(root, node, names->c_str() + at));
    }
    Names names;
    static_cast<void>(fs.readdirplus(root, node, fuse::HandleId::kNone, 0, names));
    for (const auto& [name, child] : names.children) {
      static_cast<void>(fs.lookup(root, node, name));
      if (child != fuse::NodeId::kNone && seen.insert(fuse::raw(child)).second) waiting.push_back(child);
    }
  }
}

}  // namespace vellum::testing
