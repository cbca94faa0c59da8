#include "views/view.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/log.h"
#include "base/scope.h"
#include "sys/file.h"
#include "sys/walk.h"

namespace vellum::views {
namespace {

std::string fd_path(sys::FdRef fd) { return fmt::format("/proc/self/fd/{}", fd.raw()); }

// Without "//" and a slash at the end, to compare with the mountpoint.
std::string tidy(std::string_view path) {
  std::string result;
  for (const char c : path) {
    if (c != '/' || !result.ends_with('/')) result += c;
  }
  if (result.size() > 1 && result.ends_with('/')) result.pop_back();
  return result;
}

std::string key_of(const sys::Place& place) { return fmt::format("{:x}:{:x}", place.device, place.ino); }

}  // namespace

bool out_of_sight(Errno error) { return error == ENOENT || error == ESRCH || error == EACCES || error == EPERM; }

bool may_use(const View& view, const sys::ProcessIds& ids) {
  return !view.identity ||
         (ids.has_group(view.identity->gid) &&
          std::ranges::all_of(view.identity->groups, [&](gid_t group) { return ids.has_group(group); }));
}

ViewTable::ViewTable(Settings settings, std::function<std::unique_ptr<fuse::Notifier>(ViewIndex)> make_notifier)
    : settings_(std::move(settings)), make_notifier_(std::move(make_notifier)) {
  settings_.engine.common = std::make_shared<overlay::Common>();
}

std::expected<void, std::string> ViewTable::open_original() {
  overlay::Options options = settings_.engine;
  options.plain = true;
  options.upper_dir = settings_.original;
  // Whoever was in the directory before it was covered still changes it behind the mount.
  options.timeout_seconds = std::min(options.timeout_seconds, 1.0);
  auto engine = overlay::Overlay::create(options);
  if (!engine) return std::unexpected(engine.error().why);
  const auto covered = sys::open(settings_.original.c_str(), O_PATH | O_DIRECTORY);
  const auto place = covered ? sys::place_of(*covered) : fail(covered.error());
  if (!place) return std::unexpected(place.error().message());
  original_key_ = key_of(*place);
  auto view = std::make_shared<View>();
  view->engine = std::move(*engine);
  view->notifier = make_notifier_(kOriginal);
  view->stack = {settings_.original};
  original_ = view;
  const WriteLock lock(mutex_);
  views_.push_back(view);
  return {};
}

void ViewTable::agreed(const fuse::Connection& connection) { connection_ = connection; }

void ViewTable::set_workers(unsigned workers) {
  workers_.store(workers);
  for (const ViewRef& view : all()) view->engine->set_workers(workers);
}

ViewRef ViewTable::at(ViewIndex index) const {
  const ReadLock lock(mutex_);
  return index < views_.size() ? views_[index] : nullptr;
}

std::vector<ViewRef> ViewTable::all() const {
  const ReadLock lock(mutex_);
  std::vector<ViewRef> views;
  for (const ViewRef& view : views_) {
    if (view) views.push_back(view);
  }
  return views;
}

// Where a marker leads to, as the thread acts now. What it leads to a moment later does not matter: the engine gets the
// layer by this descriptor. No step asks the mount, so that no worker waits for another.
Result<ViewTable::Named> ViewTable::find_layer(const std::string& path) const {
  if (path == settings_.original) return Named{.path = path, .fd = {}, .key = original_key_};
  sys::UniqueFd fd = TRY(sys::walk_outside(path, device_.load()));
  const std::string key = key_of(TRY(sys::place_of(fd)));
  return Named{.path = tidy(path), .fd = std::move(fd), .key = key};
}

Result<ViewTable::Layers> ViewTable::find_layers(const Markers& markers, const ViewRef& around) const {
  Layers layers;
  const std::string below = settings_.mountpoint == "/" ? "/" : settings_.mountpoint + "/";
  if (!markers.upper.empty()) {
    if (tidy(markers.upper).starts_with(below)) return fail(ELOOP);  // asking the mount itself for a layer of the mount
    layers.upper = TRY(find_layer(markers.upper));
    layers.key = layers.upper->key;
  }
  layers.key += '|';
  const auto add = [&](const std::string& path) -> Status {
    if (layers.lowers.size() == overlay::kMaxLowers) return fail(EINVAL);
    layers.lowers.push_back(TRY(find_layer(path)));
    layers.key += layers.lowers.back().key + ",";
    return {};
  };
  for (const std::string& path : markers.lowers) {
    const std::string wanted = tidy(path);
    if (wanted == settings_.mountpoint) {
      // What the process around this one sees: its layers, one by one.
      for (const std::string& layer : around->stack) TRY(add(layer));
    } else if (wanted.starts_with(below)) {
      return fail(ELOOP);
    } else {
      TRY(add(wanted));
    }
  }
  if (layers.lowers.empty()) TRY(add(settings_.original));
  return layers;
}

Result<sys::UniqueFd> ViewTable::open_found(sys::FdRef found) const {
  if (TRY(sys::place_of(found)).device == device_.load()) return fail(ELOOP);
  return sys::reopen(found, O_RDONLY | O_DIRECTORY);
}

// By default beside upper, under a name that says whose it is, made with the rights of the process that wants the view.
// Others may write to the directory around it: what they put in its place is not taken.
Status ViewTable::open_work_dir(const Markers& markers, std::uint32_t uid, sys::FdRef upper, Opened& opened) const {
  opened.work_path = markers.work;
  sys::UniqueFd fd;
  if (!markers.work.empty()) {
    fd = TRY(open_found(TRY(sys::walk_outside(markers.work, device_.load()))));
  } else {
    opened.work_path = default_work_dir(TRY(sys::readlink(upper, fd_path(upper).c_str())));
    const std::string name = opened.work_path.substr(opened.work_path.rfind('/') + 1);
    if (name.empty()) return fail(EINVAL);
    const sys::UniqueFd around = TRY(sys::openat(upper, "..", O_PATH | O_DIRECTORY));
    if (TRY(sys::place_of(around)).device == device_.load()) return fail(ELOOP);
    if (auto made = sys::mkdir(around, name.c_str(), 0700); !made && made.error() != EEXIST) return fail(made.error());
    fd = TRY(open_found(TRY(sys::openat(around, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW))));
    const sys::Statx st = TRY(sys::statx(fd, ""));
    if (st.uid != uid || (st.mode & 022) != 0) return fail(EPERM);
  }
  opened.work = fd_path(fd);
  opened.held.push_back(std::move(fd));
  return {};
}

Result<ViewTable::Opened> ViewTable::open_layers(const Layers& layers, const Markers& markers,
                                                 std::uint32_t uid) const {
  Opened opened;
  const auto open = [&](const Named& layer) -> Result<std::string> {
    opened.held.push_back(layer.fd ? TRY(open_found(layer.fd))
                                   : TRY(sys::open(layer.path.c_str(), O_RDONLY | O_DIRECTORY)));
    return fd_path(opened.held.back());
  };
  if (layers.upper) {
    opened.upper = TRY(open(*layers.upper));
    TRY(open_work_dir(markers, uid, layers.upper->fd, opened));
  }
  for (const Named& lower : layers.lowers) opened.lowers.push_back(TRY(open(lower)));
  return opened;
}

// Null: there is none.
Result<ViewRef> ViewTable::known(const Layers& layers, const sys::ProcessIds& ids) const {
  const ReadLock lock(mutex_);
  if (const auto found = by_layers_.find(layers.rights); found != by_layers_.end()) return views_[found->second];
  if (!layers.upper) return nullptr;
  const auto found = by_upper_.find(layers.upper->key);
  if (found == by_upper_.end()) return nullptr;
  // One writes to an upper. It is the same view for who has more groups, but not for who has fewer.
  const ViewRef& view = views_[found->second];
  if (view->layers == layers.key && may_use(*view, ids)) return view;
  return fail(EBUSY);
}

Result<ViewRef> ViewTable::view_for(const Markers& markers, const sys::ProcessIds& ids,
                                    const std::function<Result<ViewRef>()>& around) {
  if (markers.too_long) return fail(E2BIG);
  if (markers.lowers.size() > overlay::kMaxLowers) return fail(EINVAL);
  // As itself the daemon does what root, or its own user, may do anyway.
  std::shared_ptr<const sys::Identity> identity;
  if (ids.uid != self_) {
    identity =
        std::make_shared<const sys::Identity>(sys::Identity{.uid = ids.uid, .gid = ids.fsgid, .groups = ids.groups});
  }
  ViewRef outer;
  for (const std::string& path : markers.lowers) {
    if (tidy(path) == settings_.mountpoint && !outer) outer = TRY(around());
  }
  TRY(sys::act_as(identity));
  Layers layers = TRY(find_layers(markers, outer));
  layers.key = fmt::format("{}|{}", ids.uid, layers.key);
  layers.rights =
      identity ? fmt::format("{}|{}|{}", layers.key, identity->gid, fmt::join(identity->groups, ",")) : layers.key;
  if (ViewRef view = known(layers, ids).value_or(nullptr)) return view;

  if (layers.upper) {
    // Who cannot write to an upper must not keep it from those who can, not even for a moment.
    if (!layers.upper->fd) return fail(EBUSY);
    TRY(sys::check_writable(layers.upper->fd));
  }
  TRY(take_turn(layers.turn(), ids.uid));
  const auto done = on_exit([&] { end_turn(layers.turn()); });
  auto view = known(layers, ids);
  if (!view) log::warning("{}: another view writes to it", markers.upper);
  if (!view || *view) return view;
  return make(markers, std::move(identity), ids.uid, layers);
}

// Nobody waits for what another user's layers may take: there would be no view for both in the end.
Status ViewTable::take_turn(const std::string& turn, std::uint32_t uid) {
  std::unique_lock lock(making_mutex_);
  for (;;) {
    const auto [busy, mine] = making_.try_emplace(turn, uid);
    if (mine) return {};
    if (busy->second != uid && busy->second != kEnding) return fail(EBUSY);
    making_done_.wait(lock);
  }
}

void ViewTable::end_turn(const std::string& turn) {
  {
    const std::lock_guard lock(making_mutex_);
    making_.erase(turn);
  }
  making_done_.notify_all();
}

Result<ViewRef> ViewTable::make(const Markers& markers, std::shared_ptr<const sys::Identity> identity,
                                std::uint32_t uid, const Layers& layers) {
  const Opened opened = TRY(open_layers(layers, markers, uid));
  overlay::Options options = settings_.engine;
  options.lower_dirs = opened.lowers;
  options.upper_dir = opened.upper;
  options.work_dir = opened.work;
  options.any_owner = identity != nullptr;
  if (identity)
    options.rights = fmt::format("{}:{}:{}", identity->uid, identity->gid, fmt::join(identity->groups, ","));
  options.workdir_tries = 5;  // others wait
  auto engine = overlay::Overlay::create(options);
  if (!engine) {
    log::warning("view of uid {} on {}: {}", uid, markers.upper.empty() ? join_layers(markers.lowers) : markers.upper,
                 engine.error().why);
    return fail(engine.error().error);  // with_room() has to know for want of what
  }
  auto view = std::make_shared<View>();
  view->uid = uid;
  view->identity = std::move(identity);
  view->layers = layers.key;
  view->turn = layers.turn();
  view->markers = markers;
  view->markers.work = opened.work_path;
  if (layers.upper) view->stack.push_back(layers.upper->path);
  for (const Named& lower : layers.lowers) view->stack.push_back(lower.path);
  view->engine = std::move(*engine);
  {
    const WriteLock lock(mutex_);
    std::size_t index = 1;
    while (index < views_.size() && views_[index]) ++index;
    if (index >= kMaxViews) return fail(ENFILE);
    view->index = static_cast<ViewIndex>(index);
    view->serial = ++last_serial_;
    view->notifier = make_notifier_(view->index);
    fuse::Connection connection = connection_;
    connection.notifier = view->notifier.get();
    TRY(view->engine->init(connection));
    view->engine->set_workers(workers_.load());
    if (index == views_.size()) views_.emplace_back();
    views_[index] = view;
    by_layers_[layers.rights] = view->index;
    if (layers.upper) by_upper_[layers.upper->key] = view->index;
  }
  return view;
}

bool ViewTable::drop_idle(ViewRef view, const std::function<void()>& forget_number) {
  const std::string turn = view->turn;
  const auto identity = view->identity;
  {
    const std::lock_guard lock(making_mutex_);
    if (!making_.try_emplace(turn, kEnding).second) return false;
  }
  // Until its upper and work directory are free, who wants them waits.
  const auto done = on_exit([&] { end_turn(turn); });
  {
    const WriteLock numbers(numbers_);
    const WriteLock lock(mutex_);
    // The table's reference and ours; new ones are only made under the lock.
    constexpr long kOurs = 2;
    if (view.use_count() > kOurs || view->known.load() != 0 || view->handles.load() != 0) return false;
    forget_number();  // before another view can get it
    views_[view->index] = nullptr;
    absl::erase_if(by_layers_, [&](const auto& entry) { return entry.second == view->index; });
    absl::erase_if(by_upper_, [&](const auto& entry) { return entry.second == view->index; });
  }
  if (sys::act_as(identity)) view->engine->destroy();
  view.reset();  // the last one
  ignore(sys::act_as(nullptr));
  return true;
}

void ViewTable::destroy_all() {
  for (const ViewRef& view : all()) {
    if (sys::act_as(view->identity)) view->engine->destroy();
  }
  ignore(sys::act_as(nullptr));
}

}  // namespace vellum::views
