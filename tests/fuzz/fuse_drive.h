// Drives any fuse::Filesystem with a fuzzer's bytes, in three ways:
//   drive_requests   raw requests through a Session: decoders, negotiation, dispatch, encoders
//   drive_operations sensible operations on nodes and handles that exist, called on a Filesystem (a Client too)
//   drive_through_client  the latter over a Loopback
// After the drive everything that was counted has been given back, so the caller can check its books.
//
// A request in the bytes: 2 bytes of length of the body, 1 of opcode, 1 of node, 1 of flags, the body.
// Threads: one, plus those of the Loopback.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fuse/channel.h"
#include "fuse/decode.h"
#include "fuse/loopback.h"
#include "fuse/session.h"
#include "fuzz/byte_source.h"

namespace vellum::fuzz {

// Feeds requests cut from the bytes; checks that each reply is well-formed and comes once.
class FeedChannel final : public fuse::Channel {
 public:
  explicit FeedChannel(std::span<const std::byte> bytes) : source_(bytes) {}

  Result<fuse::RequestBytes> receive(std::span<std::byte> buffer) override {
    if (!greeted_) {
      greeted_ = true;
      return init(buffer);
    }
    if (source_.empty()) return fail(ENODEV);
    const std::size_t wanted = source_.take<std::uint16_t>() % 8192;
    const auto opcode = source_.take<std::uint8_t>();
    const auto node = source_.take<std::uint8_t>();
    const auto flags = source_.take<std::uint8_t>();
    const auto body = source_.take_bytes(wanted);
    fuse::abi::InHeader header{};
    header.length = static_cast<std::uint32_t>(sizeof header + body.size() + ((flags & 1U) != 0 ? 1 : 0));
    header.opcode = (flags & 2U) != 0 ? std::uint32_t{opcode} << 8 : opcode;
    header.unique = ++unique_;
    header.node = (flags & 4U) != 0 ? ~std::uint64_t{node} : node;
    header.uid = node;
    header.extension_words = (flags & 8U) != 0 ? flags >> 4 : 0;
    expected_ = fuse::is_unanswered(header.opcode) ? 0 : 1;
    lose_reply_ = (flags & 16U) != 0;
    std::memcpy(buffer.data(), &header, sizeof header);
    if (!body.empty()) std::memcpy(buffer.data() + sizeof header, body.data(), body.size());
    const auto whole = buffer.first(sizeof header + body.size());
    // Two pieces, as io_uring would bring them: the decoder must not care.
    if ((flags & 32U) != 0) return fuse::RequestBytes{whole.first(sizeof header), whole.subspan(sizeof header)};
    return fuse::RequestBytes{.head = whole};
  }

  Status send(std::span<const iovec> parts) override {
    fuse::abi::OutHeader header;
    check(parts[0].iov_len == sizeof header);
    std::memcpy(&header, parts[0].iov_base, sizeof header);
    if (header.unique == 0) return {};
    std::size_t length = 0;
    for (const auto& part : parts) length += part.iov_len;
    check(header.length == length);
    check(header.unique == unique_);
    check(header.error <= 0 && header.error > -512);
    check(header.error == 0 || length == sizeof header);
    check(expected_ > 0);
    --expected_;
    if (lose_reply_ && unique_ > 1) return fail(ENOENT);
    return {};
  }

  Result<std::unique_ptr<Channel>> clone() override { return fail(EOPNOTSUPP); }
  const char* name() const override { return "feed"; }

 private:
  static void check(bool holds) {
    if (!holds) std::abort();
  }

  Result<fuse::RequestBytes> init(std::span<std::byte> buffer) {
    const auto minor = static_cast<std::uint32_t>(31 + source_.choose(16));
    const auto flags = source_.take<std::uint64_t>();
    const fuse::abi::InitIn in{.major = 7,
                               .minor = minor,
                               .max_readahead = 1 << 17,
                               .flags = static_cast<std::uint32_t>(flags),
                               .flags2 = static_cast<std::uint32_t>(flags >> 32),
                               .unused = {}};
    fuse::abi::InHeader header{};
    header.length = sizeof header + sizeof in;
    header.opcode = static_cast<std::uint32_t>(fuse::abi::Opcode::kInit);
    header.unique = ++unique_;
    expected_ = 1;
    std::memcpy(buffer.data(), &header, sizeof header);
    std::memcpy(buffer.data() + sizeof header, &in, sizeof in);
    return fuse::RequestBytes{.head = buffer.first(header.length)};
  }

