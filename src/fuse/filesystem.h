// What a FUSE file system is to the rest of vellum: one virtual function per operation, plain values in,
// Result out. Nothing here knows wire structs, devices or mounts; a test calls these functions directly.
//
// Concepts. The kernel names a file by NodeId once a lookup (LOOKUP, CREATE, MKDIR, ..., READDIRPLUS) returned
// it, and counts each return; forget() gives those counts back. A node whose count is 0 is never named again.
// A HandleId names one open file or directory from open/create/opendir to release/releasedir.
// What a reply says about validity (Timeout) is what the kernel may answer alone, without asking again.
//
// Threads: every function may be called from several threads at once, except init() and destroy().
// Errors: Linux errno. ENOSYS from an optional operation tells the kernel to stop sending it.
// Source: Linux include/uapi/linux/fuse.h, protocol 7.31 to 7.45.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::fuse {

enum class NodeId : std::uint64_t { kNone = 0, kRoot = 1 };
enum class HandleId : std::uint64_t { kNone = 0 };

constexpr std::uint64_t raw(NodeId id) { return static_cast<std::uint64_t>(id); }
constexpr std::uint64_t raw(HandleId id) { return static_cast<std::uint64_t>(id); }

// Who asks. pid is in the pid namespace of the mount's owner, 0 if invisible there.
struct Caller {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t pid = 0;
};

// How long the kernel may rely on an answer.
struct Timeout {
  std::uint64_t sec = 0;
  std::uint32_t nsec = 0;
};

struct Timestamp {
  std::int64_t sec = 0;
  std::uint32_t nsec = 0;
  friend bool operator==(const Timestamp&, const Timestamp&) = default;
};

struct Attr {
  std::uint64_t ino = 0;
  std::uint64_t size = 0;
  std::uint64_t blocks = 0;  // of 512 bytes
  Timestamp atime, mtime, ctime;
  std::optional<Timestamp> btime;  // only statx() hands it out
  std::uint32_t mode = 0;          // type and permissions
  std::uint32_t nlink = 1;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  dev_t rdev = 0;
  std::uint32_t blksize = 4096;
};

struct AttrReply {
  Attr attr;
  Timeout valid;
};

// The answer to a lookup. node == kNone is a negative entry: "no such name", valid for entry_valid.
struct Entry {
  NodeId node = NodeId::kNone;
  std::uint64_t generation = 0;
  Attr attr;
  Timeout entry_valid, attr_valid;
};

struct OpenReply {
  HandleId handle = HandleId::kNone;
  bool direct_io = false;
  bool keep_cache = false;
  bool cache_dir = false;
  bool nonseekable = false;
  bool noflush = false;
  bool parallel_direct_writes = false;
  std::int32_t backing_id = 0;  // > 0: passthrough to this registered backing file
};

struct Created {
  Entry entry;
  OpenReply open;
};

// Which parts setattr changes. An engaged optional is a change.
struct SetAttr {
  std::optional<std::uint32_t> mode = {};  // permission bits
  std::optional<std::uint32_t> uid = {}, gid = {};
  std::optional<std::uint64_t> size = {};
  std::optional<Timestamp> atime = {}, mtime = {}, ctime = {};
  bool atime_now = false, mtime_now = false;
  bool kill_suidgid = false;  // the caller loses suid/sgid by this change (FATTR_KILL_SUIDGID)
  std::optional<HandleId> handle = {};
};

struct Statfs {
  std::uint64_t blocks = 0, bfree = 0, bavail = 0, files = 0, ffree = 0;
  std::uint32_t bsize = 4096, namelen = 255, frsize = 4096;
};

// Where readdir puts entries. `next` is the offset from which a later readdir continues after this entry.
// add() returns false when the entry did not fit: it is not part of the answer and comes first next time.
class DirSink {
 public:
  virtual ~DirSink() = default;
  virtual bool add(std::string_view name, std::uint64_t ino, std::uint32_t type /* DT_* */, std::uint64_t next) = 0;
};

// As DirSink, for READDIRPLUS. An entry whose node is not kNone counts as one lookup if add() returned true.
// entry.attr.ino and entry.attr.mode are always set. "." and ".." carry kNone.
class DirPlusSink {
 public:
  virtual ~DirPlusSink() = default;
  // Whether an entry with a name of this many bytes still fits: ask before paying for a lookup.
  virtual bool fits(std::size_t name_length) const = 0;
  virtual bool add(std::string_view name, const Entry& entry, std::uint64_t next) = 0;
};

struct XattrFlags {
  bool create = false;   // EEXIST if it is there
  bool replace = false;  // ENODATA if it is not
  bool acl_kill_sgid = false;
};

