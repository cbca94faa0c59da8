// The overlay engine: stacked directories served as one tree through fuse::Filesystem.
//
// Overlay::create() opens the layers, checks them and probes what the upper can hold; on failure it returns one line
// for the user that names the option and path. After that nothing aborts: every failing system call becomes the
// errno of the request that needed it.
//
// The class is written in several files by subject: start.cc (opening, probing), tree.cc (places, lookup, nodes),
// attributes.cc, copy_up.cc, make.cc (create, mkdir, link, ...), whiteout.cc, remove.cc, rename.cc, file_io.cc,
// directory.cc, xattrs.cc.
// Threads: as fuse::Filesystem. Locks: locking.h. Format: kernel Documentation/filesystems/overlayfs.rst.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuse/filesystem.h"
#include "overlay/common.h"
#include "overlay/dir_fds.h"
#include "overlay/handle_table.h"
#include "overlay/id_map.h"
#include "overlay/inode_numbers.h"
#include "overlay/layer.h"
#include "overlay/locking.h"
#include "overlay/node_table.h"
#include "overlay/open_modes.h"
#include "overlay/options.h"

namespace vellum::overlay {

// Counters of one mount, for `vellum stats`.
struct OverlayStats {
  std::uint64_t nodes = 0, open_handles = 0, cached_dir_fds = 0;
  std::uint64_t dir_fd_hits = 0, dir_fd_misses = 0;
  std::uint64_t copy_ups = 0, copied_bytes = 0, whiteouts = 0;
  std::uint64_t bytes_read = 0, bytes_written = 0;
};

// Why there is no overlay: a line for the user, and the error where one was behind it.
struct NotStarted {
  std::string why;
  Errno error{EINVAL};
};

class Overlay : public fuse::Filesystem {
 public:
  static std::expected<std::unique_ptr<Overlay>, NotStarted> create(const Options& options);
  ~Overlay() override;

  bool writable() const { return upper_ != nullptr; }
  OverlayStats stats() const;
  // Where a directory is now, from the root; ENOENT: it was removed.
  Result<std::string> path_of(fuse::NodeId directory);
  // How many threads may call this at once, once that is known.
  void set_workers(unsigned workers) { workers_.store(workers); }
  // What a read of the virtual attribute system.vellum.stats on the root answers. Set before serving.
  void set_stats_text(std::function<std::string()> text) { stats_text_ = std::move(text); }

