#include "composefs/load.h"

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "composefs/overlay_names.h"
#include "composefs/verity.h"

namespace vellum::composefs {
namespace {

constexpr std::uint64_t kSlack = std::uint64_t{1} << 20;
// Names of xattrs lose their prefix in an image, and escaped ones are long.
constexpr std::uint64_t kXattrGrowth = 4;
// Of one inode. More than composefs writes: other images may hold values of 64 KiB.
constexpr std::uint64_t kInodeXattrs = 4 * kXattrBudget;

// What may still be taken of something that an image holds only once, unless its parts overlap.
struct Budget {
  std::uint64_t left;
  const char* what;
};

class Loader {
 public:
  Loader(const erofs::Image& image, const LoadOptions& options)
      : image_(image), options_(options), room_(image.bytes().size()) {}
  std::expected<Tree, std::string> load();

 private:
  struct Level {
    NodeId dir;
    std::vector<erofs::Child> left;  // in reverse
    bool has_whiteouts = false;
  };

  Status enter(NodeId id, const erofs::Inode& inode);
  void leave();
  Status visit(const erofs::Child& child);
  Status fill(NodeId id, const erofs::Inode& inode);
  Status take_xattrs(NodeId id, const erofs::Inode& inode);
  void take_xattr(Node& node, std::string_view name, const erofs::Xattr& xattr);
  void intern(std::string_view name, std::string_view value);
  std::string_view keep(std::string_view value, bool shared);
  bool spend(Budget& budget, std::uint64_t amount);
  bool wanted(std::string_view name) const {
    return levels_.size() > 1 || options_.only.empty() || std::ranges::find(options_.only, name) != options_.only.end();
  }

  const erofs::Image& image_;
  const LoadOptions& options_;
  Tree tree_;
  absl::flat_hash_map<std::uint64_t, NodeId> seen_;  // by nid
  std::vector<Level> levels_;
  std::vector<XattrId> xattrs_;
  std::string name_;
  absl::flat_hash_set<std::string_view> shared_values_;  // that are kept as strings

