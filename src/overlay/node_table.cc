#include "overlay/node_table.h"

#include <algorithm>
#include <new>

namespace vellum::overlay {
namespace {

// The upper 16 bits of a NodeId stay 0: whoever serves several tables in one mount tells them apart by these.
constexpr std::uint64_t kGeneration = 1ULL << 28;
constexpr std::uint64_t kSlotMask = kGeneration - 1;
constexpr std::uint64_t kIdMask = (1ULL << 48) - 1;

}  // namespace

NodeTable::NodeTable()
    : chunks_(static_cast<std::atomic<Node*>*>(std::calloc(kMaxChunks, sizeof(std::atomic<Node*>)))) {
  static_assert(kChunk * kMaxChunks == kGeneration);
  if (!chunks_) throw std::bad_alloc();
  NodeRef root = make();
  root_ = root.get();
  root_->dir = std::make_unique<DirState>();
  root_->refs.fetch_add(1, std::memory_order_relaxed);  // the table's own: the root is never freed
}

NodeTable::~NodeTable() {
  for (std::size_t i = 0; i < kMaxChunks; ++i) {
    Node* chunk = chunks_[i].load(std::memory_order_relaxed);
    if (chunk == nullptr) break;
    delete[] chunk;
  }
}

NodeRef NodeTable::make() {
  std::uint64_t slot;
  {
    MutexLock lock(slots_mutex_);
    if (!free_slots_.empty()) {
      slot = free_slots_.back();
      free_slots_.pop_back();
    } else {
      slot = next_slot_++;
      std::atomic<Node*>& chunk = chunks_[slot / kChunk];
      if (chunk.load(std::memory_order_relaxed) == nullptr) {
        chunk.store(new Node[kChunk], std::memory_order_release);
      }
    }
  }
  Node& node = chunks_[slot / kChunk].load(std::memory_order_acquire)[slot % kChunk];
  std::uint64_t before = node.id.load(std::memory_order_relaxed);
  node.id.store(before == 0 ? slot : (before + kGeneration) & kIdMask, std::memory_order_relaxed);
  live_.fetch_add(1, std::memory_order_relaxed);
  node.refs.store(1, std::memory_order_release);
  return NodeRef(this, &node);
}

bool NodeTable::try_ref(Node& node) {
  std::uint64_t refs = node.refs.load(std::memory_order_relaxed);
  while (refs != 0) {
    if (node.refs.compare_exchange_weak(refs, refs + 1, std::memory_order_acquire)) return true;
  }
  return false;
}

Result<NodeRef> NodeTable::get(fuse::NodeId id) {
  auto found = find_id(id);
  if (found) {
    if (Node* successor = (*found)->successor.load(std::memory_order_acquire)) return pin(*successor);
  }
  return found;
}

Result<NodeRef> NodeTable::find_id(fuse::NodeId id) {
  std::uint64_t slot = fuse::raw(id) & kSlotMask;
  if (slot == 0 || slot / kChunk >= kMaxChunks) return fail(ESTALE);
  Node* chunk = chunks_[slot / kChunk].load(std::memory_order_acquire);
  if (chunk == nullptr) return fail(ESTALE);
  Node& node = chunk[slot % kChunk];
  if (!try_ref(node)) return fail(ESTALE);
  NodeRef ref(this, &node);
  if (node.id.load(std::memory_order_relaxed) != fuse::raw(id)) return fail(ESTALE);
  return ref;
}

NodeRef NodeTable::pin(Node& node) {
  node.refs.fetch_add(1, std::memory_order_relaxed);
  return NodeRef(this, &node);
}

void NodeTable::place(Node& node, Node& parent, std::string_view name) {
  node.parent = &parent;
  node.name = NodeName(name);
  parent.refs.fetch_add(1, std::memory_order_relaxed);
  Shard& home = shard(parent, name);
  MutexLock lock(home.mutex);
  auto found = home.names.find(Key{&parent, name});
  if (found != home.names.end()) home.names.erase(found);  // a node on its way out
  home.names.insert(&node);
}

NodeRef NodeTable::insert(NodeRef node, Node& parent, std::string_view name) {
  Shard& home = shard(parent, name);
  MutexLock lock(home.mutex);
  auto found = home.names.find(Key{&parent, name});
  if (found != home.names.end()) {
    if (try_ref(**found)) return NodeRef(this, *found);
    home.names.erase(found);
  }
  node->parent = &parent;
  node->name = NodeName(name);
  parent.refs.fetch_add(1, std::memory_order_relaxed);
  home.names.insert(node.get());
  return node;
}

void NodeTable::name_again(Node& node, Node& parent, std::string_view name) {
  place(node, parent, name);
  node.nameless.store(false, std::memory_order_release);
}

NodeRef NodeTable::find(Node& parent, std::string_view name) {
  {
    Shard& home = shard(parent, name);
    MutexLock lock(home.mutex);
    auto found = home.names.find(Key{&parent, name});
    if (found != home.names.end()) return try_ref(**found) ? NodeRef(this, *found) : NodeRef();
  }
  if (alias_count_.load(std::memory_order_acquire) == 0) return {};
  MutexLock lock(alias_mutex_);
  auto found = alias_names_.find(std::make_pair(static_cast<const Node*>(&parent), std::string(name)));
  if (found != alias_names_.end() && try_ref(*found->second)) return NodeRef(this, found->second);
  return {};
}

void NodeTable::add_alias(Node& node, Node& parent, std::string_view name) {
  MutexLock lock(alias_mutex_);
  auto [slot, inserted] =
      alias_names_.try_emplace(std::make_pair(static_cast<const Node*>(&parent), std::string(name)), &node);
  if (!inserted) {
    if (slot->second == &node) return;
    slot->second = &node;  // the other node is on its way out
  }
  node.file->aliases.push_back({&parent, std::string(name)});
  parent.refs.fetch_add(1, std::memory_order_relaxed);
  alias_count_.fetch_add(1, std::memory_order_release);
}

bool NodeTable::has_alias(const Node& node) {
  MutexLock lock(alias_mutex_);
  return node.file && !node.file->aliases.empty();
}

std::vector<std::pair<NodeRef, std::string>> NodeTable::names_of(Node& node) {
  std::vector<std::pair<NodeRef, std::string>> names;
  if (node.parent != nullptr) names.emplace_back(pin(*node.parent), node.name.view());
  MutexLock lock(alias_mutex_);
  if (!node.file) return names;
  for (const Alias& alias : node.file->aliases) names.emplace_back(pin(*alias.parent), alias.name);
  return names;
}

// Takes (parent, name) out of the node's aliases; the pin on parent passes to the caller.
bool NodeTable::take_alias(Node& node, const Node& parent, std::string_view name) {
  MutexLock lock(alias_mutex_);
  if (!node.file) return false;
  auto& list = node.file->aliases;
  auto at =
      std::find_if(list.begin(), list.end(), [&](const Alias& a) { return a.parent == &parent && a.name == name; });
  if (at == list.end()) return false;
  auto slot = alias_names_.find(std::make_pair(&parent, std::string(name)));
  if (slot != alias_names_.end() && slot->second == &node) alias_names_.erase(slot);
  list.erase(at);
  alias_count_.fetch_sub(1, std::memory_order_release);
  return true;
}

void NodeTable::unplace(Node& node) {
  Shard& home = shard(*node.parent, node.name.view());
  MutexLock lock(home.mutex);
  auto found = home.names.find(Key{node.parent, node.name.view()});
  if (found != home.names.end() && *found == &node) home.names.erase(found);
}

void NodeTable::erase(Node& node, Node& parent, std::string_view name) {
  if (node.parent != &parent || node.name.view() != name) {
    if (take_alias(node, parent, name)) unref(&parent);
    return;
  }
  unplace(node);
  Node* old_parent = std::exchange(node.parent, nullptr);
  node.name = NodeName();
  Alias next;
  {
    MutexLock lock(alias_mutex_);
    if (node.file && !node.file->aliases.empty()) next = node.file->aliases.back();
  }
  if (next.parent != nullptr && take_alias(node, *next.parent, next.name)) {
    place(node, *next.parent, next.name);
    unref(next.parent);  // the alias's pin; place() took its own
  } else {
    node.nameless.store(true, std::memory_order_release);
  }
  unref(old_parent);
}

void NodeTable::retire(Node& node, Node& successor) {
  Node& parent = *node.parent;
  Shard& home = shard(parent, node.name.view());
  {
    MutexLock lock(home.mutex);
    auto found = home.names.find(Key{&parent, node.name.view()});
    if (found != home.names.end() && *found == &node) home.names.erase(found);
    successor.parent = std::exchange(node.parent, nullptr);  // with its pin
    successor.name = std::exchange(node.name, NodeName());
    home.names.insert(&successor);
  }
  successor.refs.fetch_add(1, std::memory_order_relaxed);
  node.nameless.store(true, std::memory_order_release);
  node.successor.store(&successor, std::memory_order_release);
}

void NodeTable::move(Node& node, Node& parent, std::string_view name, Node& new_parent, std::string_view new_name) {
  if (node.parent != &parent || node.name.view() != name) {
    if (!take_alias(node, parent, name)) return;
    add_alias(node, new_parent, new_name);
    unref(&parent);
    return;
  }
  unplace(node);
  Node* old_parent = std::exchange(node.parent, nullptr);
  place(node, new_parent, new_name);
  unref(old_parent);
}

NodeRef NodeTable::find_inode(const InodeKey& inode) {
  MutexLock lock(alias_mutex_);
  auto found = inodes_.find(inode);
  if (found != inodes_.end() && try_ref(*found->second)) return NodeRef(this, found->second);
  return {};
}

void NodeTable::register_inode(Node& node, const InodeKey& inode) {
  MutexLock lock(alias_mutex_);
  inodes_[inode] = &node;
  auto& known = node.file->inodes;
  if (std::find(known.begin(), known.end(), inode) == known.end()) known.push_back(inode);
}

void NodeTable::unregister_inode(Node& node) {
  MutexLock lock(alias_mutex_);
  for (const auto& key : node.file->inodes) {
    auto found = inodes_.find(key);
    if (found != inodes_.end() && found->second == &node) inodes_.erase(found);
  }
  node.file->inodes.clear();
}

void NodeTable::add_lookup(Node& node) {
  node.refs.fetch_add(1, std::memory_order_release);  // publishes the node to whoever asks for its id next
  node.lookups.fetch_add(1, std::memory_order_relaxed);
}

void NodeTable::forget(fuse::NodeId id, std::uint64_t count) {
  auto ref = find_id(id);
  if (!ref) return;
  Node& node = **ref;
  // Never give back more than was handed out: the rest of refs belongs to others.
  std::uint64_t owned = node.lookups.load(std::memory_order_relaxed);
  std::uint64_t taken = 0;
  do {
    taken = std::min(owned, count);
  } while (!node.lookups.compare_exchange_weak(owned, owned - taken, std::memory_order_relaxed));
  node.refs.fetch_sub(taken, std::memory_order_release);  // ref still pins it
}

// Frees the slot and returns the parent (or successor), whose pin the caller now holds.
Node* NodeTable::destroy(Node* node) {
  if (node->parent != nullptr) unplace(*node);
  std::vector<Alias> aliases;
  if (node->file) {
    unregister_inode(*node);
    {
      MutexLock lock(alias_mutex_);
      aliases = node->file->aliases;
    }
    for (const Alias& alias : aliases) {
      if (take_alias(*node, *alias.parent, alias.name)) unref(alias.parent);
    }
  }
  // A retired node has no name left, and pins its successor in place of a parent.
  Node* parent = std::exchange(node->parent, nullptr);
  if (Node* successor = node->successor.exchange(nullptr, std::memory_order_relaxed)) parent = successor;
  node->name = NodeName();
  node->dir.reset();
  node->file.reset();
  node->ino = 0;
  node->layer = 0;
  node->type = 0;
  node->in_upper.store(false, std::memory_order_relaxed);
  node->nameless.store(false, std::memory_order_relaxed);
  node->stored.store(false, std::memory_order_relaxed);
  node->pinned = false;
  live_.fetch_sub(1, std::memory_order_relaxed);
  MutexLock lock(slots_mutex_);
  free_slots_.push_back(static_cast<std::uint32_t>(node->id.load(std::memory_order_relaxed) & kSlotMask));
  return parent;
}

void NodeTable::unref(Node* node) {
  while (node != nullptr) {
    if (node->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    node = destroy(node);
  }
}

}  // namespace vellum::overlay
