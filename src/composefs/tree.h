// A file tree in memory, as images and dump files hold it: compact, built once, then only read.
//
// Build: add() nodes, parents before children, fill their fields in; then finish(), which sorts, finds duplicate names
// and resolves hard links. Strings live in the tree (keep()); nodes hold views of them. Xattrs are (name, value) pairs
// that are stored once for the whole tree. Nothing here recurses: depth is bounded by memory alone.
// Threads: for one thread while built, for any number afterwards. Errors: a line for people.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "composefs/verity.h"

namespace vellum::composefs {

inline constexpr std::size_t kNameMax = 255;
inline constexpr std::size_t kPathMax = 4096;     // targets and backing paths are shorter
inline constexpr std::size_t kInlineMax = 5000;   // content stored in an image
inline constexpr std::size_t kInlineWanted = 64;  // content up to this is stored in the image, by scan()
inline constexpr std::size_t kXattrNameMax = 255;
inline constexpr std::size_t kXattrValueMax = 65535;
inline constexpr std::size_t kXattrBudget = 32767;  // of one inode, see xattr_cost()

// What an xattr takes of the budget; the first of an inode costs kXattrBudgetFirst more.
constexpr std::size_t xattr_cost(std::size_t name, std::size_t value) { return 7 + name + value; }
inline constexpr std::size_t kXattrBudgetFirst = 12;

// Strings that live as long as the arena; never moved.
class StringArena {
 public:
  std::string_view keep(std::string_view text);
  // Room for a string to be filled in by the caller.
  std::span<char> reserve(std::size_t size);

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  std::size_t left_ = 0;
  char* next_ = nullptr;
};

using XattrId = std::uint32_t;
struct XattrPair {
  std::string_view name, value;
  friend bool operator==(const XattrPair&, const XattrPair&) = default;
};

// Each pair once, numbered in the order of arrival.
class XattrTable {
 public:
  XattrTable();
  XattrTable(XattrTable&&) noexcept = default;
  XattrTable& operator=(XattrTable&&) noexcept = default;

  XattrId intern(std::string_view name, std::string_view value);
  const XattrPair& operator[](XattrId id) const { return (*pairs_)[id]; }
  std::size_t size() const { return pairs_->size(); }

 private:
  struct Hash {
    using is_transparent = void;
    const std::vector<XattrPair>* pairs;
    std::size_t operator()(const XattrPair& pair) const;
    std::size_t operator()(XattrId id) const { return (*this)((*pairs)[id]); }
  };
  struct Equal {
    using is_transparent = void;
    const std::vector<XattrPair>* pairs;
    bool operator()(XattrId a, XattrId b) const { return a == b; }
    bool operator()(const XattrPair& a, XattrId b) const { return a == (*pairs)[b]; }
    bool operator()(XattrId a, const XattrPair& b) const { return (*pairs)[a] == b; }
  };
  std::unique_ptr<std::vector<XattrPair>> pairs_;  // on the heap: the index points to it
  absl::flat_hash_set<XattrId, Hash, Equal> index_;
  StringArena strings_;
};

enum class NodeId : std::uint32_t {};
inline constexpr NodeId kNoNode{~std::uint32_t{0}};
inline constexpr NodeId kRoot{0};
constexpr std::uint32_t raw(NodeId id) { return static_cast<std::uint32_t>(id); }

struct Node {
  std::string_view name;  // empty: the root
  NodeId parent = kNoNode;
  NodeId link = kNoNode;  // a further name of that node: of this one only name and parent count
  std::uint32_t mode = 0;
  std::uint32_t nlink = 1;
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t rdev = 0;
  std::uint32_t mtime_nsec = 0;
  std::int64_t mtime = 0;
  std::uint64_t size = 0;
  // A symlink's target, or where the content of a file lies in the object store. data() is null: none.
  std::string_view payload;
  // The content of a file that is stored in the image; `size` bytes. Null: elsewhere, or empty.
  const char* content = nullptr;
  const std::uint8_t* digest = nullptr;  // SHA-256 fs-verity, 32 bytes
  const std::uint8_t* sha512 = nullptr;  // instead, in images of others: 64 bytes. Neither dumped nor written
  std::uint32_t xattrs_begin = 0, xattrs_count = 0;
  std::uint32_t children_begin = 0, children_count = 0;