  ByteSource source_;
  std::uint64_t unique_ = 0;
  int expected_ = 0;
  bool greeted_ = false;
  bool lose_reply_ = false;
};

template <class Fs>
void drive_requests(Fs& filesystem, std::span<const std::byte> bytes) {
  fuse::SessionOptions options;
  options.wishes.max_write = 16384;
  options.wishes.export_support = true;
  fuse::Session session(filesystem, std::move(options));
  ignore(session.run(std::make_unique<FeedChannel>(bytes), 1));
}

namespace detail {

using fuse::HandleId;
using fuse::NodeId;

struct OpenFile {
  NodeId node;
  HandleId handle;
  bool directory;
};

struct PlusSink final : fuse::DirPlusSink {
  bool fits(std::size_t) const override { return true; }
  bool add(std::string_view, const fuse::Entry& entry, std::uint64_t) override {
    if (entry.node != NodeId::kNone) nodes.push_back(entry.node);
    return true;
  }
  std::vector<NodeId> nodes;
};

struct NameSink final : fuse::DirSink {
  bool add(std::string_view, std::uint64_t, std::uint32_t, std::uint64_t) override { return true; }
};

}  // namespace detail

template <class Fs>
class OperationDriver {
 public:
  OperationDriver(Fs& filesystem, std::span<const std::byte> bytes) : fs_(filesystem), source_(bytes) {}

  void run() {
    // Bounded, so that one input cannot take for ever.
    for (int step = 0; step < 400 && !source_.empty(); ++step) one();
    for (const auto& file : open_) close(file);
    for (const auto node : nodes_) fs_.forget(node, 1);
  }

 private:
  using NodeId = fuse::NodeId;

  NodeId node() {
    const std::size_t i = source_.choose(nodes_.size() + 1);
    return i == 0 ? NodeId::kRoot : nodes_[i - 1];
  }
  std::string name() {
    static constexpr std::string_view kNames[] = {"a", "b", "c", "dir", ".wh.a", ".wh..wh..opq", "#x", "..a"};
    const std::size_t i = source_.choose(10);
    if (i < std::size(kNames)) return std::string(kNames[i]);
    if (i == 8) return std::string(255, 'n');
    return source_.take_text(source_.choose(20));  // possibly no name at all
  }
  void keep(const Result<fuse::Entry>& entry) {
    if (entry && entry->node != NodeId::kNone) nodes_.push_back(entry->node);
  }
  void close(const detail::OpenFile& file) {
    file.directory ? fs_.releasedir(file.node, file.handle) : fs_.release(file.node, file.handle);
  }
  template <class Act>
  void with_open(Act act) {
    if (!open_.empty()) act(open_[source_.choose(open_.size())]);
  }