struct RenameFlags {
  bool noreplace = false;
  bool exchange = false;
  bool whiteout = false;
};

struct IoctlRequest {
  std::uint32_t command = 0;
  std::uint64_t argument = 0;
  bool directory = false;
  bool compat32 = false;
  std::span<const std::byte> in = {};
  std::size_t out_size = 0;
};
struct IoctlReply {
  std::int32_t result = 0;
  std::string out;
};

// Tells the kernel that what it caches is stale. A call from inside an operation is safe for inval_attr; the
// others take kernel locks that an operation on the same object may hold: call them from elsewhere.
// Failures (ENOENT: the kernel knows no such node) mean there was nothing to drop.
class Notifier {
 public:
  virtual ~Notifier() = default;
  virtual Status inval_attr(NodeId node) = 0;
  virtual Status inval_data(NodeId node, std::int64_t offset, std::int64_t length /* <= 0: to the end */) = 0;
  virtual Status inval_entry(NodeId parent, std::string_view name) = 0;
  virtual Status delete_entry(NodeId parent, NodeId child, std::string_view name) = 0;
  // Puts bytes of a file into the kernel's cache. Waits for pages that are being read: call it only where no READ of
  // the file can be waiting for this thread.
  virtual Status store_data(NodeId node, std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  // Registers a backing file for passthrough; EPERM without CAP_SYS_ADMIN, EOPNOTSUPP where there is none.
  virtual Result<std::int32_t> open_backing(int fd) = 0;
  virtual Status close_backing(std::int32_t backing_id) = 0;
};

// What was agreed with the kernel at INIT. The file system may switch wishes off (never on) in init().
struct Connection {
  std::uint32_t minor = 0;  // of the peer's protocol 7.x
  std::uint32_t max_write = 0;
  bool writeback_cache = false;
  bool posix_acl = false;
  bool dont_mask = false;
  bool handle_killpriv_v2 = false;
  bool readdirplus = false;
  bool atomic_o_trunc = false;
  bool passthrough = false;
  bool export_support = false;
  bool cache_symlinks = false;
  bool parallel_dirops = false;
  // ENOSYS from open (opendir) makes the kernel go on without handles: kNone in all that follows, cached as with
  // keep_cache (and cache_dir).
  bool no_open = false, no_opendir = false;
  // ENOSYS from fsync (fsyncdir, syncfs) makes the kernel take it as done, and never ask again.
  bool no_fsync = false;
  Notifier* notifier = nullptr;  // lives until destroy() returned
};

// Moves the bytes of one READ or WRITE between the kernel and an open file, from `offset` on.
class FileMover {
 public:
  virtual ~FileMover() = default;
  virtual Result<std::size_t> move(sys::FdRef file, std::uint64_t offset) = 0;
};

class Filesystem {
 public:
  virtual ~Filesystem() = default;

  virtual Status init(Connection&) { return {}; }
  virtual void destroy() {}

  virtual Result<Entry> lookup(const Caller&, NodeId parent, std::string_view name) = 0;
  virtual void forget(NodeId, std::uint64_t count) = 0;
  virtual Result<AttrReply> getattr(const Caller&, NodeId, std::optional<HandleId>) = 0;
  // As getattr, with btime. Default: getattr().
  virtual Result<AttrReply> statx(const Caller& c, NodeId n, std::optional<HandleId> h) { return getattr(c, n, h); }
  virtual Result<AttrReply> setattr(const Caller&, NodeId, const SetAttr&) { return fail(ENOSYS); }
  virtual Result<std::string> readlink(const Caller&, NodeId) { return fail(EINVAL); }

  virtual Result<Entry> symlink(const Caller&, NodeId /*parent*/, std::string_view /*name*/,
                                std::string_view /*target*/) {
    return fail(ENOSYS);
  }
  virtual Result<Entry> mknod(const Caller&, NodeId /*parent*/, std::string_view /*name*/, std::uint32_t /*mode*/,
                              dev_t, std::uint32_t /*umask*/) {
    return fail(ENOSYS);
  }
  virtual Result<Entry> mkdir(const Caller&, NodeId /*parent*/, std::string_view /*name*/, std::uint32_t /*mode*/,
                              std::uint32_t /*umask*/) {
    return fail(ENOSYS);
  }
  virtual Status unlink(const Caller&, NodeId /*parent*/, std::string_view /*name*/) { return fail(ENOSYS); }
  virtual Status rmdir(const Caller&, NodeId /*parent*/, std::string_view /*name*/) { return fail(ENOSYS); }
  virtual Status rename(const Caller&, NodeId /*parent*/, std::string_view /*name*/, NodeId /*new_parent*/,
                        std::string_view /*new_name*/, RenameFlags) {
    return fail(ENOSYS);
  }
  virtual Result<Entry> link(const Caller&, NodeId, NodeId /*new_parent*/, std::string_view /*new_name*/) {
    return fail(ENOSYS);
  }