  Status init(fuse::Connection&) override;
  void destroy() override;
  Result<fuse::Entry> lookup(const fuse::Caller&, fuse::NodeId parent, std::string_view name) override;
  void forget(fuse::NodeId, std::uint64_t count) override;
  Result<fuse::AttrReply> getattr(const fuse::Caller&, fuse::NodeId, std::optional<fuse::HandleId>) override;
  Result<fuse::AttrReply> setattr(const fuse::Caller&, fuse::NodeId, const fuse::SetAttr&) override;
  Result<std::string> readlink(const fuse::Caller&, fuse::NodeId) override;
  Result<fuse::Entry> symlink(const fuse::Caller&, fuse::NodeId, std::string_view name,
                              std::string_view target) override;
  Result<fuse::Entry> mknod(const fuse::Caller&, fuse::NodeId, std::string_view name, std::uint32_t mode, dev_t,
                            std::uint32_t umask) override;
  Result<fuse::Entry> mkdir(const fuse::Caller&, fuse::NodeId, std::string_view name, std::uint32_t mode,
                            std::uint32_t umask) override;
  Status unlink(const fuse::Caller&, fuse::NodeId, std::string_view name) override;
  Status rmdir(const fuse::Caller&, fuse::NodeId, std::string_view name) override;
  Status rename(const fuse::Caller&, fuse::NodeId, std::string_view name, fuse::NodeId, std::string_view new_name,
                fuse::RenameFlags) override;
  Result<fuse::Entry> link(const fuse::Caller&, fuse::NodeId, fuse::NodeId, std::string_view new_name) override;
  Result<fuse::OpenReply> open(const fuse::Caller&, fuse::NodeId, int flags, bool kill_suidgid) override;
  Result<fuse::Created> create(const fuse::Caller&, fuse::NodeId, std::string_view name, int flags, std::uint32_t mode,
                               std::uint32_t umask) override;
  Result<fuse::Created> tmpfile(const fuse::Caller&, fuse::NodeId, int flags, std::uint32_t mode,
                                std::uint32_t umask) override;
  Result<std::size_t> read(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset,
                           std::span<std::byte>) override;
  Result<std::size_t> write(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset,
                            std::span<const std::byte>, bool kill_suidgid) override;
  Result<std::size_t> move_out(fuse::NodeId, fuse::HandleId, std::uint64_t offset, fuse::FileMover&) override;
  Result<std::size_t> move_in(fuse::NodeId, fuse::HandleId, std::uint64_t offset, fuse::FileMover&) override;
  void release(fuse::NodeId, fuse::HandleId) override;
  Status fsync(const fuse::Caller&, fuse::NodeId, fuse::HandleId, bool data_only) override;
  Status fallocate(const fuse::Caller&, fuse::NodeId, fuse::HandleId, int mode, std::uint64_t offset,
                   std::uint64_t length) override;
  Result<std::uint64_t> lseek(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset,
                              int whence) override;
  Result<std::size_t> copy_file_range(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t, fuse::NodeId,
                                      fuse::HandleId, std::uint64_t, std::size_t) override;
  Result<fuse::OpenReply> opendir(const fuse::Caller&, fuse::NodeId, int flags) override;
  Status readdir(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset, fuse::DirSink&) override;
  Status readdirplus(const fuse::Caller&, fuse::NodeId, fuse::HandleId, std::uint64_t offset,
                     fuse::DirPlusSink&) override;
  void releasedir(fuse::NodeId, fuse::HandleId) override;
  Status fsyncdir(const fuse::Caller&, fuse::NodeId, fuse::HandleId, bool data_only) override;
  Result<fuse::Statfs> statfs(const fuse::Caller&, fuse::NodeId) override;
  Status syncfs(const fuse::Caller&, fuse::NodeId) override;
  Status setxattr(const fuse::Caller&, fuse::NodeId, std::string_view name, std::span<const std::byte>,
                  fuse::XattrFlags) override;
  Result<std::string> getxattr(const fuse::Caller&, fuse::NodeId, std::string_view name) override;
  Result<std::string> listxattr(const fuse::Caller&, fuse::NodeId) override;
  Status removexattr(const fuse::Caller&, fuse::NodeId, std::string_view name) override;
  Result<fuse::IoctlReply> ioctl(const fuse::Caller&, fuse::NodeId, fuse::HandleId, const fuse::IoctlRequest&) override;

 private:
  explicit Overlay(const Options& options);

  // --- start.cc
  std::expected<void, NotStarted> open_layers();
  std::expected<void, NotStarted> open_work_dir();
  std::expected<void, NotStarted> open_plain();
  void probe_upper();
  void make_root();
  void clean_work_dir();