  void one() {
    const fuse::Caller caller{.uid = source_.flip() ? 1000U : 0U, .gid = 0, .pid = 1};
    switch (source_.choose(27)) {
      case 0: keep(fs_.lookup(caller, node(), name())); break;
      case 1: keep(fs_.mkdir(caller, node(), name(), 0755, 0)); break;
      case 2: keep(fs_.mknod(caller, node(), name(), S_IFREG | 0644, 0, 0)); break;
      case 3: keep(fs_.symlink(caller, node(), name(), "target")); break;
      case 4: keep(fs_.link(caller, node(), node(), name())); break;
      case 5: ignore(fs_.unlink(caller, node(), name())); break;
      case 6: ignore(fs_.rmdir(caller, node(), name())); break;
      case 7: {
        const fuse::RenameFlags flags{
            .noreplace = source_.choose(4) == 0, .exchange = source_.choose(4) == 0, .whiteout = false};
        const NodeId from = node(), to = node();
        const std::string old_name = name();
        ignore(fs_.rename(caller, from, old_name, to, name(), flags));
        break;
      }
      case 8: {
        const NodeId opened = node();
        const auto reply = fs_.open(caller, opened, source_.flip() ? O_RDWR : O_RDWR | O_TRUNC, source_.flip());
        if (reply) open_.push_back({opened, reply->handle, false});
        break;
      }
      case 9: {
        const auto made = fs_.create(caller, node(), name(), O_RDWR, 0644, 022);
        if (!made) break;
        nodes_.push_back(made->entry.node);
        open_.push_back({made->entry.node, made->open.handle, false});
        break;
      }
      case 10: {
        const auto made = fs_.tmpfile(caller, node(), O_RDWR, 0600, 0);
        if (!made) break;
        nodes_.push_back(made->entry.node);
        open_.push_back({made->entry.node, made->open.handle, false});
        break;
      }
      case 11: {
        const NodeId opened = node();
        const auto reply = fs_.opendir(caller, opened, O_RDONLY);
        if (reply) open_.push_back({opened, reply->handle, true});
        break;
      }
      case 12: {
        if (open_.empty()) break;
        const std::size_t i = source_.choose(open_.size());
        close(open_[i]);
        open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(i));
        break;
      }
      case 13:
        with_open([&](const detail::OpenFile& file) {
          const auto offset = source_.take<std::uint16_t>();
          const auto data = source_.take_bytes(source_.choose(64));
          ignore(fs_.write(caller, file.node, file.handle, offset, data, source_.flip()));
        });
        break;
      case 14:
        with_open([&](const detail::OpenFile& file) {
          std::byte buffer[256];
          ignore(fs_.read(caller, file.node, file.handle, source_.take<std::uint16_t>(), buffer));
        });
        break;
      case 15:
        with_open([&](const detail::OpenFile& file) {
          detail::NameSink sink;
          if (file.directory) ignore(fs_.readdir(caller, file.node, file.handle, source_.choose(8), sink));
        });
        break;
      case 16:
        with_open([&](const detail::OpenFile& file) {
          detail::PlusSink sink;
          if (file.directory) ignore(fs_.readdirplus(caller, file.node, file.handle, source_.choose(8), sink));
          nodes_.insert(nodes_.end(), sink.nodes.begin(), sink.nodes.end());
        });
        break;
      case 17: {
        fuse::SetAttr change;
        if (source_.flip()) change.mode = source_.take<std::uint16_t>() & 07777U;
        if (source_.flip()) change.size = source_.take<std::uint16_t>();
        if (source_.flip()) change.uid = source_.take<std::uint32_t>();
        if (source_.flip()) change.mtime = fuse::Timestamp{.sec = source_.take<std::int32_t>(), .nsec = 5};
        change.atime_now = source_.flip();
        change.kill_suidgid = source_.flip();
        ignore(fs_.setattr(caller, node(), change));
        break;
      }
      case 18: ignore(fs_.getattr(caller, node(), std::nullopt)); break;
      case 19: ignore(fs_.statx(caller, node(), std::nullopt)); break;
      case 20: ignore(fs_.readlink(caller, node())); break;
      case 21: {
        static constexpr const char* kXattrs[] = {"user.a", "user.overlay.opaque", "trusted.overlay.redirect",
                                                  "system.posix_acl_access"};
        const std::string xattr = kXattrs[source_.choose(4)];
        const NodeId target = node();
        switch (source_.choose(4)) {
          case 0: ignore(fs_.getxattr(caller, target, xattr)); break;
          case 1: ignore(fs_.listxattr(caller, target)); break;
          case 2: ignore(fs_.removexattr(caller, target, xattr)); break;
          default:
            ignore(fs_.setxattr(caller, target, xattr, source_.take_bytes(source_.choose(32)),
                                {.create = source_.flip(), .replace = source_.flip()}));
        }
        break;
      }
      case 22: ignore(fs_.statfs(caller, node())); break;
      case 23: ignore(fs_.access(caller, node(), static_cast<int>(source_.choose(8)))); break;
      case 24:
        with_open([&](const detail::OpenFile& file) {
          ignore(fs_.fallocate(caller, file.node, file.handle, static_cast<int>(source_.choose(4)),
                               source_.take<std::uint16_t>(), source_.take<std::uint16_t>()));
          ignore(fs_.lseek(caller, file.node, file.handle, source_.take<std::uint16_t>(), 3));
          ignore(fs_.flush(caller, file.node, file.handle));
        });
        break;
      case 25: {
        if (nodes_.empty()) break;
        const std::size_t i = source_.choose(nodes_.size());
        // A node with open handles stays named by them.
        const NodeId gone = nodes_[i];
        if (std::ranges::any_of(open_, [gone](const auto& file) { return file.node == gone; })) break;
        fs_.forget(gone, 1);
        nodes_.erase(nodes_.begin() + static_cast<std::ptrdiff_t>(i));
        break;
      }
      default:
        with_open([&](const detail::OpenFile& in) {
          with_open([&](const detail::OpenFile& out) {
            ignore(fs_.copy_file_range(caller, in.node, in.handle, source_.choose(64), out.node, out.handle,
                                       source_.choose(64), source_.take<std::uint16_t>()));
          });
        });
    }
  }

  Fs& fs_;
  ByteSource source_;
  std::vector<NodeId> nodes_;  // one entry for each counted lookup
  std::vector<detail::OpenFile> open_;
};

template <class Fs>
void drive_operations(Fs& filesystem, std::span<const std::byte> bytes) {
  OperationDriver<Fs>(filesystem, bytes).run();
}

// The bytes' first one chooses the protocol.
template <class Fs>
void drive_through_client(Fs& filesystem, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const auto minor = static_cast<std::uint32_t>(31 + static_cast<unsigned>(bytes[0]) % 15);
  fuse::Loopback::Options options;
  options.hello.minor = minor;
  fuse::Loopback loopback(filesystem, std::move(options));
  if (!loopback.started()) std::abort();
  drive_operations(loopback.client(), bytes.subspan(1));
  // FORGET gets no reply; this one comes after them.
  ignore(loopback.client().statfs({}, fuse::NodeId::kRoot));
}

}  // namespace vellum::fuzz
