// Many overlays behind one mount: which one answers depends on who asks.
//
// A request that names a face (faces.h: the root and the directories of the first levels) is answered by the view of
// the process that made it; any other node, and every open file, belongs to the view that handed it out. Numbers are
// told apart as numbers.h says. Each request runs with the rights of its view: the engine of a user's view acts as that
// user, not as the daemon.
// Threads: as fuse::Filesystem; one thread of its own lets go of processes that ended and of views nobody uses, one
// tells the kernel what changed (notices.h).
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "fuse/filesystem.h"
#include "overlay/overlay.h"
#include "sys/caller_creds.h"
#include "sys/capabilities.h"
#include "sys/fd.h"
#include "views/faces.h"
#include "views/notices.h"
#include "views/resolver.h"
#include "views/view.h"

namespace vellum::views {

// Read on the root: a JSON object for each view from number N on, one a line, as far as an attribute reaches. Root and
// the daemon's user see all views, others their own.
constexpr std::string_view kListXattr = "system.vellum.views.";
constexpr std::string_view kStatsXattr = "system.vellum.stats";

class Views final : public fuse::Filesystem {
 public:
  struct Settings {
    std::string mountpoint;  // absolute
    Resolver::Settings resolver;
    overlay::Options engine;  // what all views have in common
    unsigned shared_depth = 1;
    std::chrono::milliseconds idle{5000};  // a view nobody uses stays this long
  };
  // `original`: the directory that the mount will cover, opened before.
  static std::expected<std::unique_ptr<Views>, std::string> create(Settings settings, sys::UniqueFd original);
  ~Views() override;

  void set_workers(unsigned workers) { table_.set_workers(workers); }
  // Before serving: the device number of the mount.
  void mounted_as(dev_t device) { table_.mounted_as(device); }
  void set_stats_text(std::function<std::string()> text) { stats_text_ = std::move(text); }
  const overlay::Overlay& original() const { return *table_.original()->engine; }

  Status init(fuse::Connection&) override;
  void destroy() override;
  Result<fuse::Entry> lookup(const fuse::Caller&, fuse::NodeId parent, std::string_view name) override;
  void forget(fuse::NodeId, std::uint64_t count) override;
  Result<fuse::AttrReply> getattr(const fuse::Caller&, fuse::NodeId, std::optional<fuse::HandleId>) override;
  Result<fuse::AttrReply> statx(const fuse::Caller&, fuse::NodeId, std::optional<fuse::HandleId>) override;
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
  Status flush(const fuse::Caller&, fuse::NodeId, fuse::HandleId) override;
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
  Status access(const fuse::Caller&, fuse::NodeId, int mask) override;
  Status setxattr(const fuse::Caller&, fuse::NodeId, std::string_view name, std::span<const std::byte>,
                  fuse::XattrFlags) override;
  Result<std::string> getxattr(const fuse::Caller&, fuse::NodeId, std::string_view name) override;
  Result<std::string> listxattr(const fuse::Caller&, fuse::NodeId) override;
  Status removexattr(const fuse::Caller&, fuse::NodeId, std::string_view name) override;
  Result<fuse::IoctlReply> ioctl(const fuse::Caller&, fuse::NodeId, fuse::HandleId, const fuse::IoctlRequest&) override;

 private:
  class ViewNotifier;
  // Whose answer a request gets, and for which node. While it lives the view does, and this thread acts for it.
  struct Where {
    ViewRef view;
    fuse::NodeId node;
    bool face = false;
    fuse::NodeId asked = fuse::NodeId::kNone;  // the node as the kernel names it
    std::uint32_t uid = 0;                     // of the caller
    overlay::Overlay* operator->() const { return view->engine.get(); }
  };
  Views(Settings settings, sys::UniqueFd original);

  Result<Where> where(const fuse::Caller& caller, fuse::NodeId node);
  Result<Where> where(fuse::NodeId node, fuse::HandleId handle);
  Result<Where> where(const fuse::Caller& caller, fuse::NodeId node, std::optional<fuse::HandleId> handle);
  // The same for what takes rights to a directory (R_OK, W_OK, X_OK), which the kernel may have misjudged at a face.
  Result<Where> where(const fuse::Caller& caller, fuse::NodeId directory, int rights);
  Result<fuse::NodeId> bound(const ViewRef& view, fuse::NodeId face);
  // Whether the file system of the covered directory judges what this caller does at a face.
  bool layer_judges(const Where& at) const {
    return at.face && at.view->index == kOriginal && self_ == 0 && at.uid != 0;
  }
  Result<sys::Identity> identity_of(const fuse::Caller& caller) const;
  Status act_as_caller(const fuse::Caller& caller) const;
  Result<std::string> path_of(fuse::NodeId face) const;
  Result<sys::UniqueFd> walk_to(fuse::NodeId face) const;
  Status judge(const fuse::Caller& caller, const Where& at, int rights) const;
  fuse::Attr told(fuse::NodeId face, fuse::Attr attr, std::uint32_t caller);
  Result<fuse::AttrReply> answer(const Where& at, fuse::AttrReply reply);
  // The engine's answer as the kernel gets it.
  fuse::Entry show(const Where& parent, fuse::NodeId outer_parent, std::string_view name, fuse::Entry entry);
  fuse::Entry show_own(const ViewRef& view, fuse::Entry entry);
  fuse::AttrReply show(const Where& at, fuse::AttrReply reply);
  fuse::OpenReply show(const Where& at, fuse::OpenReply reply);
  void let_go(fuse::NodeId parent, std::string_view name, ViewIndex view) const;
  void changed(const Where& at, std::string_view name = {});
  void release_all(const Faces::Released& released);
  Result<bool> must_part(const fuse::Caller& caller, const Where& parent, fuse::NodeId outer_parent,
                         std::string_view name);
  bool is_empty(const fuse::Caller& caller, const ViewRef& view, fuse::NodeId dir);
  Result<std::string> list(const fuse::Caller& caller, std::string_view from);
  void watch();

  const Settings settings_;
  const std::uint32_t self_ = sys::privileges().euid;
  const sys::UniqueFd original_;
  ViewTable table_;
  Resolver resolver_;
  Faces faces_;
  Notices notices_;
  fuse::Notifier* notifier_ = nullptr;
  std::function<std::string()> stats_text_;

  std::mutex watch_mutex_;
  std::condition_variable watch_wake_;
  bool stopping_ = false;
  std::thread watcher_;
};

}  // namespace vellum::views
