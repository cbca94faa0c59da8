#include "composefs/build.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>

#include "composefs/overlay_names.h"
#include "erofs/writer.h"

namespace vellum::composefs {
namespace {

constexpr std::uint32_t kNoInode = ~std::uint32_t{0};
constexpr std::size_t kFanOut = 256;  // names at the top of an object store

// The tree's xattrs with those that the image adds; a pair is one pair no matter where it came from.
class ImageXattrs {
 public:
  explicit ImageXattrs(const XattrTable& source) : source_(source), known_(source.size(), kUnknown) {}

  // How the pair of the tree appears in the image.
  XattrId of_tree(XattrId id) {
    if (known_[id] == kUnknown) {
      const auto& [name, value] = source_[id];
      known_[id] = name.starts_with(kOverlayPrefix)
                       ? table_.intern(std::string(kEscapedPrefix) += name.substr(kOverlayPrefix.size()), value)
                       : table_.intern(name, value);
    }
    return known_[id];
  }
  XattrId own(std::string_view name, std::string_view value) { return table_.intern(name, value); }
  const XattrPair& operator[](XattrId id) const { return table_[id]; }
  std::size_t size() const { return table_.size(); }

 private:
  static constexpr XattrId kUnknown = ~XattrId{0};
  const XattrTable& source_;
  XattrTable table_;
  std::vector<XattrId> known_;
};

class Builder {
 public:
  Builder(const Tree& tree, std::uint32_t version) : tree_(tree), version_(version), xattrs_(tree.xattr_table()) {}
  Result<std::vector<std::byte>> build();

 private:
  struct Queued {
    NodeId node;           // kNoNode: a whiteout over a name of the object store
    std::uint32_t parent;  // inode
  };

  void number_inodes();
  void queue_children_of_root();
  Status add_inode(std::uint32_t index);
  void add_entries(std::uint32_t index);
  Status add_xattrs(std::uint32_t index);
  Status set_xattr(std::string_view name, std::string_view value);
  Status mark_directory(const Node& dir);
  void add_cover(std::uint32_t index);