  // --- tree.cc: where objects are, and which node is what
  // An object in a layer: an entry of an open directory, or, with an empty name, the fd itself.
  struct Place {
    DirFd dir;
    CName name{""};
    LayerIndex layer = 0;
    const Layer* in = nullptr;
    sys::FdRef fd() const { return *dir; }
  };
  // What a name leads to.
  struct Found {
    sys::Statx st;  // of the topmost object
    LayerIndex layer = 0;
    bool in_upper = false;
    Marks marks;                   // of the topmost object
    std::vector<LowerDir> lowers;  // of a directory
    LayerIndex data_layer = 0;     // of a metacopy file
    std::string data_path;
  };
  const Layer& layer(LayerIndex index) const { return *layers_[index]; }
  bool is_upper(LayerIndex index) const { return index == 0; }
  // What no caller sees, unless everything is shown as it is.
  bool hides(std::string_view name) const { return !options_.plain && is_dot_wh(name); }
  bool is_whiteout(const sys::Statx& st) const { return !options_.plain && is_device_whiteout(st); }
  // Of an object in a directory where whiteouts in xattr form count, too.
  bool is_whiteout(const sys::Statx& st, const Marks& marks) const {
    return is_whiteout(st) || (marks.whiteout && may_be_xattr_whiteout(st));
  }
  Result<DirFd> open_dir(const DirFd& parent, const char* name);
  // The directory behind an O_PATH fd, to list, sync or ask.
  Result<sys::UniqueFd> open_for_reading(sys::FdRef dir);
  Result<DirFd> dir_fd(Node& dir, LayerIndex layer);
  std::string path_in(const Node& dir, LayerIndex layer) const;
  const LowerDir* lower_of(const Node& dir, LayerIndex layer) const;
  // Where the node's object is now. The node is locked (shared suffices), or the tree exclusively.
  Result<Place> place_of(Node& node);
  // Where a metacopy node's data is; otherwise place_of().
  Result<Place> data_place_of(Node& node);
  Result<sys::Statx> stat_at(const Layer& layer, sys::FdRef dir, const char* name);
  Result<sys::Statx> stat_of(Node& node);
  fuse::Attr to_attr(const Node& node, const sys::Statx& st) const;
  // The parent is locked (shared suffices), or the tree exclusively.
  Result<std::optional<Found>> resolve(Node& parent, std::string_view name);
  struct Redirected {
    DirFd object;            // null: not in this layer
    bool ends_here = false;  // the layers below are hidden
  };
  Result<Redirected> follow_redirect(const Layer& in, std::string_view path);
  Status resolve_lowers(Node& parent, std::string_view name, Found& found, bool& exists);
  Status resolve_metacopy(Node& parent, std::string_view name, Found& found);
  // Whether a lower layer would show `name` in `parent` if upper said nothing about it.
  Result<bool> lower_has(Node& parent, std::string_view name);
  Result<NodeRef> make_node(Node& parent, std::string_view name, Found found);
  // The node under (parent, name), known or resolved; nothing if there is no such name.
  Result<NodeRef> find_child(Node& parent, std::string_view name);
  std::uint64_t presented_ino(const Found& found);
  Result<fuse::Entry> entry_for(Node& node);
  fuse::Entry make_entry(Node& node, const sys::Statx& st);
  fuse::Entry negative_entry() const {
    fuse::Entry entry;
    entry.entry_valid = timeout_;
    return entry;
  }
  Result<NodeRef> dir_for(fuse::NodeId id);

  // The node as it is now, locked: one that was retired meanwhile gives way to its successor.
  template <class Lock>
  class CurrentLock {
   public:
    CurrentLock(NodeTable& table, NodeRef& node) {
      for (;;) {
        lock_.emplace(node->mutex);
        Node* next = node->successor.load(std::memory_order_acquire);
        if (next == nullptr) return;
        lock_.reset();
        node = table.pin(*next);
      }
    }

   private:
    std::optional<Lock> lock_;
  };
  // To change metadata: the tree, shared, and the node as it is now, exclusively, while nobody copies data into it.
  class ChangeLock {
   public:
    ChangeLock(Overlay& overlay, NodeRef& node);

   private:
    std::optional<ReadLock> tree_;
    std::optional<CurrentLock<WriteLock>> node_;
  };
  // How long the kernel may believe attributes of `node` that it asked for under the id `asked`.
  fuse::Timeout attr_valid(const Node& node, fuse::NodeId asked) const;

  // --- attributes.cc: changes of an object that is in upper
  void kill_suidgid(sys::FdRef fd, const char* name);
  Status set_mode(sys::FdRef fd, const char* name, mode_t mode);
  Status set_owner(sys::FdRef fd, const char* name, std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid);
  Status set_size(const Place& place, std::optional<fuse::HandleId> handle, std::uint64_t size);
  void changed_through(fuse::NodeId id, const Node& node);
  Status set_times(const Place& place, const fuse::SetAttr& change);

