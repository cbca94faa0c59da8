// From bytes to a request. Everything is bounds-checked; nothing is copied: names and data are views into the
// bytes and live as long as they do.
//
// Errors are what the caller is to be answered: ENOSYS for opcodes without a meaning here, EIO for bytes that do
// not make up a request (too short, too long, no zero byte), and what Linux itself says of a bad name: EINVAL for
// "", ".", ".." and names with '/', ENAMETOOLONG for more than 255 bytes.
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "fuse/abi.h"
#include "fuse/channel.h"
#include "fuse/filesystem.h"

namespace vellum::fuse {

struct Header {
  std::uint64_t unique = 0;
  std::uint32_t opcode = 0;
  NodeId node = NodeId::kNone;
  Caller caller;
  std::size_t extension_bytes = 0;
  abi::Opcode op() const { return static_cast<abi::Opcode>(opcode); }
};

// One struct per operation, with what Filesystem wants to know beside the header.
namespace op {
struct Lookup {
  std::string_view name;
};
struct Forget {
  std::uint64_t count;
};
struct BatchForget {
  std::span<const std::byte> items;  // abi::ForgetOne, not aligned
};
struct Getattr {
  std::optional<HandleId> handle;
};
struct Statx {
  std::optional<HandleId> handle;
};
struct Setattr {
  SetAttr change;
};
struct Readlink {};
struct Symlink {
  std::string_view name, target;
};
struct Mknod {
  std::string_view name;
  std::uint32_t mode;
  dev_t rdev;
  std::uint32_t umask;
};
struct Mkdir {
  std::string_view name;
  std::uint32_t mode, umask;
};
struct Unlink {
  std::string_view name;
};
struct Rmdir {
  std::string_view name;
};
struct Rename {
  std::string_view name;
  NodeId new_parent;
  std::string_view new_name;
  RenameFlags flags;
};
struct Link {
  NodeId node;
  std::string_view new_name;
};
struct Open {
  int flags;
  bool kill_suidgid;
};
struct Create {
  std::string_view name;
  int flags;
  std::uint32_t mode, umask;
};
struct Tmpfile {
  int flags;
  std::uint32_t mode, umask;
};
struct Read {
  HandleId handle;
  std::uint64_t offset;
  std::uint32_t size;
};
struct Write {
  HandleId handle;
  std::uint64_t offset;
  std::span<const std::byte> data;
  bool kill_suidgid;
  bool from_cache;  // nobody is there to write the rest of it
};
struct Statfs {};
struct Release {
  HandleId handle;
};
struct Fsync {
  HandleId handle;
  bool data_only;
};
struct Setxattr {
  std::string_view name;
  std::span<const std::byte> value;
  XattrFlags flags;
};
struct Getxattr {
  std::string_view name;
  std::uint32_t size;
};
struct Listxattr {
  std::uint32_t size;
};
struct Removexattr {
  std::string_view name;
};
struct Flush {
  HandleId handle;
};
struct Init {
  abi::InitIn in;  // what an old kernel does not send is 0
};
struct Opendir {
  int flags;
};
struct Readdir {
  HandleId handle;
  std::uint64_t offset;
  std::uint32_t size;
};
struct Readdirplus {
  HandleId handle;
  std::uint64_t offset;
  std::uint32_t size;
};
struct Releasedir {
  HandleId handle;
};
struct Fsyncdir {
  HandleId handle;
  bool data_only;
};
struct Access {
  std::uint32_t mask;
};
struct Interrupt {
  std::uint64_t target;
};
struct Ioctl {
  HandleId handle;
  IoctlRequest request;
};
struct Fallocate {
  HandleId handle;
  std::uint64_t offset, length;
  int mode;
};
struct Lseek {
  HandleId handle;
  std::uint64_t offset;
  int whence;
};
struct CopyFileRange {
  HandleId handle_in;
  std::uint64_t offset_in;
  NodeId node_out;
  HandleId handle_out;
  std::uint64_t offset_out, length;
  bool wide;  // COPY_FILE_RANGE_64
};
struct Syncfs {};
struct Destroy {};
}  // namespace op

using Operation =
    std::variant<op::Lookup, op::Forget, op::BatchForget, op::Getattr, op::Statx, op::Setattr, op::Readlink,
                 op::Symlink, op::Mknod, op::Mkdir, op::Unlink, op::Rmdir, op::Rename, op::Link, op::Open, op::Create,
                 op::Tmpfile, op::Read, op::Write, op::Statfs, op::Release, op::Fsync, op::Setxattr, op::Getxattr,
                 op::Listxattr, op::Removexattr, op::Flush, op::Init, op::Opendir, op::Readdir, op::Readdirplus,
                 op::Releasedir, op::Fsyncdir, op::Access, op::Interrupt, op::Ioctl, op::Fallocate, op::Lseek,
                 op::CopyFileRange, op::Syncfs, op::Destroy>;

// What was agreed at INIT and changes how later requests look.
struct DecodeOptions {
  bool setxattr_ext = false;
  bool dot_names = false;  // LOOKUP may ask for "." and ".." (export support)
};

// Fails only when there is no whole header, so that there is nobody to answer.
Result<Header> decode_header(const RequestBytes& bytes);
// `bytes` is the whole request, with its header.
Result<Operation> decode_operation(const Header& header, const RequestBytes& bytes, const DecodeOptions& options);

// Whether a request with this opcode never gets a reply.
constexpr bool is_unanswered(std::uint32_t opcode) {
  return opcode == static_cast<std::uint32_t>(abi::Opcode::kForget) ||
         opcode == static_cast<std::uint32_t>(abi::Opcode::kBatchForget) ||
         opcode == static_cast<std::uint32_t>(abi::Opcode::kNotifyReply);
}

// "LOOKUP"; "OPCODE" for an unknown one.
const char* opcode_name(std::uint32_t opcode);

}  // namespace vellum::fuse
