// A node is an object of the merged tree: what a nodeid stands for.
//
// A directory has one parent and name. Another object may have several names (hard links): `parent` and `name` are
// the one its place is reached by, the others are aliases in the NodeTable. A node without a name was unlinked while
// something still refers to it; it keeps an fd instead of a place.
//
// Copy-up of a file that somebody has open by passthrough gives its name to a new node: the kernel holds an open inode
// to one backing file. The old node is retired: its open files go on with the lower file, all else goes to `successor`.
//
// Lifetime: refs counts lookups, open handles, children and running operations together; at 0 the NodeTable frees
// the node. `lookups` is the part of refs that the kernel owns. Slots are never unmapped, so a stale NodeId is found
// out, not followed. Locks: see locking.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "fuse/filesystem.h"
#include "overlay/layer.h"
#include "overlay/listing.h"
#include "overlay/name.h"

namespace vellum::overlay {

struct Node;

// A lower layer in which a directory exists. `path` is empty where it follows from the parent and name; a redirect
// puts it elsewhere, given from the layer's root.
struct LowerDir {
  LayerIndex layer = 0;
  bool xattr_whiteouts = false;
  std::string path;
};

struct DirState {
  std::vector<LowerDir> lowers;             // topmost first; changes only under an exclusive tree_mutex_
  std::shared_ptr<const LowerIndex> index;  // merged names of `lowers`, once built
  std::shared_ptr<const Listing> listing;   // what readdir answered last
  bool listing_stale = false;               // names have changed since
  std::uint32_t slow_lookups = 0;
  std::atomic<bool> looked_into{false};  // names were looked up since readdirplus last left attributes out
  bool upper_xattr_whiteouts = false;
  bool upper_impure = false;
};

// An inode, as one layer shows it. Layers may share inodes (hard links between them): those are separate files here.
struct InodeKey {
  dev_t device = 0;
  std::uint64_t ino = 0;
  LayerIndex layer = 0;
  friend bool operator==(const InodeKey&, const InodeKey&) = default;
  template <class H>
  friend H AbslHashValue(H state, const InodeKey& key) {
    return H::combine(std::move(state), key.device, key.ino, key.layer);
  }
};

// A further name of a node; the parent is pinned.
struct Alias {
  Node* parent = nullptr;
  std::string name;
};

// What few nodes have: hard links, metacopy files, and everything that was unlinked while in use.
struct FileState {
  DirFd fd;                      // a nameless node's object (O_PATH or better)
  std::string work_name;         // an indexed hard link: its stable name in workdir
  std::int32_t lower_nlink = 0;  // an indexed hard link: its count of names in the merged tree
  bool nlink_known = false;      // lower_nlink stands instead of the real count
  std::vector<Alias> aliases;    // names beyond the first; guarded by the NodeTable
  // Under which the NodeTable knows it, because it has several links; guarded by the NodeTable.
  std::vector<InodeKey> inodes;
  // A metacopy file in upper or in `layer`: where its data is.
  bool metacopy = false;
  LayerIndex data_layer = 0;
  std::string data_path;
  bool completing = false;  // somebody is copying the data into it
};

struct Node {
  std::atomic<std::uint64_t> refs{0};
  std::atomic<std::uint64_t> lookups{0};
  std::atomic<std::uint64_t> id{0};
  Node* parent = nullptr;  // pinned by this node
  NodeName name;
  std::uint64_t ino = 0;  // as presented
  std::unique_ptr<DirState> dir;
  std::unique_ptr<FileState> file;
  std::atomic<Node*> successor{nullptr};  // of a retired node, pinned by it; set once
  SharedMutex mutex;
  std::atomic<std::uint32_t> handles{0};  // open
  std::atomic<std::uint32_t> writers{0};  // of those, for writing
  LayerIndex layer = 0;                   // of a non-directory: where it was found
  std::uint8_t type = 0;                  // DT_*
  std::atomic<bool> in_upper{false};
  std::atomic<bool> nameless{false};
  std::atomic<bool> stored{false};  // a small lower file: its data was given to the kernel
  bool pinned = false;              // kept for the life of the mount

  bool is_dir() const { return dir != nullptr; }
  fuse::NodeId node_id() const { return fuse::NodeId{id.load(std::memory_order_relaxed)}; }
};

}  // namespace vellum::overlay
