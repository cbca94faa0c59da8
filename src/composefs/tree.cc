#include "composefs/tree.h"

#include <absl/hash/hash.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace vellum::composefs {
namespace {

constexpr std::size_t kArenaBlock = 256 * 1024;

}  // namespace

std::span<char> StringArena::reserve(std::size_t size) {
  if (size > kArenaBlock / 4) {  // a block of its own; the current one goes on
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(size));
    return {blocks_.back().get(), size};
  }
  if (next_ == nullptr || left_ < size) {
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(kArenaBlock));
    next_ = blocks_.back().get();
    left_ = kArenaBlock;
  }
  const std::span<char> room(next_, size);
  next_ += size;
  left_ -= size;
  return room;
}

std::string_view StringArena::keep(std::string_view text) {
  const std::span<char> room = reserve(text.size());
  if (!text.empty()) std::memcpy(room.data(), text.data(), text.size());
  return {room.data(), room.size()};
}

XattrTable::XattrTable()
    : pairs_(std::make_unique<std::vector<XattrPair>>()), index_(0, Hash{pairs_.get()}, Equal{pairs_.get()}) {}

std::size_t XattrTable::Hash::operator()(const XattrPair& pair) const { return absl::HashOf(pair.name, pair.value); }

XattrId XattrTable::intern(std::string_view name, std::string_view value) {
  const XattrPair wanted{name, value};
  if (const auto found = index_.find(wanted); found != index_.end()) return *found;
  const auto id = static_cast<XattrId>(pairs_->size());
  pairs_->push_back({strings_.keep(name), strings_.keep(value)});
  index_.insert(id);
  return id;
}

NodeId Tree::add(NodeId parent, std::string_view name) {
  const NodeId id{static_cast<std::uint32_t>(nodes_.size())};
  Node& node = nodes_.emplace_back();
  node.name = strings_.keep(name);
  node.parent = parent;
  return id;
}

void Tree::set_content(Node& node, std::string_view content) {
  node.size = content.size();
  node.content = content.empty() ? nullptr : strings_.keep(content).data();
}

void Tree::set_digest(Node& node, std::span<const std::uint8_t> digest) {
  const std::span<char> room = strings_.reserve(digest.size());
  std::memcpy(room.data(), digest.data(), digest.size());
  // unsigned char may stand for char
  node.digest = static_cast<const std::uint8_t*>(static_cast<const void*>(room.data()));
}

void Tree::set_xattrs(NodeId id, std::span<const XattrId> ids) {
  Node& node = (*this)[id];
  node.xattrs_begin = static_cast<std::uint32_t>(node_xattrs_.size());
  node.xattrs_count = static_cast<std::uint32_t>(ids.size());
  node_xattrs_.insert(node_xattrs_.end(), ids.begin(), ids.end());
}

std::expected<void, std::string> Tree::finish() {
  if (nodes_.empty()) return std::unexpected("there is no root");
  if (auto sorted = sort_children(); !sorted) return sorted;
  return resolve_links();
}

std::expected<void, std::string> Tree::sort_children() {
  // Counted, placed, and then sorted where they did not come in order, which is the rare case.
  for (std::size_t i = 1; i < nodes_.size(); ++i) ++nodes_[raw(nodes_[i].parent)].children_count;
  std::uint32_t begin = 0;
  for (Node& node : nodes_) {
    node.children_begin = begin;
    begin += node.children_count;
  }
  children_.resize(nodes_.size() - 1);
  std::vector<std::uint32_t> placed(nodes_.size());
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    const std::uint32_t parent = raw(nodes_[i].parent);
    children_[nodes_[parent].children_begin + placed[parent]++] = NodeId{static_cast<std::uint32_t>(i)};
  }
  for (const Node& node : nodes_) {
    const std::span<NodeId> names = std::span(children_).subspan(node.children_begin, node.children_count);
    const auto name = [this](NodeId id) { return (*this)[id].name; };
    if (!std::ranges::is_sorted(names, {}, name)) std::ranges::sort(names, {}, name);
    const auto twice = std::ranges::adjacent_find(names, {}, name);
    if (twice != names.end()) return std::unexpected(fmt::format("Path {} already exist", path(*twice)));
  }
  return {};
}

std::expected<void, std::string> Tree::resolve_links() {
  // A link may lead to a link. Each chain is walked once: what lies on it then leads straight to its end.
  std::vector<NodeId> chain;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    NodeId end{static_cast<std::uint32_t>(i)};
    chain.clear();
    while ((*this)[end].link != kNoNode) {
      if (chain.size() > nodes_.size()) return std::unexpected(fmt::format("Self-referential hardlink {}", path(end)));
      chain.push_back(end);
      end = (*this)[end].link;
    }
    if (chain.empty()) continue;
    if ((*this)[end].is_dir()) return std::unexpected(fmt::format("Hardlink {} leads to a directory", path(chain[0])));
    for (const NodeId link : chain) (*this)[link].link = end;
  }
  return {};
}

std::optional<NodeId> Tree::find(const Node& dir, std::string_view name) const {
  const std::span<const NodeId> names = children(dir);
  const auto found = std::ranges::lower_bound(names, name, {}, [this](NodeId id) { return (*this)[id].name; });
  if (found == names.end() || (*this)[*found].name != name) return std::nullopt;
  return *found;
}

std::string Tree::path(NodeId id) const {
  std::size_t size = 0;
  for (NodeId at = id; at != kRoot; at = (*this)[at].parent) size += 1 + (*this)[at].name.size();
  if (size == 0) return "/";
  std::string text(size, '/');
  for (NodeId at = id; at != kRoot; at = (*this)[at].parent) {
    const std::string_view name = (*this)[at].name;
    size -= name.size();
    std::memcpy(text.data() + size, name.data(), name.size());
    --size;
  }
  return text;
}

}  // namespace vellum::composefs
