// Which view a request is for, what its answer looks like from outside, and the life of views.
#include "views/views.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "views/numbers.h"

namespace vellum::views {

using fuse::HandleId;
using fuse::NodeId;

// What an engine tells the kernel, in the numbers that the kernel knows.
class Views::ViewNotifier final : public fuse::Notifier {
 public:
  ViewNotifier(Views& views, ViewIndex view) : views_(views), view_(view) {}

  Status inval_attr(NodeId node) override {
    // The kernel keeps no attributes of faces.
    if (node == NodeId::kRoot) return {};
    return kernel().inval_attr(outer(view_, node));
  }
  Status inval_data(NodeId node, std::int64_t offset, std::int64_t length) override {
    return kernel().inval_data(outer(view_, node), offset, length);
  }
  Status inval_entry(NodeId parent, std::string_view name) override {
    return kernel().inval_entry(shown(parent), name);
  }
  Status delete_entry(NodeId parent, NodeId child, std::string_view name) override {
    return kernel().delete_entry(shown(parent), shown(child), name);
  }
  Status store_data(NodeId node, std::uint64_t offset, std::span<const std::byte> bytes) override {
    return kernel().store_data(outer(view_, node), offset, bytes);
  }
  Result<std::int32_t> open_backing(int fd) override { return kernel().open_backing(fd); }
  Status close_backing(std::int32_t id) override { return kernel().close_backing(id); }

 private:
  fuse::Notifier& kernel() const { return *views_.notifier_; }
  NodeId shown(NodeId node) const { return views_.faces_.face_of(view_, node).value_or(outer(view_, node)); }

