// The only owner of nodes. Finds them by NodeId, by (parent, name), and, for files with several links, by inode.
//
// Slots live in chunks that are never freed while the table lives; a NodeId is slot (28 bits) and generation (20 bits),
// so a stale or invented one is ESTALE, never another node and never a crash. NodeRef pins a node. Threads: safe.
// Locks: leaves (locking.h).
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "overlay/node.h"

namespace vellum::overlay {

class NodeTable;

class NodeRef {
 public:
  NodeRef() = default;
  NodeRef(NodeTable* table, Node* node) : table_(table), node_(node) {}  // takes over one ref
  NodeRef(NodeRef&& other) noexcept : table_(other.table_), node_(std::exchange(other.node_, nullptr)) {}
  NodeRef& operator=(NodeRef&& other) noexcept {
    std::swap(table_, other.table_);
    std::swap(node_, other.node_);
    return *this;
  }
  NodeRef(const NodeRef&) = delete;
  NodeRef& operator=(const NodeRef&) = delete;
  ~NodeRef();

  NodeRef share() const;
  Node* get() const { return node_; }
  Node* operator->() const { return node_; }
  Node& operator*() const { return *node_; }
  explicit operator bool() const { return node_ != nullptr; }

 private:
  NodeTable* table_ = nullptr;
  Node* node_ = nullptr;
};

class NodeTable {
 public:
  NodeTable();
  ~NodeTable();

  Node& root() { return *root_; }
  // A retired node's successor stands for it.
  Result<NodeRef> get(fuse::NodeId id);
  NodeRef pin(Node& node);  // the caller already holds a ref of some kind

  // A new node, pinned by the result, without a place. Not yet found by anyone.
  NodeRef make();
  // Puts the node under (parent, name), as its primary name. If another node is there already, that one is returned
  // and `node` stays nameless.
  NodeRef insert(NodeRef node, Node& parent, std::string_view name);
  NodeRef find(Node& parent, std::string_view name);
  // A nameless node got a name (link of an O_TMPFILE).
  void name_again(Node& node, Node& parent, std::string_view name);
  // A further name of a node that has one.
  void add_alias(Node& node, Node& parent, std::string_view name);
  bool has_alias(const Node& node);
  // All its names, each with its directory pinned. The node is locked, shared.
  std::vector<std::pair<NodeRef, std::string>> names_of(Node& node);
  // Forgets that (parent, name) leads to a node. If it was the node's primary name, an alias takes its place;
  // without one the node becomes nameless. Call with the node locked exclusively (or the tree).
  void erase(Node& node, Node& parent, std::string_view name);
  // Gives the only name of `node` to `successor`, for good. Call with the node and its parent locked exclusively.
  void retire(Node& node, Node& successor);
  // Moves the binding (parent, name) of `node` to (new_parent, new_name), which is free.
  void move(Node& node, Node& parent, std::string_view name, Node& new_parent, std::string_view new_name);
  // Files with several links. find_inode() pins what it finds.
  NodeRef find_inode(const InodeKey& inode);
  void register_inode(Node& node, const InodeKey& inode);
  void unregister_inode(Node& node);

  // The kernel's count.
  void add_lookup(Node& node);
  void forget(fuse::NodeId id, std::uint64_t count);

  void unref(Node* node);

  std::uint64_t live() const { return live_.load(std::memory_order_relaxed); }

 private:
  // Small enough that a thousand little mounts in one process cost little.
  static constexpr std::size_t kChunk = 128;
  static constexpr std::size_t kMaxChunks = 1 << 21;  // 268 million nodes
  static constexpr std::size_t kShards = 64;

  struct Key {
    const Node* parent;
    std::string_view name;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(const Key& key) const { return absl::HashOf(key.parent, key.name); }
    std::size_t operator()(const Node* node) const {
      return absl::HashOf(const_cast<const Node*>(node->parent), node->name.view());
    }
  };
  struct Equal {
    using is_transparent = void;
    static Key key(const Key& k) { return k; }
    static Key key(const Node* n) { return {n->parent, n->name.view()}; }
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      Key x = key(a), y = key(b);
      return x.parent == y.parent && x.name == y.name;
    }
  };
  struct Shard {
    Mutex mutex;
    absl::flat_hash_set<Node*, Hash, Equal> names VELLUM_GUARDED_BY(mutex);
  };

  Shard& shard(const Node& parent, std::string_view name) { return shards_[absl::HashOf(&parent, name) % kShards]; }
  bool try_ref(Node& node);
  Result<NodeRef> find_id(fuse::NodeId id);
  void place(Node& node, Node& parent, std::string_view name);
  void unplace(Node& node);
  bool take_alias(Node& node, const Node& parent, std::string_view name);
  Node* destroy(Node* node);

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  // From calloc: pages of it come to be when they are used.
  std::unique_ptr<std::atomic<Node*>[], Free> chunks_;
  std::array<Shard, kShards> shards_;
  Node* root_ = nullptr;

  Mutex slots_mutex_;
  std::vector<std::uint32_t> free_slots_ VELLUM_GUARDED_BY(slots_mutex_);
  std::uint64_t next_slot_ VELLUM_GUARDED_BY(slots_mutex_) = 1;

  Mutex alias_mutex_;
  std::atomic<std::size_t> alias_count_{0};
  absl::flat_hash_map<std::pair<const Node*, std::string>, Node*> alias_names_ VELLUM_GUARDED_BY(alias_mutex_);
  absl::flat_hash_map<InodeKey, Node*> inodes_ VELLUM_GUARDED_BY(alias_mutex_);
  std::atomic<std::uint64_t> live_{0};
};

inline NodeRef::~NodeRef() {
  if (node_ != nullptr) table_->unref(node_);
}
inline NodeRef NodeRef::share() const { return node_ == nullptr ? NodeRef() : table_->pin(*node_); }

}  // namespace vellum::overlay