  // flags: as open(2). With atomic_o_trunc they may hold O_TRUNC. kill_suidgid as in SetAttr.
  virtual Result<OpenReply> open(const Caller&, NodeId, int /*flags*/, bool /*kill_suidgid*/) { return fail(ENOSYS); }
  virtual Result<Created> create(const Caller&, NodeId /*parent*/, std::string_view /*name*/, int /*flags*/,
                                 std::uint32_t /*mode*/, std::uint32_t /*umask*/) {
    return fail(ENOSYS);
  }
  // O_TMPFILE: a file without a name, in the file system of parent.
  virtual Result<Created> tmpfile(const Caller&, NodeId /*parent*/, int /*flags*/, std::uint32_t /*mode*/,
                                  std::uint32_t /*umask*/) {
    return fail(ENOSYS);
  }
  // Fills `out` from `offset`; returns the bytes read, fewer only at the end of the file.
  virtual Result<std::size_t> read(const Caller&, NodeId, HandleId, std::uint64_t /*offset*/,
                                   std::span<std::byte> /*out*/) {
    return fail(ENOSYS);
  }
  virtual Result<std::size_t> write(const Caller&, NodeId, HandleId, std::uint64_t /*offset*/,
                                    std::span<const std::byte>, bool /*kill_suidgid*/) {
    return fail(ENOSYS);
  }
  // Before a long read(), or a long write() that kills no bits: if its bytes are simply those of an open file, `mover`
  // takes it from there. After an error (default: there is no such file) comes the read() or write().
  virtual Result<std::size_t> move_out(NodeId, HandleId, std::uint64_t /*offset*/, FileMover&) {
    return fail(EOPNOTSUPP);
  }
  virtual Result<std::size_t> move_in(NodeId, HandleId, std::uint64_t /*offset*/, FileMover&) {
    return fail(EOPNOTSUPP);
  }
  virtual Status flush(const Caller&, NodeId, HandleId) { return fail(ENOSYS); }
  virtual void release(NodeId, HandleId) {}
  virtual Status fsync(const Caller&, NodeId, HandleId, bool /*data_only*/) { return fail(ENOSYS); }
  virtual Status fallocate(const Caller&, NodeId, HandleId, int /*mode*/, std::uint64_t /*offset*/,
                           std::uint64_t /*length*/) {
    return fail(ENOSYS);
  }
  virtual Result<std::uint64_t> lseek(const Caller&, NodeId, HandleId, std::uint64_t /*offset*/, int /*whence*/) {
    return fail(ENOSYS);
  }
  virtual Result<std::size_t> copy_file_range(const Caller&, NodeId /*in*/, HandleId /*in*/,
                                              std::uint64_t /*offset_in*/, NodeId /*out*/, HandleId /*out*/,
                                              std::uint64_t /*offset_out*/, std::size_t /*length*/) {
    return fail(ENOSYS);
  }

  virtual Result<OpenReply> opendir(const Caller&, NodeId, int /*flags*/) { return OpenReply{}; }
  virtual Status readdir(const Caller&, NodeId, HandleId, std::uint64_t /*offset*/, DirSink&) { return fail(ENOSYS); }
  virtual Status readdirplus(const Caller&, NodeId, HandleId, std::uint64_t /*offset*/, DirPlusSink&) {
    return fail(ENOSYS);
  }
  virtual void releasedir(NodeId, HandleId) {}
  virtual Status fsyncdir(const Caller&, NodeId, HandleId, bool /*data_only*/) { return fail(ENOSYS); }

  virtual Result<Statfs> statfs(const Caller&, NodeId) { return Statfs{}; }
  virtual Status syncfs(const Caller&, NodeId) { return fail(ENOSYS); }
  virtual Status access(const Caller&, NodeId, int /*mask*/) { return fail(ENOSYS); }

  virtual Status setxattr(const Caller&, NodeId, std::string_view /*name*/, std::span<const std::byte>, XattrFlags) {
    return fail(ENOSYS);
  }
  virtual Result<std::string> getxattr(const Caller&, NodeId, std::string_view /*name*/) { return fail(ENOSYS); }
  // Names, each followed by a zero byte, as listxattr(2).
  virtual Result<std::string> listxattr(const Caller&, NodeId) { return fail(ENOSYS); }
  virtual Status removexattr(const Caller&, NodeId, std::string_view /*name*/) { return fail(ENOSYS); }

  virtual Result<IoctlReply> ioctl(const Caller&, NodeId, HandleId, const IoctlRequest&) { return fail(ENOTTY); }
};

}  // namespace vellum::fuse
