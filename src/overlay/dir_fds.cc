#include "overlay/dir_fds.h"

#include <algorithm>

#include "sys/file.h"

namespace vellum::overlay {
namespace {

// The layers' roots take one each, open files and copy-up need the rest.
std::size_t share_of_limit() {
  constexpr std::size_t kOthers = 64;
  const std::size_t limit = sys::open_file_limit();
  return std::clamp<std::size_t>((limit - std::min(limit, kOthers)) / 4, 32, 2048);
}

}  // namespace

DirFdPool::DirFdPool(std::size_t capacity)
    : per_shard_(std::max<std::size_t>((capacity != 0 ? capacity : share_of_limit()) / kShards, 4)) {}

DirFd DirFdPool::find(const Key& key) {
  Shard& home = shard(key);
  MutexLock lock(home.mutex);
  auto found = home.items.find(key);
  if (found == home.items.end()) return nullptr;
  home.recent.splice(home.recent.begin(), home.recent, found->second);
  return found->second->fd;
}

void DirFdPool::put(const Key& key, DirFd fd) {
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

void DirFdPool::drop(const Key& key) {
  Shard& home = shard(key);
  DirFd dropped;
  MutexLock lock(home.mutex);
  auto found = home.items.find(key);
  if (found == home.items.end()) return;
  dropped = std::move(found->second->fd);
  home.recent.erase(found->second);
  home.items.erase(found);
}

void DirFdPool::clear() {
  for (Shard& home : shards_) {
    std::list<Item> closing;
    MutexLock lock(home.mutex);
    closing.swap(home.recent);
    home.items.clear();
  }
}

void DirFdPool::drop_all_of(std::uint32_t owner) {
  for (Shard& home : shards_) {
    std::list<Item> closing;
    MutexLock lock(home.mutex);
    for (auto at = home.recent.begin(); at != home.recent.end();) {
      const auto next = std::next(at);
      if (at->key.owner == owner) {
        home.items.erase(at->key);
        closing.splice(closing.end(), home.recent, at);
      }
      at = next;
    }
  }
}

std::size_t DirFdPool::size() const {
  std::size_t total = 0;
  for (const Shard& home : shards_) {
    MutexLock lock(home.mutex);
    total += home.recent.size();
  }
  return total;
}

}  // namespace vellum::overlay
