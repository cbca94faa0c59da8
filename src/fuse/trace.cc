#include "fuse/trace.h"

#include <fmt/format.h>

#include <cstring>

namespace vellum::fuse {
namespace {

// What to say of each operation beside its name and node.
struct Details {
  std::string operator()(const op::Lookup& o) const { return ' ' + quoted(o.name); }
  std::string operator()(const op::Forget& o) const { return fmt::format(" count={}", o.count); }
  std::string operator()(const op::BatchForget& o) const {
    return fmt::format(" nodes={}", o.items.size() / sizeof(abi::ForgetOne));
  }
  std::string operator()(const op::Getattr& o) const { return handle(o.handle); }
  std::string operator()(const op::Statx& o) const { return handle(o.handle); }
  std::string operator()(const op::Setattr& o) const {
    const SetAttr& c = o.change;
    std::string text = handle(c.handle);
    if (c.mode) text += fmt::format(" mode={:o}", *c.mode);
    if (c.uid) text += fmt::format(" uid={}", *c.uid);
    if (c.gid) text += fmt::format(" gid={}", *c.gid);
    if (c.size) text += fmt::format(" size={}", *c.size);
    if (c.atime) text += fmt::format(" atime={}.{:09}", c.atime->sec, c.atime->nsec);
    if (c.mtime) text += fmt::format(" mtime={}.{:09}", c.mtime->sec, c.mtime->nsec);
    if (c.ctime) text += fmt::format(" ctime={}.{:09}", c.ctime->sec, c.ctime->nsec);
    if (c.atime_now) text += " atime=now";
    if (c.mtime_now) text += " mtime=now";
    if (c.kill_suidgid) text += " kill_suidgid";
    return text;
  }
  std::string operator()(const op::Symlink& o) const { return ' ' + quoted(o.name) + " target=" + quoted(o.target); }
  std::string operator()(const op::Mknod& o) const {
    return fmt::format(" {} mode={:o} rdev={:#x} umask={:o}", quoted(o.name), o.mode, o.rdev, o.umask);
  }
  std::string operator()(const op::Mkdir& o) const {
    return fmt::format(" {} mode={:o} umask={:o}", quoted(o.name), o.mode, o.umask);
  }
  std::string operator()(const op::Unlink& o) const { return ' ' + quoted(o.name); }
  std::string operator()(const op::Rmdir& o) const { return ' ' + quoted(o.name); }
  std::string operator()(const op::Rename& o) const {
    return fmt::format(" {} to={} {}{}{}{}", quoted(o.name), raw(o.new_parent), quoted(o.new_name),
                       o.flags.noreplace ? " noreplace" : "", o.flags.exchange ? " exchange" : "",
                       o.flags.whiteout ? " whiteout" : "");
  }
  std::string operator()(const op::Link& o) const { return fmt::format(" of={} {}", raw(o.node), quoted(o.new_name)); }
  std::string operator()(const op::Open& o) const { return fmt::format(" flags={:#o}", o.flags); }
  std::string operator()(const op::Opendir& o) const { return fmt::format(" flags={:#o}", o.flags); }
  std::string operator()(const op::Create& o) const {
    return fmt::format(" {} flags={:#o} mode={:o} umask={:o}", quoted(o.name), o.flags, o.mode, o.umask);
  }
  std::string operator()(const op::Tmpfile& o) const { return fmt::format(" flags={:#o} mode={:o}", o.flags, o.mode); }
  std::string operator()(const op::Read& o) const { return range(o.handle, o.offset, o.size); }
  std::string operator()(const op::Readdir& o) const { return range(o.handle, o.offset, o.size); }
  std::string operator()(const op::Readdirplus& o) const { return range(o.handle, o.offset, o.size); }
  std::string operator()(const op::Write& o) const { return range(o.handle, o.offset, o.data.size()); }
  std::string operator()(const op::Fallocate& o) const {
    return range(o.handle, o.offset, o.length) + fmt::format(" mode={:#x}", o.mode);
  }
  std::string operator()(const op::Lseek& o) const {
    return fmt::format(" handle={} offset={} whence={}", raw(o.handle), o.offset, o.whence);
  }
  std::string operator()(const op::CopyFileRange& o) const {
    return fmt::format(" handle={} offset={} to={} handle={} offset={} length={}", raw(o.handle_in), o.offset_in,
                       raw(o.node_out), raw(o.handle_out), o.offset_out, o.length);
  }
  std::string operator()(const op::Release& o) const { return handle(o.handle); }
  std::string operator()(const op::Releasedir& o) const { return handle(o.handle); }
  std::string operator()(const op::Flush& o) const { return handle(o.handle); }
  std::string operator()(const op::Fsync& o) const { return handle(o.handle) + (o.data_only ? " data" : ""); }
  std::string operator()(const op::Fsyncdir& o) const { return handle(o.handle) + (o.data_only ? " data" : ""); }
  std::string operator()(const op::Setxattr& o) const {
    return fmt::format(" {} size={}{}{}", quoted(o.name), o.value.size(), o.flags.create ? " create" : "",
                       o.flags.replace ? " replace" : "");
  }
  std::string operator()(const op::Getxattr& o) const { return fmt::format(" {} size={}", quoted(o.name), o.size); }
  std::string operator()(const op::Listxattr& o) const { return fmt::format(" size={}", o.size); }
  std::string operator()(const op::Removexattr& o) const { return ' ' + quoted(o.name); }
  std::string operator()(const op::Init& o) const {
    return fmt::format(" {}.{} flags={:#x} flags2={:#x} readahead={}", o.in.major, o.in.minor, o.in.flags, o.in.flags2,
                       o.in.max_readahead);
  }
  std::string operator()(const op::Access& o) const { return fmt::format(" mask={:o}", o.mask); }
  std::string operator()(const op::Interrupt& o) const { return fmt::format(" target={}", o.target); }
  std::string operator()(const op::Ioctl& o) const {
    return fmt::format(" handle={} command={:#x} in={} out={}", raw(o.handle), o.request.command, o.request.in.size(),
                       o.request.out_size);
  }
  template <class Other>
  std::string operator()(const Other&) const {
    return {};
  }

 private:
  static std::string handle(HandleId id) { return fmt::format(" handle={}", raw(id)); }
  static std::string handle(std::optional<HandleId> id) { return id ? handle(*id) : std::string(); }
  static std::string range(HandleId id, std::uint64_t offset, std::uint64_t size) {
    return fmt::format(" handle={} offset={} size={}", raw(id), offset, size);
  }
};

}  // namespace

std::string quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      text += '\\';
      text += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  return text + '"';
}

std::string describe(const Header& header, const Operation& operation) {
  return fmt::format("{} node={}{}", opcode_name(header.opcode), raw(header.node), std::visit(Details{}, operation));
}

std::string describe_error(int error) {
  if (error == 0) return "OK";
  const char* name = ::strerrorname_np(error);
  return name != nullptr ? name : fmt::format("errno {}", error);
}

}  // namespace vellum::fuse
