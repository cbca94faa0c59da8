#include "composefs/diff.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace vellum::composefs {
namespace {

class Differ {
 public:
  Differ(const Tree& from, const Tree& to, const ChangeSink& sink) : from_(from), to_(to), sink_(sink) {}
  void run();

 private:
  struct Level {  // either side may be empty: a directory that the other tree does not have
    std::span<const NodeId> from, to;
    std::size_t path_size;
  };

  void step();
  void enter(const Node* from, const Node* to);
  void compare(NodeId from, NodeId to);
  std::string differences(NodeId from, NodeId to) const;
  bool same_xattrs(const Node& from, const Node& to) const;

  const Tree& from_;
  const Tree& to_;
  const ChangeSink& sink_;
  std::string path_;
  std::vector<Level> levels_;
};

bool same_content(const Node& from, const Node& to) {
  if (from.size != to.size) return false;
  const auto old = from.any_digest(), now = to.any_digest();
  if (!old.empty() && !now.empty()) return std::ranges::equal(old, now);
  if (from.content != nullptr && to.content != nullptr) return from.content_view() == to.content_view();
  return from.digest == to.digest && from.content == to.content && from.payload == to.payload;
}

bool Differ::same_xattrs(const Node& from, const Node& to) const {
  if (from.xattrs_count != to.xattrs_count) return false;
  const auto sorted = [](const Tree& tree, const Node& node) {
    std::vector<XattrPair> pairs;
    for (const XattrId id : tree.xattrs(node)) pairs.push_back(tree.xattr_table()[id]);
    std::ranges::sort(pairs, {}, &XattrPair::name);
    return pairs;
  };
  return sorted(from_, from) == sorted(to_, to);
}

std::string Differ::differences(NodeId from_id, NodeId to_id) const {
  const Node &from = from_[from_.target(from_id)], &to = to_[to_.target(to_id)];
  std::string what;
  const auto add = [&what](bool differs, std::string_view name) {
    if (!differs) return;
    if (!what.empty()) what += ", ";
    what += name;
  };
  if (from.type() != to.type()) return "type";
  add(from.mode != to.mode, "mode");
  add(from.uid != to.uid || from.gid != to.gid, "owner");
  add(from.mtime != to.mtime || from.mtime_nsec != to.mtime_nsec, "time");
  add(from.is_regular() && !same_content(from, to), "content");
  add(from.is_symlink() && from.payload != to.payload, "target");
  add(from.is_device() && from.rdev != to.rdev, "device");
  add(!from.is_dir() && from.nlink != to.nlink, "links");
  add(!same_xattrs(from, to), "xattrs");
  return what;
}

void Differ::enter(const Node* from, const Node* to) {
  Level level{.from = {}, .to = {}, .path_size = path_.size()};
  if (from != nullptr && from->is_dir()) level.from = from_.children(*from);
  if (to != nullptr && to->is_dir()) level.to = to_.children(*to);
  if (!level.from.empty() || !level.to.empty()) levels_.push_back(level);
}

void Differ::compare(NodeId from, NodeId to) {
  const std::string what = differences(from, to);
  if (!what.empty()) sink_(Change::kChanged, path_.empty() ? "/" : path_, what);
  enter(&from_[from], &to_[to]);
}

void Differ::step() {
  Level& here = levels_.back();
  if (here.from.empty() && here.to.empty()) {
    levels_.pop_back();
    return;
  }
  path_.resize(here.path_size);
  path_ += '/';
  const Node* from = here.from.empty() ? nullptr : &from_[here.from.front()];
  const Node* to = here.to.empty() ? nullptr : &to_[here.to.front()];
  if (from != nullptr && to != nullptr && from->name == to->name) {
    path_ += from->name;
    const NodeId left = here.from.front(), right = here.to.front();
    here.from = here.from.subspan(1);
    here.to = here.to.subspan(1);
    compare(left, right);
  } else if (to == nullptr || (from != nullptr && from->name < to->name)) {
    path_ += from->name;
    here.from = here.from.subspan(1);
    sink_(Change::kRemoved, path_, "");
    enter(from, nullptr);
  } else {
    path_ += to->name;
    here.to = here.to.subspan(1);
    sink_(Change::kAdded, path_, "");
    enter(nullptr, to);
  }
}

void Differ::run() {
  if (from_.empty() || to_.empty()) return;
  compare(kRoot, kRoot);
  while (!levels_.empty()) step();
}

}  // namespace

void diff(const Tree& from, const Tree& to, const ChangeSink& sink) { Differ(from, to, sink).run(); }

}  // namespace vellum::composefs
