// Which view a request is for, what its answer looks like from outside, and the life of views.
#include "views/views.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "views/numbers.h"

namespace vellum::views {

using fuse::HandleId;
using fuse::NodeId;

namespace {

constexpr std::chrono::milliseconds kUntilToldHasArrived{10};

}  // namespace

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
  inner.no_open = inner.no_opendir = inner.no_fsync = false;
  TRY(original->engine->init(inner));
  inner.notifier = connection.notifier;
  connection = inner;
  table_.agreed(connection);
  notices_.start(*notifier_);
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
  notices_.stop();
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
  const ReadLock numbers(table_.numbers());
  Faces::Released released;
  const Result<NodeId> node = faces_.bind(face, view->index, entry.node, released);
  release_all(released);
  return node;
}

Result<Views::Where> Views::where(const fuse::Caller& caller, NodeId node) {
  Where at{.view = nullptr, .node = {}, .face = is_face(node), .asked = node, .uid = caller.uid};
  at.view = at.face ? TRY(resolver_.view_of(caller)) : table_.at(view_of(node));
  if (!at.view) return fail(ESTALE);
  TRY(sys::act_as(at.view->identity));
  if (layer_judges(at)) {
    TRY(act_as_caller(caller));
    // A working directory may come from another view, where the caller needed no right to what is above it here.
    if (node != NodeId::kRoot) TRY(walk_to(node));
  }
  at.node = at.face ? TRY(bound(at.view, node)) : inner(node);
  return at;
}

// Where the covered directory's own of a face is now: it may have been renamed since it was entered.
Result<std::string> Views::path_of(NodeId face) const {
  if (face == NodeId::kRoot) return std::string();
  if (const auto known = faces_.bound(face, kOriginal)) return table_.original()->engine->path_of(*known);
  const Faces::Place place = TRY(faces_.place(face));
  const std::string above = TRY(path_of(place.parent));
  return above.empty() ? place.name : above + "/" + place.name;
}

// The covered directory's own, by its path, as the thread acts now.
Result<sys::UniqueFd> Views::walk_to(NodeId face) const {
  const std::string path = TRY(path_of(face));
  return table_.with_room([&] {
    return path.empty() ? sys::reopen(original_, O_PATH | O_DIRECTORY)
                        : sys::open_beneath(original_, path, O_PATH | O_DIRECTORY);
  });
}

Result<Views::Where> Views::where(const fuse::Caller& caller, NodeId directory, int rights) {
  Where at = TRY(where(caller, directory));
  if (at.face && caller.uid != 0) TRY(judge(caller, at, rights));
  return at;
}

Result<sys::Identity> Views::identity_of(const fuse::Caller& caller) const {
  sys::Identity who{.uid = caller.uid, .gid = caller.gid, .groups = {}};  // without a process to ask, no groups
  if (caller.pid == 0) return who;
  auto ids = table_.with_room([&] { return sys::process_ids(static_cast<pid_t>(caller.pid)); });
  if (!ids && !out_of_sight(ids.error())) return fail(ids.error());
  if (ids) who.groups = std::move(ids->groups);
  return who;
}

namespace {

bool mode_allows(const fuse::Attr& attr, const sys::Identity& who, int rights) {
  const bool group = attr.gid == who.gid || std::ranges::find(who.groups, attr.gid) != who.groups.end();
  const unsigned shift = attr.uid == who.uid ? 6 : group ? 3 : 0;
  return (static_cast<unsigned>(rights) & ~(attr.mode >> shift)) == 0;
}

}  // namespace

// Where the kernel may have judged a face by what another view's says. An engine lists a directory that it has open,
// brings one into upper to write to it, and knows names in it already: nothing of that would be refused by a layer.
Status Views::judge(const fuse::Caller& caller, const Where& at, int rights) const {
  if (layer_judges(at)) {
    return sys::check_access(TRY(walk_to(at.asked)), rights);
  }
  const bool others = at.view->index == kOriginal && caller.uid != self_;
  if (!others && !faces_.contested(std::chrono::steady_clock::now())) return {};
  const fuse::AttrReply reply = TRY(at->getattr(caller, at.node, {}));
  const sys::Identity who = at.view->identity ? *at.view->identity : TRY(identity_of(caller));
  const bool allowed = mode_allows(reply.attr, who, rights);
  return allowed ? Status{} : fail(EACCES);
}

Status Views::act_as_caller(const fuse::Caller& caller) const {
  return sys::act_as(std::make_shared<const sys::Identity>(TRY(identity_of(caller))));
}

Result<Views::Where> Views::where(NodeId node, HandleId handle) {
  Where at{.view = table_.at(view_of(handle)), .node = {}, .face = is_face(node), .asked = node};
  if (!at.view) return fail(EBADF);
  TRY(sys::act_as(at.view->identity));
  at.node = at.face ? TRY(bound(at.view, node)) : inner(node);
  return at;
}

