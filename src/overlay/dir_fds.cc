#include "overlay/dir_fds.h"

#include <algorithm>

namespace vellum::overlay {

DirFdCache::DirFdCache(std::size_t capacity) : per_shard_(std::max<std::size_t>(capacity / kShards, 4)) {}

DirFd DirFdCache::find(std::uint64_t node_id, LayerIndex layer) {
  Key key{node_id, layer};
  Shard& home = shard(key);
  MutexLock lock(home.mutex);
  auto found = home.items.find(key);
  if (found == home.items.end()) {
    misses_.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  hits_.fetch_add(1, std::memory_order_relaxed);
  home.recent.splice(home.recent.begin(), home.recent, found->second);
  return found->second->fd;
}

void DirFdCache::put(std::uint64_t node_id, LayerIndex layer, DirFd fd) {
  Key key{node_id, layer};
  Shard& home = shard(key);
  DirFd evicted;  // closed after the lock is released
  MutexLock lock(home.mutex);
  if (auto found = home.items.find(key); found != home.items.end()) {
    evicted = std::exchange(found->second->fd, std::move(fd));
    return;
  }
  if (home.recent.size() >= per_shard_) {
    evicted = std::move(home.recent.back().fd);
    home.items.erase(home.recent.back().key);
    home.recent.pop_back();
  }
  home.recent.push_front({key, std::move(fd)});
  home.items[key] = home.recent.begin();
}

void DirFdCache::drop(std::uint64_t node_id, LayerIndex layer) {
  Key key{node_id, layer};
  Shard& home = shard(key);
  DirFd dropped;
  MutexLock lock(home.mutex);
  auto found = home.items.find(key);
  if (found == home.items.end()) return;
  dropped = std::move(found->second->fd);
  home.recent.erase(found->second);
  home.items.erase(found);
}

void DirFdCache::clear() {
  for (Shard& home : shards_) {
    std::list<Item> closing;
    MutexLock lock(home.mutex);
    closing.swap(home.recent);
    home.items.clear();
  }
}

std::size_t DirFdCache::size() const {
  std::size_t total = 0;
  for (const Shard& home : shards_) {
    MutexLock lock(home.mutex);
    total += home.recent.size();
  }
  return total;
}

}  // namespace vellum::overlay
