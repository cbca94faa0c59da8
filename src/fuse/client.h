// The kernel's side of the protocol, over a packet socket: what a Session answers, without a kernel or a mount.
//
// Client is itself a Filesystem: each operation goes out as a request and comes back as the reply decoded, so a test
// can drive a file system directly or through the wire with the same code. Beside that: any protocol version and
// any offer of features (to play an old kernel), raw bytes (to play a broken one), and received notifications.
// Unlike the kernel it caches nothing and counts no lookups: call forget() yourself.
//
// Threads: every function may be called from several threads at once; initialize() first. A thread of its own
// reads replies. Errors: those of the reply; ENOTCONN when the session is gone; EIO for a reply that makes no sense.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "fuse/abi.h"
#include "fuse/filesystem.h"
#include "sys/fd.h"

namespace vellum::fuse {

class Client final : public Filesystem {
 public:
  // What the "kernel" says of itself in INIT.
  struct Hello {
    std::uint32_t major = abi::kMajor;
    std::uint32_t minor = abi::kNewestMinor;
    std::uint32_t max_readahead = 1 << 20;
    std::uint64_t flags = ~std::uint64_t{0};
  };
  struct Reply {
    int error = 0;  // positive errno
    std::vector<std::byte> body;
  };
  struct Notification {
    abi::NotifyCode code;
    std::vector<std::byte> body;
  };

  explicit Client(sys::UniqueFd socket);
  ~Client() override;

  // INIT. Flags of a later protocol than hello.minor are left out, and so are the fields an old kernel lacks.
  Result<abi::InitOut> initialize(const Hello& hello);
  // Ends the connection, as an unmount does; requests under way fail with ENOTCONN.
  void disconnect();

  // Sends a request made of these pieces behind a correct header, and waits for its reply.
  Result<Reply> call(std::uint32_t opcode, NodeId node, const Caller& caller,
                     std::initializer_list<std::span<const std::byte>> pieces);
  // As call(), for requests that get no reply.
  Status post(std::uint32_t opcode, NodeId node, const Caller& caller,
              std::initializer_list<std::span<const std::byte>> pieces);
  // Sends bytes as they are. With `unique`, waits for the reply to that.
  Status post_raw(std::span<const std::byte> bytes);
  Result<Reply> call_raw(std::span<const std::byte> bytes, std::uint64_t unique);

  std::optional<Notification> next_notification(std::chrono::milliseconds timeout);

  // How much READDIR, READDIRPLUS, GETXATTR and LISTXATTR ask for (0 asks the latter two for the size alone).
  void set_directory_size(std::uint32_t bytes) { directory_size_ = bytes; }
  void set_xattr_size(std::uint32_t bytes) { xattr_size_ = bytes; }
  // The answer to a GETXATTR or LISTXATTR of size 0.
  Result<std::uint32_t> xattr_length(const Caller& caller, NodeId node, std::string_view name);
  Status interrupt(std::uint64_t unique);
  Status forget_batch(std::span<const abi::ForgetOne> items);