Result<Views::Where> Views::where(const fuse::Caller& caller, NodeId node, std::optional<HandleId> handle) {
  if (!handle) return where(caller, node);
  Where at = TRY(where(node, *handle));
  at.uid = caller.uid;
  if (layer_judges(at)) TRY(act_as_caller(caller));
  return at;
}

// --- Answers

void Views::release_all(const Faces::Released& released) {
  for (const auto& [index, node] : released) {
    if (const ViewRef view = table_.at(index)) view->engine->forget(node, 1);
  }
}

// After a change of a directory: where the kernel knows it by a node of the view's own as well, it caches what that
// says.
void Views::changed(const Where& at, std::string_view name) {
  if (at.face && faces_.is_double(at.asked, at.view->index)) notices_.tell(outer(at.view->index, at.node), name);
}

fuse::Entry Views::show_own(const ViewRef& view, fuse::Entry entry) {
  if (entry.node == NodeId::kNone) return entry;
  view->known.fetch_add(1, std::memory_order_relaxed);
  entry.node = outer(view->index, entry.node);
  entry.generation = view->serial;
  return entry;
}

fuse::Entry Views::show(const Where& parent, NodeId outer_parent, std::string_view name, fuse::Entry entry) {
  if (!parent.face) return show_own(parent.view, entry);
  entry.entry_valid = {};
  if (entry.node == NodeId::kNone) return entry;
  if (S_ISDIR(entry.attr.mode)) {
    Faces::Released released;
    const auto face = [&] {
      const ReadLock numbers(table_.numbers());
      const auto shown = faces_.show(outer_parent, name, parent.view->index, entry.node, released);
      release_all(released);
      return shown;
    }();
    if (face) {
      entry.node = *face;
      entry.attr = told(*face, entry.attr, parent.uid);
      entry.attr_valid = {};
      return entry;
    }
  }
  entry = show_own(parent.view, entry);
  // To let go of a view whose names the kernel still has. That of the covered directory stays.
  if (parent.view->index != kOriginal) faces_.shown(outer_parent, name, entry.node);
  return entry;
}

// What differs between views must refuse nobody what is theirs: while it might, the kernel is told that all may do all,
// and judge() does what it does otherwise.
fuse::Attr Views::told(NodeId face, fuse::Attr attr, std::uint32_t caller) {
  if (faces_.tell(face, attr, caller, std::chrono::steady_clock::now()) != Faces::Telling::kTruth) {
    attr.mode |= S_IRWXU | S_IRWXG | S_IRWXO;
  }
  return attr;
}

// The answer by which the kernel lets through or refuses what comes next. If it takes in an answer to somebody else in
// between (fuse_change_attributes drops what was asked for before), that counts; so when the first of those who differ
// comes in, it is sent back to the start of its path once (ESTALE), after all that was said before has arrived.
Result<fuse::AttrReply> Views::answer(const Where& at, fuse::AttrReply reply) {
  if (!at.face) return reply;
  const auto telling = faces_.tell(at.asked, reply.attr, at.uid, std::chrono::steady_clock::now());
  if (telling == Faces::Telling::kStarting && at.uid != 0) {
    std::this_thread::sleep_for(kUntilToldHasArrived);
    return fail(ESTALE);
  }
  if (telling != Faces::Telling::kTruth) reply.attr.mode |= S_IRWXU | S_IRWXG | S_IRWXO;
  reply.valid = {};
  return reply;
}

fuse::AttrReply Views::show(const Where& at, fuse::AttrReply reply) {
  if (at.face) {
    reply.attr = told(at.asked, reply.attr, at.uid);
    reply.valid = {};
  }
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
  const Where at = TRY(where(caller, parent, X_OK));
  return show(at, parent, name, TRY(at->lookup(caller, at.node, name)));
}

void Views::forget(NodeId node, std::uint64_t count) {
  if (is_face(node)) {
    const ReadLock numbers(table_.numbers());
    Faces::Released released;
    faces_.forget(node, count, released);
    release_all(released);
    return;
  }
  const ViewRef view = table_.at(view_of(node));
  if (!view) return;
  view->engine->forget(inner(node), count);
  if (view->index != kOriginal) faces_.forgotten(node, count);
  view->known.fetch_sub(static_cast<std::int64_t>(count), std::memory_order_relaxed);
}

// --- Views come and go

Result<std::string> Views::list(const fuse::Caller& caller, std::string_view from) {
  unsigned first = 0;
  std::from_chars(from.data(), from.data() + from.size(), first);
  const auto processes = resolver_.processes();
  std::string text;
  constexpr std::size_t kMost = 60000;  // an attribute holds 64 KiB
  for (const ViewRef& view : table_.all()) {
    if (view->index < first) continue;
    if (caller.uid != 0 && caller.uid != self_ && view->uid != caller.uid) continue;
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
    std::vector<ViewRef> views = table_.all();
    for (ViewRef& view : views) {
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
        const ViewIndex index = view->index;
        table_.drop_idle(std::move(view), [this, index] { faces_.drop(index); });
      }
    }
    lock.lock();
  }
}

}  // namespace vellum::views