  const Tree& tree_;
  const std::uint32_t version_;
  ImageXattrs xattrs_;
  erofs::NewImage image_;
  std::vector<Queued> order_;
  std::vector<std::uint32_t> inode_of_;  // by node
  std::vector<std::uint32_t> first_child_cover_;
  std::array<std::array<char, 2>, kFanOut> fan_names_{};
  std::array<std::uint32_t, kFanOut> cover_{};  // inode of the whiteout over a fan-out name
  // Of the inode at hand:
  std::vector<XattrId> ids_;
  std::ptrdiff_t budget_ = 0;
};

// Breadth first; links are numbered where their node is.
void Builder::number_inodes() {
  inode_of_.assign(tree_.size(), kNoInode);
  order_.reserve(tree_.size() + kFanOut);
  order_.push_back({kRoot, 0});
  inode_of_[raw(kRoot)] = 0;
  queue_children_of_root();
  for (std::uint32_t i = 1; i < order_.size(); ++i) {
    if (order_[i].node == kNoNode) continue;
    const Node& node = tree_[order_[i].node];
    if (!node.is_dir()) continue;
    for (const NodeId child : tree_.children(node)) {
      if (tree_[child].link != kNoNode) continue;
      inode_of_[raw(child)] = static_cast<std::uint32_t>(order_.size());
      order_.push_back({child, i});
    }
  }
}

void Builder::queue_children_of_root() {
  static constexpr char kDigits[] = "0123456789abcdef";
  cover_.fill(kNoInode);
  const std::span<const NodeId> children = tree_.children(tree_[kRoot]);
  std::size_t next = 0;
  const auto queue_below = [&](std::string_view limit) {
    for (; next < children.size() && (limit.empty() || tree_[children[next]].name < limit); ++next) {
      if (tree_[children[next]].link != kNoNode) continue;
      inode_of_[raw(children[next])] = static_cast<std::uint32_t>(order_.size());
      order_.push_back({children[next], 0});
    }
  };
  for (std::size_t i = 0; i < kFanOut; ++i) {
    fan_names_[i] = {kDigits[i >> 4], kDigits[i & 15]};
    const std::string_view name(fan_names_[i].data(), 2);
    queue_below(name);
    if (next < children.size() && tree_[children[next]].name == name) continue;
    cover_[i] = static_cast<std::uint32_t>(order_.size());
    order_.push_back({kNoNode, 0});
  }
  queue_below({});
}

void Builder::add_entries(std::uint32_t index) {
  const Node& node = tree_[order_[index].node];
  erofs::NewInode& inode = image_.inodes[index];
  inode.entries_begin = static_cast<std::uint32_t>(image_.entries.size());
  inode.nlink = 2;
  const std::array<erofs::NewEntry, 2> dots{erofs::NewEntry{".", index}, erofs::NewEntry{"..", order_[index].parent}};
  std::size_t dot = 0;
  std::size_t fan = index == 0 ? 0 : kFanOut;
  // The names that every directory has, and those that the root gets, stand among the others by their bytes.
  const auto put_below = [&](std::optional<std::string_view> limit) {
    for (; dot < dots.size() && (!limit || dots[dot].name < *limit); ++dot) image_.entries.push_back(dots[dot]);
    for (; fan < kFanOut; ++fan) {
      const std::string_view name(fan_names_[fan].data(), 2);
      if (limit && name >= *limit && cover_[fan] != kNoInode) break;
      if (cover_[fan] != kNoInode) image_.entries.push_back({name, cover_[fan]});
    }
  };
  for (const NodeId child : tree_.children(node)) {
    const NodeId target = tree_.target(child);
    put_below(tree_[child].name);
    image_.entries.push_back({tree_[child].name, inode_of_[raw(target)]});
    if (tree_[target].is_dir()) ++inode.nlink;
  }
  put_below(std::nullopt);
  inode.entries_count = static_cast<std::uint32_t>(image_.entries.size()) - inode.entries_begin;
}

// Counts as mkcomposefs counts, which decides what is refused; only that an overwritten value that was longer takes
// the sum below 0 is no error here.
Status Builder::set_xattr(std::string_view name, std::string_view value) {
  const auto same = std::ranges::find(ids_, name, [this](XattrId id) { return xattrs_[id].name; });
  if (same != ids_.end()) {
    budget_ -= static_cast<std::ptrdiff_t>(xattr_cost(name.size(), xattrs_[*same].value.size()));
    ids_.erase(same);
    if (ids_.empty()) budget_ = 0;
  }
  const std::size_t cost = xattr_cost(name.size(), value.size()) + (ids_.empty() ? kXattrBudgetFirst : 0);
  if (budget_ + static_cast<std::ptrdiff_t>(cost) > static_cast<std::ptrdiff_t>(kXattrBudget)) return fail(ERANGE);
  budget_ += static_cast<std::ptrdiff_t>(cost);
  ids_.push_back(xattrs_.own(name, value));
  return {};
}

Status Builder::mark_directory(const Node& dir) {
  const auto is_whiteout = [this](NodeId child) { return tree_[child].is_whiteout(); };
  if (std::ranges::none_of(tree_.children(dir), is_whiteout)) return {};
  TRY(set_xattr(kEscapedWhiteouts, ""));
  TRY(set_xattr(kUserWhiteouts, ""));
  if (version_ < 1) return {};
  TRY(set_xattr(kEscapedOpaque, "x"));
  return set_xattr(kUserOpaque, "x");
}

Status Builder::add_xattrs(std::uint32_t index) {
  const Node& node = tree_[order_[index].node];
  erofs::NewInode& inode = image_.inodes[index];
  ids_.clear();
  budget_ = 0;  // of what is added here; the tree's own were counted where they came from
  for (const XattrId id : tree_.xattrs(node)) ids_.push_back(xattrs_.of_tree(id));
  if (node.is_regular() && node.size > 0 && node.content == nullptr) {
    if (erofs::chunking(node.size).count > erofs::kMostChunks) return fail(EFBIG);
    std::array<char, 36> metacopy{0, 36, 0, 1};  // version, length, flags, SHA-256
    if (node.digest != nullptr) std::memcpy(metacopy.data() + 4, node.digest, 32);
    TRY(set_xattr(kMetacopyName, std::string_view(metacopy.data(), node.digest != nullptr ? metacopy.size() : 0)));
    if (!node.payload.empty()) TRY(set_xattr(kRedirectName, std::string("/").append(node.payload)));
  }
  if (node.is_whiteout()) {
    TRY(set_xattr(kEscapedWhiteout, ""));
    TRY(set_xattr(kUserWhiteout, ""));
  }
  if (node.is_dir()) TRY(mark_directory(node));
  if (index == 0) TRY(set_xattr(kOpaqueName, "y"));
  std::ranges::sort(ids_, {}, [this](XattrId id) { return xattrs_[id].name; });
  inode.xattrs_begin = static_cast<std::uint32_t>(image_.inode_xattrs.size());
  inode.xattrs_count = static_cast<std::uint32_t>(ids_.size());
  image_.inode_xattrs.insert(image_.inode_xattrs.end(), ids_.begin(), ids_.end());
  return {};
}

// A real whiteout, with the root's owner, time and SELinux label.
void Builder::add_cover(std::uint32_t index) {
  const Node& root = tree_[kRoot];
  erofs::NewInode& inode = image_.inodes[index];
  inode.mode = 0020644;
  inode.nlink = 1;
  inode.uid = root.uid;
  inode.gid = root.gid;
  inode.mtime = root.mtime;
  inode.mtime_nsec = root.mtime_nsec;
  for (const XattrId id : tree_.xattrs(root)) {
    if (tree_.xattr_table()[id].name != "security.selinux") continue;
    inode.xattrs_begin = static_cast<std::uint32_t>(image_.inode_xattrs.size());
    inode.xattrs_count = 1;
    image_.inode_xattrs.push_back(xattrs_.of_tree(id));
  }
}

Status Builder::add_inode(std::uint32_t index) {
  if (order_[index].node == kNoNode) {
    add_cover(index);
    return {};
  }
  const Node& node = tree_[order_[index].node];
  erofs::NewInode& inode = image_.inodes[index];
  inode.mode = node.mode;
  inode.nlink = node.nlink;
  inode.uid = node.uid;
  inode.gid = node.gid;
  inode.rdev = node.rdev;
  inode.mtime = node.mtime;
  inode.mtime_nsec = node.mtime_nsec;
  inode.size = node.size;
  if (node.is_whiteout()) {
    inode.mode = 0100000 | (node.mode & 07777);
    inode.size = 0;
  } else if (node.is_symlink()) {
    inode.data = node.payload;
  } else if (node.is_regular()) {
    inode.data = node.content_view();
  }
  if (node.is_dir()) add_entries(index);
  return add_xattrs(index);
}

Result<std::vector<std::byte>> Builder::build() {
  number_inodes();
  image_.composefs_version = version_;
  image_.inodes.resize(order_.size());
  image_.entries.reserve(tree_.size() + kFanOut + 2 * order_.size());
  for (std::uint32_t i = 0; i < order_.size(); ++i) TRY(add_inode(i));
  image_.xattrs.reserve(xattrs_.size());
  for (XattrId id = 0; id < xattrs_.size(); ++id) image_.xattrs.push_back({xattrs_[id].name, xattrs_[id].value});
  return erofs::write_image(image_);
}

}  // namespace

Result<std::vector<std::byte>> build_image(const Tree& tree, Versions versions) {
  if (tree.empty() || !tree[kRoot].is_dir() || versions.least > kMostVersion || versions.most > kMostVersion)
    return fail(EINVAL);
  std::uint32_t version = versions.least;
  for (std::uint32_t i = 0; i < tree.size() && version < versions.most && version < 1; ++i)
    if (tree[NodeId{i}].is_whiteout()) version = 1;
  return Builder(tree, version).build();
}

}  // namespace vellum::composefs
