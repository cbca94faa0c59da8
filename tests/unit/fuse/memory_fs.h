// A small whole file system in memory, for tests of the FUSE layer: every operation of fuse::Filesystem, and books
// that a test can check (lookup counts, open handles, what the last caller was).
// Threads: safe, under one lock.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "fuse/filesystem.h"

namespace vellum::fuse::testing {

class MemoryFs : public Filesystem {
 public:
  MemoryFs();

  // The books.
  std::uint64_t lookups(NodeId node) const;  // counted by the kernel now
  std::uint64_t counted_lookups() const;     // over all nodes but the root
  std::size_t open_handles() const;
  Caller last_caller() const;
  bool destroyed() const;
  Connection connection() const;
  std::size_t inodes() const;
  int syncfs_calls() const;
  // The data of a file, whoever holds it.
  std::string content(NodeId node) const;
  // Changes a file behind the kernel's back.
  void overwrite(NodeId node, std::string content);
  // How long the kernel may rely on entries and attributes. 0 by default.
  void set_timeout(std::uint64_t seconds) { timeout_ = seconds; }
  void set_keep_cache(bool on) { keep_cache_ = on; }
  std::function<Status(Connection&)> on_init;

  Status init(Connection& connection) override;
  void destroy() override;
  Result<Entry> lookup(const Caller&, NodeId parent, std::string_view name) override;
  void forget(NodeId, std::uint64_t count) override;
  Result<AttrReply> getattr(const Caller&, NodeId, std::optional<HandleId>) override;
  Result<AttrReply> statx(const Caller&, NodeId, std::optional<HandleId>) override;
  Result<AttrReply> setattr(const Caller&, NodeId, const SetAttr&) override;
  Result<std::string> readlink(const Caller&, NodeId) override;
  Result<Entry> symlink(const Caller&, NodeId, std::string_view, std::string_view) override;
  Result<Entry> mknod(const Caller&, NodeId, std::string_view, std::uint32_t, dev_t, std::uint32_t) override;
  Result<Entry> mkdir(const Caller&, NodeId, std::string_view, std::uint32_t, std::uint32_t) override;
  Status unlink(const Caller&, NodeId, std::string_view) override;
  Status rmdir(const Caller&, NodeId, std::string_view) override;
  Status rename(const Caller&, NodeId, std::string_view, NodeId, std::string_view, RenameFlags) override;
  Result<Entry> link(const Caller&, NodeId, NodeId, std::string_view) override;
  Result<OpenReply> open(const Caller&, NodeId, int, bool) override;
  Result<Created> create(const Caller&, NodeId, std::string_view, int, std::uint32_t, std::uint32_t) override;
  Result<Created> tmpfile(const Caller&, NodeId, int, std::uint32_t, std::uint32_t) override;
  Result<std::size_t> read(const Caller&, NodeId, HandleId, std::uint64_t, std::span<std::byte>) override;
  Result<std::size_t> write(const Caller&, NodeId, HandleId, std::uint64_t, std::span<const std::byte>, bool) override;
  Status flush(const Caller&, NodeId, HandleId) override;
  void release(NodeId, HandleId) override;
  Status fsync(const Caller&, NodeId, HandleId, bool) override;
  Status fallocate(const Caller&, NodeId, HandleId, int, std::uint64_t, std::uint64_t) override;
  Result<std::uint64_t> lseek(const Caller&, NodeId, HandleId, std::uint64_t, int) override;
  Result<std::size_t> copy_file_range(const Caller&, NodeId, HandleId, std::uint64_t, NodeId, HandleId, std::uint64_t,
                                      std::size_t) override;
  Result<OpenReply> opendir(const Caller&, NodeId, int) override;
  Status readdir(const Caller&, NodeId, HandleId, std::uint64_t, DirSink&) override;
  Status readdirplus(const Caller&, NodeId, HandleId, std::uint64_t, DirPlusSink&) override;
  void releasedir(NodeId, HandleId) override;
  Status fsyncdir(const Caller&, NodeId, HandleId, bool) override;
  Result<Statfs> statfs(const Caller&, NodeId) override;
  Status syncfs(const Caller&, NodeId) override;
  Status access(const Caller&, NodeId, int) override;
  Status setxattr(const Caller&, NodeId, std::string_view, std::span<const std::byte>, XattrFlags) override;
  Result<std::string> getxattr(const Caller&, NodeId, std::string_view) override;
  Result<std::string> listxattr(const Caller&, NodeId) override;
  Status removexattr(const Caller&, NodeId, std::string_view) override;
  // Command kEchoCommand answers with the bytes it was given, reversed.
  static constexpr std::uint32_t kEchoCommand = 0xc0107601;
  Result<IoctlReply> ioctl(const Caller&, NodeId, HandleId, const IoctlRequest&) override;

 private:
  static constexpr std::size_t kLargestFile = 64 << 20;

  struct Child {
    NodeId node;
    std::uint64_t cookie;  // its place in the listing, never used twice
  };
  struct Inode {
    Attr attr;
    std::string data;  // of a file, or a symlink's target
    std::map<std::string, Child, std::less<>> children;
    std::map<std::string, std::string, std::less<>> xattrs;
    NodeId parent = NodeId::kNone;  // of a directory
    std::uint64_t lookups = 0;
    std::uint64_t handles = 0;
  };

  Result<Inode*> find(NodeId node);
  Result<Inode*> find_directory(NodeId node);
  Result<NodeId> child(NodeId parent, std::string_view name);
  NodeId make(const Caller& caller, std::uint32_t mode);
  Entry entry(NodeId node, Inode& inode);
  AttrReply attr_reply(const Inode& inode) const;
  Status attach(NodeId parent, std::string_view name, NodeId node);
  void detach(NodeId parent, std::string_view name);
  Result<Entry> add(const Caller& caller, NodeId parent, std::string_view name, std::uint32_t mode, dev_t rdev,
                    std::string data);
  OpenReply opened(NodeId node, Inode& inode);
  void close(NodeId node, HandleId handle);
  void reap(NodeId node);
  bool is_above(NodeId above, NodeId node);

  mutable std::mutex mutex_;
  std::map<NodeId, Inode> inodes_;
  std::map<HandleId, NodeId> handles_;
  std::uint64_t last_node_ = 1;
  std::uint64_t last_handle_ = 0;
  std::uint64_t last_cookie_ = 2;
  std::uint64_t timeout_ = 0;
  bool keep_cache_ = false;
  bool destroyed_ = false;
  int syncfs_calls_ = 0;
  Caller last_caller_;
  Connection connection_;
};

}  // namespace vellum::fuse::testing