  Result<std::string> read_symlink(const Place& place);

  // --- directory.cc
  std::shared_ptr<const LowerIndex> known_index(const Node& dir);
  Result<std::shared_ptr<const LowerIndex>> lower_index(Node& dir);
  Result<std::string> index_key(Node& dir);
  static bool index_pays(const Node& dir);
  Result<std::shared_ptr<const Listing>> listing_of(Node& dir);
  void names_changed(Node& dir);
  Result<bool> is_empty(Node& dir);
  template <class Visit>
  Status for_each_upper(Node& dir, Visit visit);
  Status for_each_upper_name(Node& dir, const std::function<void(std::string_view name, bool hidden)>& visit);
  struct Reading {
    NodeRef dir;
    std::shared_ptr<const Listing> listing;
  };
  Result<Reading> reading_of(fuse::NodeId id, fuse::HandleId handle, std::uint64_t offset);

  // --- copy_up.cc: called with no lock held, the tree's included, except where it says otherwise. A node that is open
  // by passthrough is retired by it: `node` is then its successor.
  struct CopyUp {
    bool metadata_only = false;                // data stays below, if the metacopy option is on
    std::optional<std::uint64_t> truncate_to;  // the caller sets this size next: no need to copy more
    sys::UniqueFd* keep = nullptr;             // gets the copy, open for reading and writing, if one was made
  };
  class Copying;
  using LinkCopy = std::function<Status(sys::FdRef dir, const char* name)>;
  Status copy_up(NodeRef& node, const CopyUp& how);
  Status copy_up_alone(NodeRef& node, const CopyUp& how);
  Status copy_up_file(NodeRef& node, const CopyUp& how);
  Status complete_data(Node& node, const CopyUp& how);
  Status copy_up_tree(Node& dir);
  Status settle_names(Node& node);
  void settle_hard_links();
  // The tree is locked (shared), no node is.
  Status ensure_upper_dir(Node& dir);
  Status ensure_parent(Node& node);
  NodeRef parent_of(Node& node);
  // The node is locked, and so is its parent if it has one.
  Status copy_up_special(Node& node);
  Status place_copy(NodeRef& node, sys::FdRef made, const std::string& temporary, const Place& from,
                    const sys::Statx& st, bool metadata_only);
  Status place_nameless_copy(Node& node, sys::FdRef made, const LinkCopy& link_copy, const sys::Statx& st);
  void became_upper(Node& node, sys::FdRef copy, const std::string& indexed, const sys::Statx& lower);
  NodeRef successor_of(const Node& node);
  void attributes_changed(Node& copied, fuse::NodeId known_as);
  Status copy_data(sys::FdRef from, sys::FdRef to, std::uint64_t size);
  Status copy_attributes(const Layer& source, sys::FdRef from_dir, const char* from_name, sys::FdRef to_dir,
                         const char* to_name, const sys::Statx& st);
  void mark_origin(sys::FdRef dir, const char* name, const Layer& source, const sys::Statx& from);
  void mark_impure(Node& dir, sys::FdRef upper_fd);
  std::string work_name(std::string_view what);

  // --- make.cc
  struct NewObject {
    std::uint32_t mode = 0;  // type and permissions
    std::uint32_t umask = 0;
    dev_t rdev = 0;
    std::string target;  // of a symlink
    int open_flags = 0;  // of a regular file
  };
  struct Made {
    NodeRef node;
    fuse::Entry entry;
    sys::UniqueFd fd;  // of a regular file
  };
  enum class Vacancy { kFree, kWhiteout, kDotWh };
  Result<Vacancy> check_vacant(Node& parent, std::string_view name);
  Result<Made> make_object(const fuse::Caller&, fuse::NodeId parent, std::string_view name, const NewObject& what);
  Result<sys::UniqueFd> make_in(sys::FdRef dir, const char* name, const NewObject& what, mode_t mode);
  Result<sys::UniqueFd> make_over_whiteout(const Node& parent, const DirFd& upper, std::string_view name,
                                           const NewObject& what, std::uint32_t uid, std::uint32_t gid,
                                           Vacancy vacancy);
  Status place_from_work(const char* work_name, sys::FdRef upper, std::string_view name, bool is_dir, Vacancy vacancy);
  Result<std::pair<std::uint32_t, std::uint32_t>> owner_of_new(const fuse::Caller& caller) const;
  Result<Made> adopt_new(Node& parent, const DirFd& upper, std::string_view name, sys::UniqueFd fd);
  int backing_flags(int flags) const;

