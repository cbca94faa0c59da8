#include "views/view.h"

#include <fmt/format.h>

#include "base/log.h"
#include "sys/file.h"
#include "sys/mount_calls.h"

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

// Many views share the process's descriptors.
constexpr std::size_t kDirFds = 32;

}  // namespace

ViewTable::ViewTable(Settings settings, std::function<std::unique_ptr<fuse::Notifier>(ViewIndex)> make_notifier)
    : settings_(std::move(settings)), make_notifier_(std::move(make_notifier)) {}

std::expected<void, std::string> ViewTable::open_original() {
  overlay::Options options = settings_.engine;
  options.plain = true;
  options.upper_dir = settings_.original;
  // Whoever was in the directory before it was covered still changes it behind the mount.
  options.timeout_seconds = std::min(options.timeout_seconds, 1.0);
  auto engine = overlay::Overlay::create(options);
  if (!engine) return std::unexpected(engine.error());
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

// Opens a directory named by a marker, as the thread acts now. The engine gets it by its descriptor: what the path
// leads to a moment later does not matter.
Result<std::string> ViewTable::open_layer(const std::string& path, Opened& opened, std::string& key) const {
  if (!path.starts_with('/')) return fail(EINVAL);
  // The covered directory goes by our own descriptor; what a process names must not lead to any of those.
  sys::UniqueFd fd = path == settings_.original ? TRY(sys::open(path.c_str(), O_RDONLY | O_DIRECTORY))
                                                : TRY(sys::open_without_magic(path.c_str(), O_RDONLY | O_DIRECTORY));
  const sys::Statx st = TRY(sys::statx(fd, ""));
  if (st.dev == device_.load()) return fail(ELOOP);  // by a symlink into the mount itself
  key = fmt::format("{:x}:{:x}", st.dev, st.ino);
  std::string by_fd = fd_path(fd);
  opened.held.push_back(std::move(fd));
  return by_fd;
}

// By default beside upper, under a name that says whose it is, made with the rights of the process that wants the view.
// Others may write to the directory around it: what they put in its place is not taken.
Status ViewTable::open_work_dir(const Markers& markers, std::uint32_t uid, Opened& opened) const {
  opened.work_path = markers.work;
  const bool chosen_here = markers.work.empty();
  if (chosen_here) {
    const std::string path = TRY(sys::real_path(opened.upper));
    const auto slash = path.rfind('/');
    if (slash + 1 >= path.size()) return fail(EINVAL);
    opened.work_path = fmt::format("{}/.{}.vellum-work", path.substr(0, slash), path.substr(slash + 1));
    if (auto made = sys::mkdir_path(opened.work_path.c_str(), 0700); !made && made.error() != EEXIST) {
      return fail(made.error());
    }
  }
  if (!opened.work_path.starts_with('/')) return fail(EINVAL);
  const int flags = O_RDONLY | O_DIRECTORY | (chosen_here ? O_NOFOLLOW : 0);
  sys::UniqueFd fd = TRY(sys::open_without_magic(opened.work_path.c_str(), flags));
  if (chosen_here) {
    const sys::Statx st = TRY(sys::statx(fd, ""));
    if (st.uid != uid || (st.mode & 022) != 0) return fail(EPERM);
  }
  opened.work = fd_path(fd);
  opened.held.push_back(std::move(fd));
  return {};
}

Result<ViewTable::Opened> ViewTable::open_layers(const Markers& markers, std::uint32_t uid,
                                                 const std::function<Result<ViewRef>()>& around) const {
  Opened opened;
  std::vector<std::string> lowers;
  const std::string below = settings_.mountpoint == "/" ? "/" : settings_.mountpoint + "/";
  for (const std::string& path : markers.lowers) {
    const std::string wanted = tidy(path);
    if (wanted == settings_.mountpoint) {
      // What the process around this one sees: its layers, one by one.
      const ViewRef outer = TRY(around());
      lowers.insert(lowers.end(), outer->stack.begin(), outer->stack.end());
    } else if (wanted.starts_with(below)) {
      return fail(ELOOP);  // asking the mount itself for a layer of the mount
    } else {
      lowers.push_back(wanted);
    }
  }
  if (lowers.empty()) lowers.push_back(settings_.original);
  std::string key;
  if (!markers.upper.empty()) {
    if (tidy(markers.upper).starts_with(below)) return fail(ELOOP);
    opened.upper = TRY(open_layer(markers.upper, opened, opened.upper_key));
    TRY(open_work_dir(markers, uid, opened));
    opened.stack.push_back(tidy(markers.upper));
  }
  opened.key = opened.upper_key + "|";
  for (const std::string& path : lowers) {
    opened.lowers.push_back(TRY(open_layer(path, opened, key)));
    opened.stack.push_back(path);
    opened.key += key + ",";
  }
  return opened;
}

Result<ViewRef> ViewTable::view_for(const Markers& markers, const sys::ProcessIds& ids,
                                    const std::function<Result<ViewRef>()>& around) {
  // As itself the daemon does what root, or its own user, may do anyway.
  std::shared_ptr<const sys::Identity> identity;
  if (ids.uid != sys::privileges().euid) {
    identity =
        std::make_shared<const sys::Identity>(sys::Identity{.uid = ids.uid, .gid = ids.fsgid, .groups = ids.groups});
  }
  ViewRef outer;
  const auto around_once = [&]() -> Result<ViewRef> { return outer ? Result<ViewRef>(outer) : fail(ELOOP); };
  for (const std::string& path : markers.lowers) {
    if (tidy(path) == settings_.mountpoint && !outer) outer = TRY(around());
  }
  TRY(sys::act_as(identity));
  auto opened = open_layers(markers, ids.uid, around_once);
  if (!opened) return fail(opened.error());
  opened->key = fmt::format("{}|{}", ids.uid, opened->key);

  const auto known = [&]() -> ViewRef {
    const ReadLock lock(mutex_);
    const auto found = by_layers_.find(opened->key);
    return found == by_layers_.end() ? nullptr : views_[found->second];
  };
  if (ViewRef view = known()) return view;
  const MutexLock alone(making_);
  if (ViewRef view = known()) return view;
  if (!opened->upper_key.empty()) {
    const ReadLock lock(mutex_);
    if (by_upper_.contains(opened->upper_key)) {
      log::warning("{}: another view writes to it", markers.upper);
      return fail(EBUSY);
    }
  }
  return make(markers, std::move(identity), ids.uid, std::move(*opened));
}

Result<ViewRef> ViewTable::make(const Markers& markers, std::shared_ptr<const sys::Identity> identity,
                                std::uint32_t uid, Opened opened) {
  overlay::Options options = settings_.engine;
  options.lower_dirs = opened.lowers;
  options.upper_dir = opened.upper;
  options.work_dir = opened.work;
  options.any_owner = identity != nullptr;
  options.dir_fds = kDirFds;
  options.workdir_tries = 5;  // others wait
  auto engine = overlay::Overlay::create(options);
  if (!engine) {
    log::warning("view of uid {} on {}: {}", uid, markers.upper.empty() ? join_layers(markers.lowers) : markers.upper,
                 engine.error());
    return fail(EINVAL);
  }
  auto view = std::make_shared<View>();
  view->uid = uid;
  view->identity = std::move(identity);
  view->markers = markers;
  view->markers.work = opened.work_path;
  view->stack = std::move(opened.stack);
  view->engine = std::move(*engine);
  {
    const WriteLock lock(mutex_);
    std::size_t index = 1;
    while (index < views_.size() && views_[index]) ++index;
    if (index >= kMaxViews) return fail(ENFILE);
    view->index = static_cast<ViewIndex>(index);
    view->notifier = make_notifier_(view->index);
    fuse::Connection connection = connection_;
    connection.notifier = view->notifier.get();
    TRY(view->engine->init(connection));
    view->engine->set_workers(workers_.load());
    if (index == views_.size()) views_.emplace_back();
    views_[index] = view;
    by_layers_[opened.key] = view->index;
    if (!opened.upper_key.empty()) by_upper_[opened.upper_key] = view->index;
  }
  return view;
}

bool ViewTable::drop_idle(const ViewRef& view, const std::function<void()>& forget_number) {
  {
    const WriteLock lock(mutex_);
    // The table's reference and the caller's; new ones are only made under the lock.
    constexpr long kOurs = 2;
    if (view.use_count() > kOurs || view->known.load() != 0 || view->handles.load() != 0) return false;
    forget_number();  // before another view can get it
    views_[view->index] = nullptr;
    absl::erase_if(by_layers_, [&](const auto& entry) { return entry.second == view->index; });
    absl::erase_if(by_upper_, [&](const auto& entry) { return entry.second == view->index; });
  }
  if (sys::act_as(view->identity)) view->engine->destroy();
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
