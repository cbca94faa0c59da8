// Between the plain values of filesystem.h and the structs of abi.h, both ways: the Session encodes replies, the
// Client decodes them. Threads: pure functions; a buffer belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "fuse/abi.h"
#include "fuse/filesystem.h"

namespace vellum::fuse {

// The kernel's 32-bit form of a device number: 12 bits of major, 20 bits of minor.
std::uint32_t wire_device(dev_t device);
dev_t plain_device(std::uint32_t wire);

abi::Attr wire_attr(const Attr& attr);
Attr plain_attr(const abi::Attr& wire);
abi::EntryOut wire_entry(const Entry& entry);
Entry plain_entry(const abi::EntryOut& wire);
abi::AttrOut wire_attr_reply(const AttrReply& reply);
AttrReply plain_attr_reply(const abi::AttrOut& wire);
abi::StatxOut wire_statx_reply(const AttrReply& reply);
AttrReply plain_statx_reply(const abi::StatxOut& wire);
abi::OpenOut wire_open(const OpenReply& reply, std::uint32_t minor, bool passthrough);
OpenReply plain_open(const abi::OpenOut& wire);
abi::StatfsOut wire_statfs(const Statfs& statfs);
Statfs plain_statfs(const abi::StatfsOut& wire);

// Fills a READDIR reply. A name that no directory can hold is dropped, with a warning: one bad entry in a reply
// makes the kernel refuse the whole listing.
class DirBuffer final : public DirSink {
 public:
  explicit DirBuffer(std::span<std::byte> memory) : memory_(memory) {}
  bool add(std::string_view name, std::uint64_t ino, std::uint32_t type, std::uint64_t next) override;
  std::span<const std::byte> bytes() const { return memory_.first(used_); }

 private:
  std::span<std::byte> memory_;
  std::size_t used_ = 0;
};

// Fills a READDIRPLUS reply and remembers which nodes it counted, in case the reply is lost.
class DirPlusBuffer final : public DirPlusSink {
 public:
  DirPlusBuffer(std::span<std::byte> memory, std::vector<NodeId>& counted) : memory_(memory), counted_(counted) {
    counted_.clear();
  }
  bool fits(std::size_t name_length) const override;
  bool add(std::string_view name, const Entry& entry, std::uint64_t next) override;
  std::span<const std::byte> bytes() const { return memory_.first(used_); }

 private:
  std::span<std::byte> memory_;
  std::vector<NodeId>& counted_;
  std::size_t used_ = 0;
};

// Walks a READDIR or READDIRPLUS reply. False at the end; a cut or senseless record ends it too.
struct DirRecord {
  Entry entry;  // READDIRPLUS only
  std::uint64_t ino = 0, next = 0;
  std::uint32_t type = 0;
  std::string_view name;
};
bool next_dir_record(std::span<const std::byte>& bytes, bool plus, DirRecord& record);

}  // namespace vellum::fuse