  std::uint32_t type() const { return mode & 0170000; }
  bool is_dir() const { return type() == 0040000; }
  bool is_regular() const { return type() == 0100000; }
  bool is_symlink() const { return type() == 0120000; }
  bool is_device() const { return type() == 0020000 || type() == 0060000; }
  bool is_whiteout() const { return type() == 0020000 && rdev == 0 && link == kNoNode; }
  bool has_payload() const { return payload.data() != nullptr; }
  // Of its content, whichever there is; empty: none.
  std::span<const std::uint8_t> any_digest() const {
    if (digest != nullptr) return {digest, 32};
    return sha512 != nullptr ? std::span(sha512, 64) : std::span<const std::uint8_t>();
  }
  std::string_view content_view() const {
    return content == nullptr ? std::string_view() : std::string_view(content, static_cast<std::size_t>(size));
  }
};

class Tree {
 public:
  // The first node is the root, without a name. The name is copied.
  NodeId add(NodeId parent, std::string_view name);
  Node& operator[](NodeId id) { return nodes_[raw(id)]; }
  const Node& operator[](NodeId id) const { return nodes_[raw(id)]; }
  std::size_t size() const { return nodes_.size(); }
  bool empty() const { return nodes_.empty(); }

  std::string_view keep(std::string_view text) { return strings_.keep(text); }
  std::span<char> reserve(std::size_t size) { return strings_.reserve(size); }
  void set_content(Node& node, std::string_view content);  // and its size
  void set_digest(Node& node, std::span<const std::uint8_t> digest);

  // Xattrs of one node are given together.
  XattrId intern_xattr(std::string_view name, std::string_view value) { return xattrs_.intern(name, value); }
  void set_xattrs(NodeId id, std::span<const XattrId> ids);
  std::span<const XattrId> xattrs(const Node& node) const {
    return std::span(node_xattrs_).subspan(node.xattrs_begin, node.xattrs_count);
  }
  const XattrTable& xattr_table() const { return xattrs_; }

  // No more nodes are added. Says which name comes twice, or which links lead to themselves or a directory.
  std::expected<void, std::string> finish();

  // After finish(): in the order of names' bytes.
  std::span<const NodeId> children(const Node& node) const {
    return std::span(children_).subspan(node.children_begin, node.children_count);
  }
  std::optional<NodeId> find(const Node& dir, std::string_view name) const;
  // The node itself, or the one that it is a further name of.
  NodeId target(NodeId id) const { return (*this)[id].link == kNoNode ? id : (*this)[id].link; }
  std::string path(NodeId id) const;  // "/" for the root

 private:
  std::expected<void, std::string> sort_children();
  std::expected<void, std::string> resolve_links();

  std::vector<Node> nodes_;
  std::vector<NodeId> children_;
  std::vector<XattrId> node_xattrs_;
  XattrTable xattrs_;
  StringArena strings_;
};

// Visits each name, a directory before its children, in the order of names: visit(NodeId, path), path "" for the root.
template <class Visit>
void walk(const Tree& tree, Visit&& visit);

template <class Visit>
void walk(const Tree& tree, Visit&& visit) {
  struct Level {
    std::span<const NodeId> left;
    std::size_t path_size;
  };
  if (tree.empty()) return;
  std::string path;
  std::vector<Level> levels;
  visit(kRoot, std::string_view(path));
  levels.push_back({tree.children(tree[kRoot]), 0});
  while (!levels.empty()) {
    Level& here = levels.back();
    if (here.left.empty()) {
      levels.pop_back();
      continue;
    }
    const NodeId id = here.left.front();
    here.left = here.left.subspan(1);
    const Node& node = tree[id];
    path.resize(here.path_size);
    path += '/';
    path += node.name;
    visit(id, std::string_view(path));
    if (node.link == kNoNode && node.children_count > 0) levels.push_back({tree.children(node), path.size()});
  }
}

}  // namespace vellum::composefs