  Views& views_;
  const ViewIndex view_;
};

Views::Views(Settings settings, sys::UniqueFd original)
    : settings_(std::move(settings)),
      original_(std::move(original)),
      table_({.mountpoint = settings_.mountpoint,
              .original = fmt::format("/proc/self/fd/{}", original_.raw()),
              .engine = settings_.engine},
             [this](ViewIndex view) { return std::make_unique<ViewNotifier>(*this, view); }),
      resolver_(settings_.resolver, table_),
      faces_(settings_.shared_depth) {}

Views::~Views() = default;

std::expected<std::unique_ptr<Views>, std::string> Views::create(Settings settings, sys::UniqueFd original) {
  std::unique_ptr<Views> views(new Views(std::move(settings), std::move(original)));
  if (auto opened = views->table_.open_original(); !opened) return std::unexpected(opened.error());
  return views;
}

Status Views::init(fuse::Connection& connection) {
  notifier_ = connection.notifier;
  const ViewRef& original = table_.original();
  fuse::Connection inner = connection;
  inner.notifier = original->notifier.get();
  // What one engine can do without would be gone for all of them.
  inner.no_open = inner.no_opendir = false;
  TRY(original->engine->init(inner));
  inner.notifier = connection.notifier;
  connection = inner;
  table_.agreed(connection);
  watcher_ = std::thread([this] { watch(); });
  return {};
}

void Views::destroy() {
  {
    const std::lock_guard lock(watch_mutex_);
    stopping_ = true;
  }
  watch_wake_.notify_all();
  if (watcher_.joinable()) watcher_.join();
  table_.destroy_all();
}

// --- Which view

Result<NodeId> Views::bound(const ViewRef& view, NodeId face) {
  if (const auto known = faces_.bound(face, view->index)) return *known;
  // Reached by a working directory or an open directory of another view: this one's is at the same path.
  const Faces::Place place = TRY(faces_.place(face));
  const NodeId parent = TRY(bound(view, place.parent));
  const fuse::Entry entry = TRY(view->engine->lookup({}, parent, place.name));
  if (entry.node == NodeId::kNone) return fail(ENOENT);
  if (!S_ISDIR(entry.attr.mode)) {
    view->engine->forget(entry.node, 1);
    return fail(ENOTDIR);
  }
  Faces::Released released;
  faces_.bind(face, view->index, entry.node, released);
  release_all(released);
  return entry.node;
}

Result<Views::Where> Views::where(const fuse::Caller& caller, NodeId node) {
  Where at;
  at.face = is_face(node);
  at.view = at.face ? TRY(resolver_.view_of(caller)) : table_.at(view_of(node));
  if (!at.view) return fail(ESTALE);
  TRY(sys::act_as(at.view->identity));
  // The kernel has one inode for a face, and may just have judged by what another view's says. In the covered directory
  // nobody but its layer's file system would notice.
  if (at.face && at.view->index == kOriginal && self_ == 0 && caller.uid != 0) TRY(act_as_caller(caller));
  at.node = at.face ? TRY(bound(at.view, node)) : inner(node);
  return at;
}

Status Views::act_as_caller(const fuse::Caller& caller) {
  const auto ids = sys::process_ids(static_cast<pid_t>(caller.pid));
  std::vector<gid_t> groups;
  if (caller.pid != 0 && ids) groups = ids->groups;  // without a process to ask, none
  return sys::act_as(std::make_shared<const sys::Identity>(
      sys::Identity{.uid = caller.uid, .gid = caller.gid, .groups = std::move(groups)}));
}

Result<Views::Where> Views::where(NodeId node, HandleId handle) {
  Where at;
  at.face = is_face(node);
  at.view = table_.at(view_of(handle));
  if (!at.view) return fail(EBADF);
  TRY(sys::act_as(at.view->identity));
  if (at.face) {
    at.node = TRY(bound(at.view, node));
  } else {
    at.node = inner(node);
  }
  return at;
}

Result<Views::Where> Views::where(const fuse::Caller& caller, NodeId node, std::optional<HandleId> handle) {
  return handle ? where(node, *handle) : where(caller, node);
}

// --- Answers

void Views::release_all(const Faces::Released& released) {
  for (const auto& [index, node] : released) {
    if (const ViewRef view = table_.at(index)) view->engine->forget(node, 1);
  }
}

fuse::Entry Views::show_own(const ViewRef& view, fuse::Entry entry) {
  if (entry.node == NodeId::kNone) return entry;
  view->known.fetch_add(1, std::memory_order_relaxed);
  entry.node = outer(view->index, entry.node);
  return entry;
}

fuse::Entry Views::show(const Where& parent, NodeId outer_parent, std::string_view name, fuse::Entry entry) {
  if (!parent.face) return show_own(parent.view, entry);
  entry.entry_valid = {};
  if (entry.node == NodeId::kNone) return entry;
  if (S_ISDIR(entry.attr.mode)) {
    Faces::Released released;
    const auto face = faces_.show(outer_parent, name, parent.view->index, entry.node, released);
    release_all(released);
    if (face) {
      entry.node = *face;
      entry.attr_valid = {};
      return entry;
    }
  }
  faces_.shown(outer_parent, name, parent.view->index);
  return show_own(parent.view, entry);
}

fuse::AttrReply Views::show(const Where& at, fuse::AttrReply reply) {
  if (at.face) reply.valid = {};
  return reply;
}

fuse::OpenReply Views::show(const Where& at, fuse::OpenReply reply) {
  at.view->handles.fetch_add(1, std::memory_order_relaxed);
  reply.handle = outer(at.view->index, reply.handle);
  if (at.face) {
    reply.cache_dir = false;
    reply.keep_cache = false;
  }
  // Those who were in the directory before it was covered may have written to the file since.
  if (at.view->index == kOriginal) reply.keep_cache = false;
  return reply;
}

Result<fuse::Entry> Views::lookup(const fuse::Caller& caller, NodeId parent, std::string_view name) {
  const Where at = TRY(where(caller, parent));
  return show(at, parent, name, TRY(at->lookup(caller, at.node, name)));
}

void Views::forget(NodeId node, std::uint64_t count) {
  if (is_face(node)) {
    Faces::Released released;
    faces_.forget(node, count, released);
    release_all(released);
    return;
  }
  const ViewRef view = table_.at(view_of(node));
  if (!view) return;
  view->engine->forget(inner(node), count);
  view->known.fetch_sub(static_cast<std::int64_t>(count), std::memory_order_relaxed);
}

// --- Views come and go

Result<std::string> Views::list(const fuse::Caller& caller, std::string_view from) {
  unsigned first = 0;
  std::from_chars(from.data(), from.data() + from.size(), first);
  const std::uint32_t self = sys::privileges().euid;
  const auto processes = resolver_.processes();
  std::string text;
  constexpr std::size_t kMost = 60000;  // an attribute holds 64 KiB
  for (const ViewRef& view : table_.all()) {
    if (view->index < first) continue;
    if (caller.uid != 0 && caller.uid != self && view->uid != caller.uid) continue;
    const overlay::OverlayStats stats = view->engine->stats();
    nlohmann::ordered_json json = {{"view", view->index},
                                   {"uid", view->uid},
                                   {"upper", view->markers.upper},
                                   {"lowers", view->markers.lowers},
                                   {"work", view->markers.work},
                                   {"processes", nlohmann::json::array()},
                                   {"nodes", stats.nodes},
                                   {"open_handles", view->handles.load()},
                                   {"cached_lookups", view->known.load()},
                                   {"copy_ups", stats.copy_ups},
                                   {"copied_bytes", stats.copied_bytes},
                                   {"whiteouts", stats.whiteouts},
                                   {"bytes_read", stats.bytes_read},
                                   {"bytes_written", stats.bytes_written}};
    if (const auto found = processes.find(view->index); found != processes.end()) json["processes"] = found->second;
    const std::string line = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (text.size() + line.size() > kMost) {
      text += fmt::format("{{\"next\":{}}}\n", view->index);
      break;
    }
    text += line;
  }
  return text;
}

void Views::watch() {
  constexpr auto kTick = std::chrono::milliseconds(500);
  std::unique_lock lock(watch_mutex_);
  while (!watch_wake_.wait_for(lock, std::min<std::chrono::milliseconds>(kTick, settings_.idle),
                               [this] { return stopping_; })) {
    lock.unlock();
    resolver_.sweep();
    const auto now = std::chrono::steady_clock::now();
    const auto busy = resolver_.processes();
    const std::vector<ViewRef> views = table_.all();
    for (const ViewRef& view : views) {
      if (view->index == kOriginal) continue;
      if (busy.contains(view->index) || view->handles.load() != 0) {
        view->idle_since = {};
      } else if (view->idle_since == std::chrono::steady_clock::time_point{}) {
        view->idle_since = now;
      } else if (now - view->idle_since >= settings_.idle) {
        // What the kernel still caches of it goes first; the FORGETs that follow let it be dropped on a later round.
        for (const Faces::Place& place : faces_.shown_by(view->index)) {
          ignore(notifier_->inval_entry(place.parent, place.name));
        }
        table_.drop_idle(view, [&] { faces_.drop(view->index); });
      }
    }
    lock.lock();
  }
}

}  // namespace vellum::views