  // --- whiteout.cc
  // `dir` is the parent's upper directory.
  Status make_whiteout(Node& parent, sys::FdRef dir, std::string_view name);                     // at a free name
  Status replace_by_whiteout(Node& parent, sys::FdRef dir, std::string_view name, bool is_dir);  // atomically
  Status new_whiteout_in_work(const std::string& work_name);
  void remove_dot_wh(sys::FdRef dir, std::string_view name);
  // deleted_tree.cc. The tree is locked, shared.
  bool reads_deleted() const { return options_.whiteouts == WhiteoutStyle::kDeletedTree; }
  bool is_deleted_tree(const Node& dir, std::string_view name) const;
  Result<sys::UniqueFd> deleted_dir(const Node& dir, LayerIndex layer);
  bool in_deleted_tree(const Node& parent, LayerIndex layer, std::string_view name);
  // Whether `.wh.NAME` or the deleted tree says that the layers below have no such name.
  bool hidden_beside(const Node& parent, LayerIndex layer, sys::FdRef dir, std::string_view name);
  // The topmost lower layer whose deleted tree has the name: those below do not show it.
  LayerIndex first_deleted(const Node& parent, std::string_view name);
  Status for_each_deleted(const Node& dir, LayerIndex layer, const std::function<void(std::string_view)>& visit);
  Status add_deleted(const Node& parent, std::string_view name);
  void remove_deleted(const Node& parent, std::string_view name);
  Status set_opaque(sys::FdRef dir, const char* name);
  void remove_tree_in_work(const std::string& name);
  Status prepare_xattr_whiteouts(sys::FdRef dir);

  // --- remove.cc
  // Opens the object of a node about to lose its last name, so that those who still refer to it go on.
  DirFd keep_fd(Node& node);
  void drop_idle_fd(Node& node);
  Status count_links(Node& node);
  void lose_name(Node& node, Node& parent, std::string_view name, DirFd kept);
  Status remove_name(Node& parent, std::string_view name, Node& node);
  void clear_emptied_dir(Node& dir);

  // --- rename.cc
  struct Side {  // one end of a rename
    Node* parent;
    std::string_view name;
    DirFd upper;
  };
  Result<NodeRef> ready_to_move(Node& parent, std::string_view name);
  Status ready_dir_at(Node& dir, const Side& to);
  Status replace_locked(Node& source, const Side& from, const Side& to, bool noreplace);
  Status exchange_locked(Node& source, const Side& from, const Side& to);
  Status move_physically(const Node& source, const Side& from, const Side& to, bool whiteout);
  Status move_with_xattr_whiteout(const Node& source, const Side& from, const Side& to);
  Status make_physical(Node& node, const Side& at);
  Status replace_dir(Node& target, const Side& from, const Side& to, bool whiteout);
  // Marks of the deleted tree are found by path: what they hide must not move.
  bool may_redirect() const { return options_.redirect_dir == RedirectDir::kOn && marks_work_ && !reads_deleted(); }
  void fix_lower_paths(Node& dir);

