// The operations: each finds out whose it is, lets that engine do it, and shows the answer in the mount's numbers.
#include <unistd.h>

#include "views/numbers.h"
#include "views/views.h"

namespace vellum::views {

using fuse::Caller;
using fuse::HandleId;
using fuse::NodeId;

namespace {

// The names of a face are asked for again each time: handing out their nodes with the listing would be for nothing.
class NamesOnly final : public fuse::DirSink {
 public:
  explicit NamesOnly(fuse::DirPlusSink& sink) : sink_(sink) {}
  bool add(std::string_view name, std::uint64_t ino, std::uint32_t type, std::uint64_t next) override {
    fuse::Entry entry;
    entry.attr.ino = ino;
    entry.attr.mode = type << 12;
    return sink_.fits(name.size()) && sink_.add(name, entry, next);
  }

 private:
  fuse::DirPlusSink& sink_;
};

class InOuterNumbers final : public fuse::DirPlusSink {
 public:
  InOuterNumbers(fuse::DirPlusSink& sink, View& view) : sink_(sink), view_(view) {}
  bool fits(std::size_t name_length) const override { return sink_.fits(name_length); }
  bool add(std::string_view name, const fuse::Entry& entry, std::uint64_t next) override {
    if (entry.node == NodeId::kNone) return sink_.add(name, entry, next);
    fuse::Entry shown = entry;
    shown.node = outer(view_.index, entry.node);
    shown.generation = view_.serial;
    if (!sink_.add(name, shown, next)) return false;
    view_.known.fetch_add(1, std::memory_order_relaxed);
    return true;
  }