  void destroy() override;
  Result<Entry> lookup(const Caller&, NodeId parent, std::string_view name) override;
  void forget(NodeId, std::uint64_t count) override;
  Result<AttrReply> getattr(const Caller&, NodeId, std::optional<HandleId>) override;
  Result<AttrReply> statx(const Caller&, NodeId, std::optional<HandleId>) override;
  Result<AttrReply> setattr(const Caller&, NodeId, const SetAttr&) override;
  Result<std::string> readlink(const Caller&, NodeId) override;
  Result<Entry> symlink(const Caller&, NodeId parent, std::string_view name, std::string_view target) override;
  Result<Entry> mknod(const Caller&, NodeId parent, std::string_view name, std::uint32_t mode, dev_t rdev,
                      std::uint32_t umask) override;
  Result<Entry> mkdir(const Caller&, NodeId parent, std::string_view name, std::uint32_t mode,
                      std::uint32_t umask) override;
  Status unlink(const Caller&, NodeId parent, std::string_view name) override;
  Status rmdir(const Caller&, NodeId parent, std::string_view name) override;
  // RENAME without flags, else RENAME2.
  Status rename(const Caller&, NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name,
                RenameFlags flags) override;
  Result<Entry> link(const Caller&, NodeId node, NodeId new_parent, std::string_view new_name) override;
  Result<OpenReply> open(const Caller&, NodeId, int flags, bool kill_suidgid) override;
  Result<Created> create(const Caller&, NodeId parent, std::string_view name, int flags, std::uint32_t mode,
                         std::uint32_t umask) override;
  Result<Created> tmpfile(const Caller&, NodeId parent, int flags, std::uint32_t mode, std::uint32_t umask) override;
  Result<std::size_t> read(const Caller&, NodeId, HandleId, std::uint64_t offset, std::span<std::byte> out) override;
  Result<std::size_t> write(const Caller&, NodeId, HandleId, std::uint64_t offset, std::span<const std::byte> data,
                            bool kill_suidgid) override;
  Status flush(const Caller&, NodeId, HandleId) override;
  void release(NodeId, HandleId) override;
  Status fsync(const Caller&, NodeId, HandleId, bool data_only) override;
  Status fallocate(const Caller&, NodeId, HandleId, int mode, std::uint64_t offset, std::uint64_t length) override;
  Result<std::uint64_t> lseek(const Caller&, NodeId, HandleId, std::uint64_t offset, int whence) override;
  // COPY_FILE_RANGE_64 from 7.45 on, else COPY_FILE_RANGE.
  Result<std::size_t> copy_file_range(const Caller&, NodeId in, HandleId handle_in, std::uint64_t offset_in, NodeId out,
                                      HandleId handle_out, std::uint64_t offset_out, std::size_t length) override;
  Result<OpenReply> opendir(const Caller&, NodeId, int flags) override;
  // One request each; an entry that the sink refuses and those after it are asked for again from its offset.
  Status readdir(const Caller&, NodeId, HandleId, std::uint64_t offset, DirSink&) override;
  Status readdirplus(const Caller&, NodeId, HandleId, std::uint64_t offset, DirPlusSink&) override;
  void releasedir(NodeId, HandleId) override;
  Status fsyncdir(const Caller&, NodeId, HandleId, bool data_only) override;
  Result<Statfs> statfs(const Caller&, NodeId) override;
  Status syncfs(const Caller&, NodeId) override;
  Status access(const Caller&, NodeId, int mask) override;
  Status setxattr(const Caller&, NodeId, std::string_view name, std::span<const std::byte> value,
                  XattrFlags flags) override;
  Result<std::string> getxattr(const Caller&, NodeId, std::string_view name) override;
  Result<std::string> listxattr(const Caller&, NodeId) override;
  Status removexattr(const Caller&, NodeId, std::string_view name) override;
  Result<IoctlReply> ioctl(const Caller&, NodeId, HandleId, const IoctlRequest&) override;

 private:
  struct Waiter;

  std::uint64_t next_unique();
  Status send(std::uint64_t unique, std::uint32_t opcode, NodeId node, const Caller& caller,
              std::initializer_list<std::span<const std::byte>> pieces);
  Result<Reply> await(Waiter& waiter, std::uint64_t unique);
  void receive_replies();
  Status status(abi::Opcode op, NodeId node, const Caller& caller,
                std::initializer_list<std::span<const std::byte>> pieces);
  template <class T>
  Result<T> value(abi::Opcode op, NodeId node, const Caller& caller,
                  std::initializer_list<std::span<const std::byte>> pieces);

  sys::UniqueFd socket_;
  std::uint32_t minor_ = abi::kNewestMinor;
  bool setxattr_ext_ = false;
  std::uint32_t directory_size_ = 4096;
  std::uint32_t xattr_size_ = static_cast<std::uint32_t>(abi::kXattrSizeMax);

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::uint64_t last_unique_ = 0;
  std::map<std::uint64_t, Waiter*> waiters_;
  std::deque<Notification> notifications_;
  bool gone_ = false;

  std::thread receiver_;
};

}  // namespace vellum::fuse
