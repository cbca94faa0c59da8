// A bounded cache of open directories of layers, by node and layer.
//
// One fd per node does not scale (limits can be 1,024), and opening a directory by path for each operation is slow:
// the ones in use stay open here, the least recently used are closed. An fd that is handed out stays valid as long as
// the caller keeps it, cached or not. The limit is the process's, so overlays that one process serves share a
// DirFdPool; each has its own DirFdCache in front of it.
// Threads: safe (leaf locks).
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <atomic>
#include <list>

#include "base/mutex.h"
#include "overlay/layer.h"

namespace vellum::overlay {

class DirFdPool {
 public:
  struct Key {
    std::uint32_t owner;
    LayerIndex layer;
    std::uint64_t node;
    friend bool operator==(const Key&, const Key&) = default;
    template <class H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.owner, key.layer, key.node);
    }
  };
  // For as many as that; 0: a share of what the process may open.
  explicit DirFdPool(std::size_t capacity = 0);

  std::uint32_t new_owner() { return owners_.fetch_add(1, std::memory_order_relaxed); }
  DirFd find(const Key& key);
  void put(const Key& key, DirFd fd);
  void drop(const Key& key);
  // Closes everything: the process is out of fds.
  void clear();
  void drop_all_of(std::uint32_t owner);
  std::size_t size() const;

 private:
  static constexpr std::size_t kShards = 8;
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
  std::atomic<std::uint32_t> owners_{0};
};

class DirFdCache {
 public:
  explicit DirFdCache(DirFdPool& pool) : pool_(pool), owner_(pool.new_owner()) {}
  ~DirFdCache() { pool_.drop_all_of(owner_); }
  DirFdCache(const DirFdCache&) = delete;
  DirFdCache& operator=(const DirFdCache&) = delete;

  DirFd find(std::uint64_t node_id, LayerIndex layer) {
    DirFd fd = pool_.find({owner_, layer, node_id});
    (fd ? hits_ : misses_).fetch_add(1, std::memory_order_relaxed);
    return fd;
  }
  void put(std::uint64_t node_id, LayerIndex layer, DirFd fd) { pool_.put({owner_, layer, node_id}, std::move(fd)); }
  void drop(std::uint64_t node_id, LayerIndex layer) { pool_.drop({owner_, layer, node_id}); }
  void clear() { pool_.clear(); }  // the whole pool

  std::uint64_t hits() const { return hits_.load(std::memory_order_relaxed); }
  std::uint64_t misses() const { return misses_.load(std::memory_order_relaxed); }
  std::size_t size() const { return pool_.size(); }  // of the whole pool

 private:
  DirFdPool& pool_;
  const std::uint32_t owner_;
  std::atomic<std::uint64_t> hits_{0}, misses_{0};
};

}  // namespace vellum::overlay
