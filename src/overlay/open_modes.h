// How the open files of each node reach their data: by passthrough, all of them through one registered backing file, or
// through the kernel's page cache and us. The kernel holds an inode to one of the two for as long as it is open.
//
// The first open of a node decides, later ones follow. Our count of opens lags behind the kernel's (RELEASE comes after
// the fact), so a mode is kept a little too long, never too short.
// Threads: safe (leaf locks). Source: Linux fs/fuse/iomode.c, FUSE_DEV_IOC_BACKING_OPEN.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>

#include "base/mutex.h"
#include "base/result.h"
#include "overlay/node.h"

namespace vellum::overlay {

class OpenModes {
 public:
  // One more open of `node`. `registered()` makes a backing id (> 0), or 0 where the file has to go through the cache;
  // it is asked only if nothing was decided yet. Returns the backing id, 0: cached. ESTALE: the node is open by
  // passthrough to what it was before copy-up.
  template <class Register>
  Result<std::int32_t> open(const Node& node, bool in_upper, Register registered) {
    Shard& home = shard(node);
    MutexLock lock(home.mutex);
    auto [at, first] = home.modes.try_emplace(&node, Mode{});
    Mode& mode = at->second;
    if (first) {
      mode.backing_id = registered();
      mode.in_upper = in_upper;
    } else if (mode.backing_id != 0 && mode.in_upper != in_upper) {
      return fail(ESTALE);
    }
    ++mode.opens;
    return mode.backing_id;
  }

  // One open less. Returns the backing id that nobody uses any more, or 0.
  std::int32_t close(const Node& node) {
    Shard& home = shard(node);
    MutexLock lock(home.mutex);
    auto found = home.modes.find(&node);
    if (found == home.modes.end() || --found->second.opens > 0) return 0;
    std::int32_t unused = found->second.backing_id;
    home.modes.erase(found);
    return unused;
  }

  // Whether somebody has the node open by passthrough.
  bool passes_through(const Node& node) {
    Shard& home = shard(node);
    MutexLock lock(home.mutex);
    auto found = home.modes.find(&node);
    return found != home.modes.end() && found->second.backing_id != 0;
  }

 private:
  struct Mode {
    std::int32_t backing_id = 0;
    std::uint32_t opens = 0;
    bool in_upper = false;
  };
  static constexpr std::size_t kShards = 16;
  struct Shard {
    Mutex mutex;
    absl::flat_hash_map<const Node*, Mode> modes VELLUM_GUARDED_BY(mutex);
  };
  Shard& shard(const Node& node) { return shards_[absl::HashOf(&node) % kShards]; }

  std::array<Shard, kShards> shards_;
};

}  // namespace vellum::overlay
