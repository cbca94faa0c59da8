// What the overlays that one process serves have in common: its descriptors, and what they hold of equal lower layers.
// An overlay by itself has one of its own, for the opens of one file.
// Threads: safe (leaf locks).
#pragma once

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "overlay/dir_fds.h"
#include "overlay/listing.h"

namespace vellum::overlay {

// Things that live as long as anybody holds them, found by what they are.
template <class Key, class Thing>
class Shared {
 public:
  using Ref = std::shared_ptr<const Thing>;
  Ref find(const Key& key) {
    MutexLock lock(mutex_);
    const auto found = things_.find(key);
    return found == things_.end() ? nullptr : found->second.lock();
  }
  // What is there already, or else `thing` from now on.
  Ref add(const Key& key, Ref thing) {
    MutexLock lock(mutex_);
    std::weak_ptr<const Thing>& there = things_[key];
    if (Ref first = there.lock()) return first;
    there = thing;
    if (things_.size() >= full_) {
      absl::erase_if(things_, [](const auto& entry) { return entry.second.expired(); });
      full_ = 2 * things_.size() + kFull;
    }
    return thing;
  }
  std::size_t live() {
    MutexLock lock(mutex_);
    return static_cast<std::size_t>(
        std::ranges::count_if(things_, [](const auto& entry) { return !entry.second.expired(); }));
  }

 private:
  static constexpr std::size_t kFull = 64;
  Mutex mutex_;
  absl::flat_hash_map<Key, std::weak_ptr<const Thing>> things_ VELLUM_GUARDED_BY(mutex_);
  std::size_t full_ VELLUM_GUARDED_BY(mutex_) = kFull;
};

// A file, where it was found. Numbers of inodes come back, on a tmpfs with short ones even while the file lives; the
// time when it was made does not.
struct FileKey {
  dev_t device = 0;
  std::uint64_t ino = 0, mount = 0;
  std::int64_t made = 0, made_nsec = 0;
  friend bool operator==(const FileKey&, const FileKey&) = default;
  template <class H>
  friend H AbslHashValue(H state, const FileKey& key) {
    return H::combine(std::move(state), key.device, key.ino, key.mount, key.made, key.made_nsec);
  }
};

struct Common {
  DirFdPool dir_fds;
  Shared<FileKey, sys::UniqueFd> files;     // lower files open for reading
  Shared<std::string, LowerIndex> indexes;  // by Overlay::index_key()
};

}  // namespace vellum::overlay
