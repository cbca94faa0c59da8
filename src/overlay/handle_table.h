// Open files and directories by HandleId. A Handle pins its node and owns a file's fd.
// Threads: safe; a handle that is released while an operation runs on it lives until that operation ends.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <atomic>
#include <memory>

#include "base/mutex.h"
#include "overlay/node_table.h"

namespace vellum::overlay {

struct Handle {
  Handle(NodeRef opened, bool may_write) : node(std::move(opened)), writes(may_write) {
    node->handles.fetch_add(1, std::memory_order_release);
    if (writes) node->writers.fetch_add(1, std::memory_order_release);
  }
  ~Handle() {
    node->handles.fetch_sub(1, std::memory_order_release);
    if (writes) node->writers.fetch_sub(1, std::memory_order_release);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  NodeRef node;
  const bool writes;  // opened for writing by the caller
  SharedMutex mutex;
  DirFd fd VELLUM_GUARDED_BY(mutex);            // shared so that a read outlives a switch to upper
  Mutex long_write;                             // held while a long piece is written; above no other lock
  bool lower VELLUM_GUARDED_BY(mutex) = false;  // fd is a lower file: look again once the node is copied up
};

class HandleTable {
 public:
  fuse::HandleId add(std::shared_ptr<Handle> handle) {
    std::uint64_t id = next_.fetch_add(1, std::memory_order_relaxed);
    Shard& home = shards_[id % kShards];
    WriteLock lock(home.mutex);
    home.handles.emplace(id, std::move(handle));
    live_.fetch_add(1, std::memory_order_relaxed);
    return fuse::HandleId{id};
  }

  Result<std::shared_ptr<Handle>> get(fuse::HandleId id) {
    Shard& home = shards_[fuse::raw(id) % kShards];
    ReadLock lock(home.mutex);
    auto found = home.handles.find(fuse::raw(id));
    if (found == home.handles.end()) return fail(EBADF);
    return found->second;
  }

  // Null if there is no such handle.
  std::shared_ptr<Handle> remove(fuse::HandleId id) {
    Shard& home = shards_[fuse::raw(id) % kShards];
    WriteLock lock(home.mutex);
    auto found = home.handles.find(fuse::raw(id));
    if (found == home.handles.end()) return nullptr;
    std::shared_ptr<Handle> removed = std::move(found->second);
    home.handles.erase(found);
    live_.fetch_sub(1, std::memory_order_relaxed);
    return removed;
  }

  void clear() {
    for (Shard& home : shards_) {
      WriteLock lock(home.mutex);
      home.handles.clear();
    }
  }

  std::uint64_t live() const { return live_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kShards = 16;
  struct Shard {
    SharedMutex mutex;
    absl::flat_hash_map<std::uint64_t, std::shared_ptr<Handle>> handles VELLUM_GUARDED_BY(mutex);
  };
  std::array<Shard, kShards> shards_;
  std::atomic<std::uint64_t> next_{1};
  std::atomic<std::uint64_t> live_{0};
};

}  // namespace vellum::overlay