  const std::uint64_t room_;
  Budget directories_{room_ + kSlack, "its directories are together larger than the image"};
  Budget names_{room_ + kSlack, "its names are together larger than the image"};
  Budget contents_{room_ + kSlack, "its symlinks and small files are together larger than the image"};
  Budget areas_{room_ + kSlack, "the xattrs of its inodes are together larger than the image"};
  Budget distinct_{kXattrGrowth * room_ + kSlack, "its xattrs overlap: together they are far larger than the image"};
  const char* over_ = nullptr;  // what there was too much of
};

bool Loader::spend(Budget& budget, std::uint64_t amount) {
  if (amount <= budget.left) {
    budget.left -= amount;
    return true;
  }
  if (over_ == nullptr) over_ = budget.what;
  return false;
}

// What the reader reports only to the log becomes part of the answer here.
std::string describe(Errno error, const char* over) {
  if (error == EUCLEAN) return fmt::format("the image is damaged{}{}", over != nullptr ? ": " : "", over ? over : "");
  return error.message();
}

std::expected<Tree, std::string> Loader::load() {
  const auto work = [this]() -> Status {
    const erofs::Inode root = TRY(image_.inode(image_.root()));
    if (!root.is_dir()) return image_.damaged(root.nid, "the root is not a directory");
    const NodeId id = tree_.add(kNoNode, "");
    seen_.emplace(erofs::raw(root.nid), id);
    TRY(fill(id, root));
    TRY(enter(id, root));
    while (!levels_.empty()) {
      if (levels_.back().left.empty()) {
        leave();
        continue;
      }
      const erofs::Child child = levels_.back().left.back();
      levels_.back().left.pop_back();
      TRY(visit(child));
    }
    return {};
  };
  if (const Status done = work(); !done) return std::unexpected(describe(done.error(), over_));
  if (auto finished = tree_.finish(); !finished) return std::unexpected(finished.error());
  return std::move(tree_);
}

Status Loader::enter(NodeId id, const erofs::Inode& inode) {
  if (!spend(directories_, inode.size)) return fail(EUCLEAN);
  Level& level = levels_.emplace_back();
  level.dir = id;
  TRY(image_.read_dir(inode, 0, [this, &level](const erofs::Child& child, std::uint64_t) {
    if (child.name == "." || child.name == ".." || !wanted(child.name)) return true;
    level.left.push_back(child);
    return spend(names_, child.name.size());
  }));
  if (over_ != nullptr) return fail(EUCLEAN);
  // The tree's parts stand in the order in which a reader of names meets them, also where the image has them otherwise.
  std::ranges::reverse(level.left);
  return {};
}

// Version 1 marks directories with whiteouts in one way more. The mark is not content: it is made anew with an image.
void Loader::leave() {
  const Level& level = levels_.back();
  const bool marked = image_.composefs() && image_.composefs()->composefs_version >= 1 && level.has_whiteouts;
  if (marked) {
    xattrs_.clear();
    for (const XattrId id : tree_.xattrs(tree_[level.dir])) {
      const XattrPair& pair = tree_.xattr_table()[id];
      if ((pair.name == kOpaqueName || pair.name == kUserOpaque) && pair.value == "x") continue;
      xattrs_.push_back(id);
    }
    tree_.set_xattrs(level.dir, xattrs_);
  }
  levels_.pop_back();
}

Status Loader::visit(const erofs::Child& child) {
  const erofs::Inode inode = TRY(image_.inode(child.nid));
  if (inode.is_char_device() && inode.rdev == 0) return {};
  const NodeId dir = levels_.back().dir;
  const auto [known, is_new] = seen_.emplace(erofs::raw(child.nid), NodeId{static_cast<std::uint32_t>(tree_.size())});
  if (!is_new) {
    if (inode.is_dir()) return image_.damaged(inode.nid, "a directory has two names");
    const NodeId first = known->second;
    const NodeId id = tree_.add(dir, child.name);
    tree_[id].link = first;
    return {};
  }
  const NodeId id = tree_.add(dir, child.name);
  TRY(fill(id, inode));
  if (tree_[id].is_whiteout()) levels_.back().has_whiteouts = true;
  return inode.is_dir() ? enter(id, inode) : Status();
}

Status Loader::fill(NodeId id, const erofs::Inode& inode) {
  {
    Node& node = tree_[id];
    node.mode = inode.mode;
    node.nlink = inode.nlink;
    node.uid = inode.uid;
    node.gid = inode.gid;
    node.mtime = inode.mtime;
    node.mtime_nsec = inode.mtime_nsec;
    node.size = inode.size;
    // The image holds the device number as it was given, not as this reader shows it to a kernel.
    if (node.is_device()) node.rdev = inode.u;
    if (node.is_symlink()) {
      const std::string target = TRY(image_.symlink(inode));
      if (target.empty() || target.size() >= kPathMax || target.find('\0') != std::string::npos)
        return image_.damaged(inode.nid, "the target of a symlink");
      if (!spend(contents_, target.size())) return fail(EUCLEAN);
      node.payload = tree_.keep(target);
      node.size = target.size();
    } else if (node.is_regular() && inode.size > 0 && inode.layout != erofs::Layout::kChunks) {
      if (inode.size > kInlineMax) return fail(EFBIG);
      if (!spend(contents_, inode.size)) return fail(EUCLEAN);
      std::array<std::byte, kInlineMax> content;
      const std::size_t got =
          TRY(image_.read(inode, 0, std::span(content).first(static_cast<std::size_t>(inode.size))));
      if (got != inode.size) return image_.damaged(inode.nid, "the content of a file is cut short");
      const std::span<char> room = tree_.reserve(got);
      std::ranges::transform(std::span(content).first(got), room.begin(),
                             [](std::byte b) { return static_cast<char>(b); });
      node.content = room.data();
    }
  }
  return take_xattrs(id, inode);
}

Status Loader::take_xattrs(NodeId id, const erofs::Inode& inode) {
  xattrs_.clear();
  if (!spend(areas_, inode.xattrs_size)) return fail(EUCLEAN);
  Budget here{kInodeXattrs, "an inode has more xattrs than there may be"};
  TRY(image_.read_xattrs(inode, [&](const erofs::Xattr& xattr) {
    name_.assign(erofs::kXattrPrefixes[xattr.index]);
    name_ += xattr.suffix;
    if (!spend(here, xattr_cost(name_.size(), xattr.value.size()))) return false;
    take_xattr(tree_[id], name_, xattr);
    return over_ == nullptr;
  }));
  if (over_ != nullptr) return fail(EUCLEAN);
  tree_.set_xattrs(id, xattrs_);
  return {};
}

void Loader::intern(std::string_view name, std::string_view value) {
  const std::size_t known = tree_.xattr_table().size();
  xattrs_.push_back(tree_.intern_xattr(name, value));
  if (tree_.xattr_table().size() > known) spend(distinct_, name.size() + value.size());
}

// An inode's own xattrs are counted as such. Shared ones are kept once: any number of inodes may name them.
std::string_view Loader::keep(std::string_view value, bool shared) {
  if (!shared) return tree_.keep(value);
  if (const auto known = shared_values_.find(value); known != shared_values_.end()) return *known;
  spend(distinct_, value.size());
  return *shared_values_.insert(tree_.keep(value)).first;
}

void Loader::take_xattr(Node& node, std::string_view name, const erofs::Xattr& xattr) {
  std::string_view value = xattr.value;
  if (name == kRedirectName) {
    if (!node.is_regular()) return;
    if (value.size() > 1 && value.starts_with('/')) value.remove_prefix(1);
    node.payload = keep(value.substr(0, value.find('\0')), xattr.shared);
    return;
  }
  if (name == kMetacopyName) {
    constexpr std::size_t kHead = 4;  // version, length of it all, flags, algorithm
    constexpr std::size_t kSha256 = kHead + 32, kSha512 = kHead + 64;
    const bool sha512 = value.size() == kSha512 && value[3] == static_cast<char>(Hash::kSha512);
    if (node.is_regular() && (value.size() == kSha256 || sha512)) {
      const std::string_view kept = keep(value.substr(kHead), xattr.shared);
      (sha512 ? node.sha512 : node.digest) = static_cast<const std::uint8_t*>(static_cast<const void*>(kept.data()));
    }
    return;
  }
  // What has content is no whiteout, but a file of a layer that uses the same mark.
  if (name == kEscapedWhiteout && node.is_regular() && node.size == 0) {
    node.mode = 0020000 | (node.mode & 07777);
    node.rdev = 0;
    return;
  }
  if (name == kEscapedWhiteouts || name == kUserWhiteout || name == kUserWhiteouts) return;
  if (name.starts_with(kEscapedPrefix))
    return intern(std::string(kOverlayPrefix).append(name.substr(kEscapedPrefix.size())), value);
  if (name.starts_with(kOverlayPrefix)) return;
  intern(name, value);
}

}  // namespace

std::expected<Tree, std::string> load_tree(const erofs::Image& image, const LoadOptions& options) {
  return Loader(image, options).load();
}

}  // namespace vellum::composefs
