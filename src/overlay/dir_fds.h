// A bounded cache of open directories of layers, by node and layer.
//
// One fd per node does not scale (limits can be 1,024), and opening a directory by path for each operation is slow:
// the ones in use stay open here, the least recently used are closed. An fd that is handed out stays valid as long as
// the caller keeps it, cached or not.
// Threads: safe (leaf locks).
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <atomic>
#include <list>

#include "base/mutex.h"
#include "overlay/layer.h"

namespace vellum::overlay {

class DirFdCache {
 public:
  explicit DirFdCache(std::size_t capacity);

  DirFd find(std::uint64_t node_id, LayerIndex layer);
  void put(std::uint64_t node_id, LayerIndex layer, DirFd fd);
  void drop(std::uint64_t node_id, LayerIndex layer);
  // Closes everything: the process is out of fds.
  void clear();

  std::uint64_t hits() const { return hits_.load(std::memory_order_relaxed); }
  std::uint64_t misses() const { return misses_.load(std::memory_order_relaxed); }
  std::size_t size() const;

 private:
  static constexpr std::size_t kShards = 8;
  struct Key {
    std::uint64_t node;
    LayerIndex layer;
    friend bool operator==(const Key&, const Key&) = default;
    template <class H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.node, key.layer);
    }
  };
  struct Item {
    Key key;
    DirFd fd;
  };
  struct Shard {
    mutable Mutex mutex;
    std::list<Item> recent VELLUM_GUARDED_BY(mutex);  // most recently used first
    absl::flat_hash_map<Key, std::list<Item>::iterator> items VELLUM_GUARDED_BY(mutex);
  };
  Shard& shard(const Key& key) { return shards_[absl::HashOf(key) % kShards]; }

  const std::size_t per_shard_;
  std::array<Shard, kShards> shards_;
  std::atomic<std::uint64_t> hits_{0}, misses_{0};
};

}  // namespace vellum::overlay