 private:
  fuse::DirPlusSink& sink_;
  View& view_;
};

class AnyName final : public fuse::DirSink {
 public:
  bool any = false;
  bool add(std::string_view name, std::uint64_t, std::uint32_t, std::uint64_t) override {
    any = name != "." && name != "..";
    return !any;
  }
};

}  // namespace

Result<fuse::AttrReply> Views::getattr(const Caller& caller, NodeId node, std::optional<HandleId> handle) {
  const Where at = TRY(where(caller, node, handle));
  if (handle) handle = inner(*handle);
  return answer(at, TRY(at->getattr(caller, at.node, handle)));
}

Result<fuse::AttrReply> Views::statx(const Caller& caller, NodeId node, std::optional<HandleId> handle) {
  const Where at = TRY(where(caller, node, handle));
  if (handle) handle = inner(*handle);
  return answer(at, TRY(at->statx(caller, at.node, handle)));
}

Result<fuse::AttrReply> Views::setattr(const Caller& caller, NodeId node, const fuse::SetAttr& change) {
  const Where at = TRY(where(caller, node, change.handle));
  fuse::SetAttr own = change;
  if (own.handle) own.handle = inner(*own.handle);
  const fuse::AttrReply reply = TRY(at->setattr(caller, at.node, own));
  changed(at);
  return show(at, reply);
}

Result<std::string> Views::readlink(const Caller& caller, NodeId node) {
  const Where at = TRY(where(caller, node));
  return at->readlink(caller, at.node);
}

// --- Names

Result<fuse::Entry> Views::symlink(const Caller& caller, NodeId parent, std::string_view name,
                                   std::string_view target) {
  const Where at = TRY(where(caller, parent, W_OK | X_OK));
  const fuse::Entry entry = TRY(at->symlink(caller, at.node, name, target));
  changed(at, name);
  return show(at, parent, name, entry);
}

Result<fuse::Entry> Views::mknod(const Caller& caller, NodeId parent, std::string_view name, std::uint32_t mode,
                                 dev_t rdev, std::uint32_t umask) {
  const Where at = TRY(where(caller, parent, W_OK | X_OK));
  const fuse::Entry entry = TRY(at->mknod(caller, at.node, name, mode, rdev, umask));
  changed(at, name);
  return show(at, parent, name, entry);
}

Result<fuse::Entry> Views::mkdir(const Caller& caller, NodeId parent, std::string_view name, std::uint32_t mode,
                                 std::uint32_t umask) {
  const Where at = TRY(where(caller, parent, W_OK | X_OK));
  const fuse::Entry entry = TRY(at->mkdir(caller, at.node, name, mode, umask));
  if (at.face) let_go(parent, name, at.view->index);
  changed(at, name);
  return show(at, parent, name, entry);
}

// The kernel may have forgotten the directory that had the name before, and another worker be about to hear of it: then
// the new one can be a face, too.
void Views::let_go(NodeId parent, std::string_view name, ViewIndex view) const {
  constexpr int kTries = 20;
  constexpr std::chrono::microseconds kStep{50};
  for (int tries = 0; tries < kTries && faces_.has_face(parent, name, view); ++tries) {
    std::this_thread::sleep_for(kStep);
  }
}

Status Views::unlink(const Caller& caller, NodeId parent, std::string_view name) {
  const Where at = TRY(where(caller, parent, W_OK | X_OK));
  TRY(at->unlink(caller, at.node, name));
  changed(at, name);
  return {};
}

bool Views::is_empty(const Caller& caller, const ViewRef& view, NodeId dir) {
  const auto opened = view->engine->opendir(caller, dir, O_RDONLY);
  if (!opened) return true;
  AnyName names;
  const Status read = view->engine->readdir(caller, dir, opened->handle, 0, names);
  view->engine->releasedir(dir, opened->handle);
  return !read || !names.any;
}

// Whether the name is a face at present and has to become the view's own node first (faces.h).
Result<bool> Views::must_part(const Caller& caller, const Where& parent, NodeId outer_parent, std::string_view name) {
  if (!parent.face || !faces_.shows_face(outer_parent, name, parent.view->index)) return false;
  const fuse::Entry entry = TRY(parent->lookup(caller, parent.node, name));
  if (entry.node == NodeId::kNone) return false;
  parent->forget(entry.node, 1);
  return S_ISDIR(entry.attr.mode);
}

Status Views::rmdir(const Caller& caller, NodeId parent, std::string_view name) {
  const Where at = TRY(where(caller, parent, W_OK | X_OK));
  if (TRY(must_part(caller, at, parent, name))) {
    // A directory that will not go anyway need not part.
    const fuse::Entry entry = TRY(at->lookup(caller, at.node, name));
    const bool empty = entry.node == NodeId::kNone || is_empty(caller, at.view, entry.node);
    if (entry.node != NodeId::kNone) at->forget(entry.node, 1);
    if (!empty) return fail(ENOTEMPTY);
    faces_.set_apart(parent, name, at.view->index);
    return fail(ESTALE);
  }
  TRY(at->rmdir(caller, at.node, name));
  if (at.face) faces_.vacate(parent, name, at.view->index);
  changed(at, name);
  return {};
}

Status Views::rename(const Caller& caller, NodeId parent, std::string_view name, NodeId new_parent,
                     std::string_view new_name, fuse::RenameFlags flags) {
  const Where from = TRY(where(caller, parent, W_OK | X_OK));
  const Where to = TRY(where(caller, new_parent, W_OK | X_OK));
  if (from.view != to.view) return fail(EXDEV);
  // The second of them may be no face, and the thread act as the daemon again.
  if (layer_judges(from) || layer_judges(to)) TRY(act_as_caller(caller));
  const ViewIndex view = from.view->index;
  const bool source_parts = TRY(must_part(caller, from, parent, name));
  const bool target_parts = TRY(must_part(caller, to, new_parent, new_name));
  if (source_parts) faces_.set_apart(parent, name, view);
  if (target_parts) faces_.set_apart(new_parent, new_name, view);
  if (source_parts || target_parts) return fail(ESTALE);
  TRY(from->rename(caller, from.node, name, to.node, new_name, flags));
  // A directory that moved keeps the node by which the kernel knows it.
  const auto settle = [&](const Where& in, NodeId dir, std::string_view at) {
    if (!in.face) return;
    const auto entry = in->lookup(caller, in.node, at);
    const bool is_dir = entry && entry->node != NodeId::kNone && S_ISDIR(entry->attr.mode);
    if (entry && entry->node != NodeId::kNone) {
      in->forget(entry->node, 1);
      faces_.moved(outer(view, entry->node), dir, at);
    }
    faces_.vacate(dir, at, view);
    if (is_dir) faces_.set_apart(dir, at, view);
    changed(in, at);
  };
  settle(from, parent, name);
  settle(to, new_parent, new_name);
  return {};
}

Result<fuse::Entry> Views::link(const Caller& caller, NodeId node, NodeId new_parent, std::string_view new_name) {
  const Where from = TRY(where(caller, node));
  const Where to = TRY(where(caller, new_parent, W_OK | X_OK));
  if (from.view != to.view) return fail(EXDEV);
  const fuse::Entry entry = TRY(to->link(caller, from.node, to.node, new_name));
  changed(to, new_name);
  return show(to, new_parent, new_name, entry);
}

// --- Files

Result<fuse::OpenReply> Views::open(const Caller& caller, NodeId node, int flags, bool kill) {
  const Where at = TRY(where(caller, node));
  return show(at, TRY(at->open(caller, at.node, flags, kill)));
}

Result<fuse::Created> Views::create(const Caller& caller, NodeId parent, std::string_view name, int flags,
                                    std::uint32_t mode, std::uint32_t umask) {
  const Where at = TRY(where(caller, parent, W_OK | X_OK));
  fuse::Created created = TRY(at->create(caller, at.node, name, flags, mode, umask));
  changed(at, name);
  created.entry = show(at, parent, name, created.entry);
  created.open = show({.view = at.view, .node = {}, .face = false}, created.open);
  return created;
}

Result<fuse::Created> Views::tmpfile(const Caller& caller, NodeId parent, int flags, std::uint32_t mode,
                                     std::uint32_t umask) {
  const Where at = TRY(where(caller, parent, W_OK | X_OK));
  fuse::Created created = TRY(at->tmpfile(caller, at.node, flags, mode, umask));
  created.entry = show_own(at.view, created.entry);
  created.open = show({.view = at.view, .node = {}, .face = false}, created.open);
  return created;
}

Result<std::size_t> Views::read(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                                std::span<std::byte> out) {
  const Where at = TRY(where(node, handle));
  return at->read(caller, at.node, inner(handle), offset, out);
}

Result<std::size_t> Views::write(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                                 std::span<const std::byte> bytes, bool kill) {
  const Where at = TRY(where(node, handle));
  return at->write(caller, at.node, inner(handle), offset, bytes, kill);
}

Result<std::size_t> Views::move_out(NodeId node, HandleId handle, std::uint64_t offset, fuse::FileMover& mover) {
  const Where at = TRY(where(node, handle));
  return at->move_out(at.node, inner(handle), offset, mover);
}

Result<std::size_t> Views::move_in(NodeId node, HandleId handle, std::uint64_t offset, fuse::FileMover& mover) {
  const Where at = TRY(where(node, handle));
  return at->move_in(at.node, inner(handle), offset, mover);
}

Status Views::flush(const Caller& caller, NodeId node, HandleId handle) {
  const Where at = TRY(where(node, handle));
  return at->flush(caller, at.node, inner(handle));
}

void Views::release(NodeId node, HandleId handle) {
  const auto at = where(node, handle);
  if (!at) return;
  (*at)->release(at->node, inner(handle));
  at->view->handles.fetch_sub(1, std::memory_order_relaxed);
}

Status Views::fsync(const Caller& caller, NodeId node, HandleId handle, bool data_only) {
  const Where at = TRY(where(node, handle));
  return at->fsync(caller, at.node, inner(handle), data_only);
}

Status Views::fallocate(const Caller& caller, NodeId node, HandleId handle, int mode, std::uint64_t offset,
                        std::uint64_t length) {
  const Where at = TRY(where(node, handle));
  return at->fallocate(caller, at.node, inner(handle), mode, offset, length);
}

Result<std::uint64_t> Views::lseek(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                                   int whence) {
  const Where at = TRY(where(node, handle));
  return at->lseek(caller, at.node, inner(handle), offset, whence);
}

Result<std::size_t> Views::copy_file_range(const Caller& caller, NodeId in, HandleId in_handle, std::uint64_t in_offset,
                                           NodeId out, HandleId out_handle, std::uint64_t out_offset,
                                           std::size_t length) {
  const Where from = TRY(where(in, in_handle));
  const Where to = TRY(where(out, out_handle));
  if (from.view != to.view) return fail(EXDEV);  // the kernel copies through its cache instead
  return to->copy_file_range(caller, from.node, inner(in_handle), in_offset, to.node, inner(out_handle), out_offset,
                             length);
}

Result<fuse::IoctlReply> Views::ioctl(const Caller& caller, NodeId node, HandleId handle,
                                      const fuse::IoctlRequest& request) {
  const Where at = TRY(where(caller, node, std::optional(handle)));
  return at->ioctl(caller, at.node, inner(handle), request);
}

// --- Directories

Result<fuse::OpenReply> Views::opendir(const Caller& caller, NodeId node, int flags) {
  const Where at = TRY(where(caller, node, R_OK));
  return show(at, TRY(at->opendir(caller, at.node, flags)));
}

Status Views::readdir(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset, fuse::DirSink& sink) {
  const Where at = TRY(where(node, handle));
  return at->readdir(caller, at.node, inner(handle), offset, sink);
}

Status Views::readdirplus(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                          fuse::DirPlusSink& sink) {
  const Where at = TRY(where(node, handle));
  if (at.face) {
    NamesOnly names(sink);
    return at->readdir(caller, at.node, inner(handle), offset, names);
  }
  InOuterNumbers entries(sink, *at.view);
  return at->readdirplus(caller, at.node, inner(handle), offset, entries);
}

void Views::releasedir(NodeId node, HandleId handle) {
  const ViewRef view = table_.at(view_of(handle));
  if (!view || !sys::act_as(view->identity)) return;
  view->engine->releasedir(is_face(node) ? NodeId::kRoot : inner(node), inner(handle));
  view->handles.fetch_sub(1, std::memory_order_relaxed);
}

Status Views::fsyncdir(const Caller& caller, NodeId node, HandleId handle, bool data_only) {
  const Where at = TRY(where(node, handle));
  return at->fsyncdir(caller, at.node, inner(handle), data_only);
}

Result<fuse::Statfs> Views::statfs(const Caller& caller, NodeId node) {
  const Where at = TRY(where(caller, node));
  return at->statfs(caller, at.node);
}

Status Views::syncfs(const Caller& caller, NodeId) {
  // The whole mount is meant: each view whose data may be under way.
  Status status;
  for (const ViewRef& view : table_.all()) {
    if (!sys::act_as(view->identity)) continue;
    if (const Status synced = view->engine->syncfs(caller, NodeId::kRoot); !synced) status = synced;
  }
  return status;
}

Status Views::access(const Caller& caller, NodeId node, int mask) {
  const Where at = TRY(where(caller, node));
  return at->access(caller, at.node, mask);
}

// --- Attributes

Status Views::setxattr(const Caller& caller, NodeId node, std::string_view name, std::span<const std::byte> value,
                       fuse::XattrFlags flags) {
  const Where at = TRY(where(caller, node));
  TRY(at->setxattr(caller, at.node, name, value, flags));
  changed(at);
  return {};
}

Result<std::string> Views::getxattr(const Caller& caller, NodeId node, std::string_view name) {
  if (node == NodeId::kRoot && name.starts_with(kListXattr)) return list(caller, name.substr(kListXattr.size()));
  if (node == NodeId::kRoot && name == kStatsXattr && stats_text_) return stats_text_();
  const Where at = TRY(where(caller, node));
  // Judged here instead (Views::told).
  const bool list = name == "system.posix_acl_access";
  if (list && at.face && faces_.contested(std::chrono::steady_clock::now())) return fail(ENODATA);
  return at->getxattr(caller, at.node, name);
}

Result<std::string> Views::listxattr(const Caller& caller, NodeId node) {
  const Where at = TRY(where(caller, node));
  return at->listxattr(caller, at.node);
}

Status Views::removexattr(const Caller& caller, NodeId node, std::string_view name) {
  const Where at = TRY(where(caller, node));
  TRY(at->removexattr(caller, at.node, name));
  changed(at);
  return {};
}

}  // namespace vellum::views