  // --- file_io.cc
  Result<DirFd> readable_fd(fuse::NodeId id, fuse::HandleId handle);
  Result<DirFd> readable_fd(Handle& handle);
  Result<DirFd> fd_without_handle(fuse::NodeId id);
  Result<DirFd> writable_fd(Handle& handle);
  struct Opened {
    sys::UniqueFd fd;
    bool lower = false;   // the fd is of a lower file
    bool writes = false;  // opened for writing by the caller
    bool may_pass = false;
    std::uint64_t small = 0;  // the size of a lower file whose data may go to the kernel with the answer
    const Layer* in = nullptr;
  };
  DirFd shared(Opened& opened);
  Result<fuse::OpenReply> add_handle(NodeRef node, Opened opened);
  void close_mode(const Node& node);
  bool new_may_pass_through(std::uint32_t mode) const { return passthrough_ && (mode & (S_ISUID | S_ISGID)) == 0; }
  bool may_pass_through(const Node& node, const sys::Statx& st) const;
  void store_small(Node& node, sys::FdRef fd, std::uint64_t size);
  Status flush_before_seek(Node& node);
  Result<sys::UniqueFd> open_place(const Place& place, int flags);
  template <class Open>
  auto with_fds(Open open) -> decltype(open());

  // --- xattrs.cc
  Result<std::string> map_acl(std::string_view value, bool to_disk) const;

  const Options options_;
  fuse::Timeout timeout_;
  std::vector<std::unique_ptr<Layer>> layers_;  // [0] is upper and may be null
  Layer* upper_ = nullptr;
  DirFd work_;  // WORKDIR/work
  DirFd work_root_;
  MarkNames mark_names_{false};
  WhiteoutStyle style_ = WhiteoutStyle::kDevice;
  bool marks_work_ = true;  // upper holds our marks in xattrs
  bool can_tmpfile_ = true;
  bool can_clone_ = false;
  bool volatile_ = false;
  // Whether anything is ever synced: what is asked to be, and copies before they take the place of the original.
  bool syncs() const { return upper_ != nullptr && !volatile_ && options_.fsync; }
  IdMap uids_, gids_;
  InodeNumbers numbers_;
  NodeTable nodes_;
  HandleTable handles_;
  const std::shared_ptr<Common> common_;
  DirFdCache dir_fds_;
  fuse::Notifier* notifier_ = nullptr;
  bool writeback_ = false;
  bool passthrough_ = false;
  bool no_open_ = false, no_opendir_ = false;  // files and directories are read without a handle
  bool no_fsync_ = false;                      // there never is anything to sync
  OpenModes modes_;
  std::atomic<unsigned> workers_{1};
  std::atomic<bool> seek_flush_{false};
  std::atomic<bool> storing_{false};
  bool atomic_trunc_ = true;
  std::function<std::string()> stats_text_;

  SharedMutex tree_mutex_;
  Mutex link_mutex_;  // leaf: files with several links are given their node one at a time
  std::vector<fuse::NodeId> indexed_ VELLUM_GUARDED_BY(link_mutex_);  // copied-up hard links
  static constexpr std::size_t kCacheStripes = 64;
  mutable std::array<Mutex, kCacheStripes> cache_mutex_;  // leaves: DirState::index and listing
  Mutex& cache_mutex(const Node& dir) const { return cache_mutex_[absl::HashOf(&dir) % kCacheStripes]; }
  std::mutex copying_mutex_;  // leaf: the nodes being copied up right now
  std::condition_variable copying_done_;
  absl::flat_hash_set<const Node*> copying_;
  std::atomic<std::uint64_t> next_work_name_{1};
  Mutex whiteout_mutex_;  // leaf: the whiteout in workdir that others are linked from
  bool shared_whiteout_ VELLUM_GUARDED_BY(whiteout_mutex_) = false;

  std::atomic<std::uint64_t> copy_ups_{0}, copied_bytes_{0}, whiteouts_{0}, bytes_read_{0}, bytes_written_{0};
};

// Runs `open`; when the process is out of fds, gives the cached ones back and tries once more.
template <class Open>
auto Overlay::with_fds(Open open) -> decltype(open()) {
  auto result = open();
  if (!result && (result.error() == EMFILE || result.error() == ENFILE)) {
    dir_fds_.clear();
    return open();
  }
  return result;
}

}  // namespace vellum::overlay
