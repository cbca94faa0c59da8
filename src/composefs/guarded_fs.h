// A file system whose answers come from a guarded mapping: one that was made while pages of it could not be read is
// EIO, with a line in the log. The kernel keeps no error, so
// whatever can be read again is there again.
// Threads: safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "fuse/filesystem.h"
#include "sys/fault_guard.h"

namespace vellum::composefs {

class GuardedFs final : public fuse::Filesystem {
 public:
  // Both outlive it.
  GuardedFs(fuse::Filesystem& inner, sys::FaultGuard& guard) : inner_(inner), guard_(guard) {}

  Status init(fuse::Connection& connection) override { return inner_.init(connection); }
  void destroy() override { inner_.destroy(); }
  void forget(fuse::NodeId n, std::uint64_t count) override { inner_.forget(n, count); }
  void release(fuse::NodeId n, fuse::HandleId h) override { inner_.release(n, h); }
  // These look at nothing that is mapped.
  Result<std::size_t> move_out(fuse::NodeId n, fuse::HandleId h, std::uint64_t offset, fuse::FileMover& m) override {
    return inner_.move_out(n, h, offset, m);
  }
  Result<fuse::OpenReply> opendir(const fuse::Caller& c, fuse::NodeId n, int flags) override {
    return inner_.opendir(c, n, flags);
  }
  Result<fuse::AttrReply> setattr(const fuse::Caller& c, fuse::NodeId n, const fuse::SetAttr& change) override {
    return inner_.setattr(c, n, change);
  }
  Status setxattr(const fuse::Caller& c, fuse::NodeId n, std::string_view name, std::span<const std::byte> value,
                  fuse::XattrFlags flags) override {
    return inner_.setxattr(c, n, name, value, flags);
  }
  Status removexattr(const fuse::Caller& c, fuse::NodeId n, std::string_view name) override {
    return inner_.removexattr(c, n, name);
  }

  Result<fuse::Entry> lookup(const fuse::Caller& c, fuse::NodeId parent, std::string_view name) override {
    return whole([&] { return inner_.lookup(c, parent, name); });
  }
  Result<fuse::AttrReply> getattr(const fuse::Caller& c, fuse::NodeId n, std::optional<fuse::HandleId> h) override {
    return whole([&] { return inner_.getattr(c, n, h); });
  }
  Result<std::string> readlink(const fuse::Caller& c, fuse::NodeId n) override {
    return whole([&] { return inner_.readlink(c, n); });
  }
  Result<fuse::OpenReply> open(const fuse::Caller& c, fuse::NodeId n, int flags, bool kill_suidgid) override;
  Result<std::size_t> read(const fuse::Caller& c, fuse::NodeId n, fuse::HandleId h, std::uint64_t offset,
                           std::span<std::byte> out) override {
    return whole([&] { return inner_.read(c, n, h, offset, out); });
  }
  Result<std::uint64_t> lseek(const fuse::Caller& c, fuse::NodeId n, fuse::HandleId h, std::uint64_t offset,
                              int whence) override {
    return whole([&] { return inner_.lseek(c, n, h, offset, whence); });
  }
  Status readdir(const fuse::Caller& c, fuse::NodeId n, fuse::HandleId h, std::uint64_t offset,
                 fuse::DirSink& sink) override {
    return whole([&] { return inner_.readdir(c, n, h, offset, sink); });
  }
  Status readdirplus(const fuse::Caller& c, fuse::NodeId n, fuse::HandleId h, std::uint64_t offset,
                     fuse::DirPlusSink& sink) override {
    return whole([&] { return inner_.readdirplus(c, n, h, offset, sink); });
  }
  Result<fuse::Statfs> statfs(const fuse::Caller& c, fuse::NodeId n) override { return inner_.statfs(c, n); }
  Result<std::string> getxattr(const fuse::Caller& c, fuse::NodeId n, std::string_view name) override {
    return whole([&] { return inner_.getxattr(c, n, name); });
  }
  Result<std::string> listxattr(const fuse::Caller& c, fuse::NodeId n) override {
    return whole([&] { return inner_.listxattr(c, n); });
  }

 private:
  template <class Answer>
  std::invoke_result_t<Answer> whole(Answer&& answer) {
    const auto mark = guard_.mark();
    auto made = answer();
    if (guard_.whole_since(mark)) return made;
    report();
    return fail(EIO);
  }
  void report();

  fuse::Filesystem& inner_;
  sys::FaultGuard& guard_;
  std::atomic<int> reports_{0};
};

}  // namespace vellum::composefs
