// Opening the layers, checking what the user asked for, probing what the upper can hold.
#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/log.h"
#include "overlay/acl.h"
#include "overlay/overlay.h"
#include "overlay/xattr_names.h"
#include "sys/capabilities.h"
#include "sys/mount_calls.h"

namespace vellum::overlay {
namespace {

using Failure = std::unexpected<NotStarted>;

Failure bad(std::string why, Errno error = Errno(EINVAL)) {
  return Failure(NotStarted{.why = std::move(why), .error = error});
}

Failure bad(std::string_view option, std::string_view path, std::string_view what, Errno error = Errno(EINVAL)) {
  return bad(fmt::format("{}={}: {}", option, path, what), error);
}

Failure bad(std::string_view option, std::string_view path, Errno error) {
  return bad(option, path, error.message(), error);
}

IdMap make_ids(const std::vector<IdRange>& ranges, bool to_root, std::optional<std::uint32_t> to_id) {
  if (to_id) return IdMap(ranges, to_id);
  return IdMap(ranges, to_root ? std::optional<std::uint32_t>(0) : std::nullopt);
}

fuse::Timeout to_timeout(double seconds) {
  fuse::Timeout timeout;
  timeout.sec = static_cast<std::uint64_t>(seconds);
  timeout.nsec = static_cast<std::uint32_t>((seconds - static_cast<double>(timeout.sec)) * 1e9);
  return timeout;
}

// Whether `inner` is `outer` or lies below it, on the same file system.
bool lies_within(sys::FdRef inner, sys::FdRef outer) {
  auto goal = sys::statx(outer, "");
  auto at = sys::statx(inner, "");
  if (!goal || !at) return false;
  sys::UniqueFd held;
  sys::FdRef fd = inner;
  for (;;) {
    if (at->dev != goal->dev) return false;
    if (at->ino == goal->ino) return true;
    auto up = sys::openat(fd, "..", O_PATH | O_DIRECTORY);
    if (!up) return false;
    auto above = sys::statx(*up, "");
    if (!above || (above->ino == at->ino && above->dev == at->dev)) return false;
    held = std::move(*up);
    fd = held;
    at = above;
  }
}

// Whether something can be done at all, or could, were there room. What a layer looks like must not depend on how full
// the disk was at the start.
template <class Outcome>
bool possible(const Outcome& tried) {
  return tried || tried.error() == ENOSPC || tried.error() == EDQUOT;
}

}  // namespace

Overlay::Overlay(const Options& options)
    : options_(options),
      timeout_(to_timeout(options.timeout_seconds)),
      volatile_(options.is_volatile),
      uids_(make_ids(options.uid_map, options.squash_to_root, options.squash_to_uid)),
      gids_(make_ids(options.gid_map, options.squash_to_root, options.squash_to_gid)),
      numbers_(options.xino, options.ino32),
      common_(options.common ? options.common : std::make_shared<Common>()),
      dir_fds_(common_->dir_fds) {}

Overlay::~Overlay() = default;

std::expected<std::unique_ptr<Overlay>, NotStarted> Overlay::create(const Options& options) {
  // Objects behind O_PATH fds are reached by it; without it marks would be overlooked and wrong content shown.
  if (const auto proc = sys::open("/proc/self/fd", O_PATH | O_DIRECTORY); !proc) {
    return bad("/proc is not mounted, and is needed", proc.error());
  }
  std::unique_ptr<Overlay> overlay(new Overlay(options));
  auto opened = options.plain ? overlay->open_plain() : overlay->open_layers();
  if (!opened) return Failure(opened.error());
  if (overlay->upper_ != nullptr && !options.plain) {
    if (auto ready = overlay->open_work_dir(); !ready) return Failure(ready.error());
    overlay->probe_upper();
  }
  overlay->make_root();
  return overlay;
}

std::expected<void, NotStarted> Overlay::open_layers() {
  if (options_.lower_dirs.empty()) return bad("lowerdir= is missing: name at least one lower layer");
  if (options_.lower_dirs.size() > kMaxLowers) {
    return bad(
        fmt::format("lowerdir=: {} layers given, at most {} are possible", options_.lower_dirs.size(), kMaxLowers));
  }
  bool xattrs = !options_.no_xattrs;
  bool trusted = sys::privileges().sys_admin && !options_.user_xattr;
  layers_.push_back(nullptr);
  if (!options_.upper_dir.empty()) {
    auto opened = open_layer(0, options_.upper_dir, xattrs, trusted);
    if (!opened) return bad("upperdir", options_.upper_dir, opened.error());
    if (options_.any_owner) opened->override_name.clear();
    layers_[0] = std::make_unique<Layer>(std::move(*opened));
    upper_ = layers_[0].get();
    numbers_.add_device(upper_->device);
  }
  for (const std::string& path : options_.lower_dirs) {
    auto opened = open_layer(static_cast<LayerIndex>(layers_.size()), path, xattrs, trusted);
    if (!opened) return bad("lowerdir", path, opened.error());
    // What cannot be listed cannot be merged; better said now than at the first ls.
    auto readable = sys::read_dir(*opened->root, [](std::string_view, std::uint64_t, unsigned char) { return false; });
    if (!readable) return bad("lowerdir", path, readable.error());
    if (options_.any_owner) opened->override_name.clear();
    layers_.push_back(std::make_unique<Layer>(std::move(*opened)));
    numbers_.add_device(layers_.back()->device);
    if (upper_ != nullptr && lies_within(*upper_->root, *layers_.back()->root)) {
      return bad("upperdir", options_.upper_dir, fmt::format("lies inside lowerdir={}", path));
    }
    if (upper_ != nullptr && lies_within(*layers_.back()->root, *upper_->root)) {
      return bad("lowerdir", path, fmt::format("lies inside upperdir={}", options_.upper_dir));
    }
  }
  return {};
}

std::expected<void, NotStarted> Overlay::open_plain() {
  auto opened = open_layer(0, options_.upper_dir, !options_.no_xattrs, false);
  if (!opened) return bad("directory", options_.upper_dir, opened.error());
  opened->override_name.clear();
  opened->plain = true;
  layers_.push_back(std::make_unique<Layer>(std::move(*opened)));
  upper_ = layers_[0].get();
  numbers_.add_device(upper_->device);
  marks_work_ = false;
  can_tmpfile_ = sys::openat(*upper_->root, ".", O_TMPFILE | O_RDWR, 0600).has_value();
  return {};
}

std::expected<void, NotStarted> Overlay::open_work_dir() {
  if (options_.work_dir.empty()) return bad("workdir= is missing: upperdir= needs one, on the same file system");
  auto root = sys::open(options_.work_dir.c_str(), O_RDONLY | O_DIRECTORY);
  if (!root) return bad("workdir", options_.work_dir, root.error());
  auto st = sys::statx(*root, "");
  if (!st) return bad("workdir", options_.work_dir, st.error());
  if (st->dev != upper_->device) {
    return bad("workdir", options_.work_dir,
               fmt::format("is not on the file system of upperdir={}", options_.upper_dir));
  }
  if (lies_within(*root, *upper_->root) || lies_within(*upper_->root, *root)) {
    return bad("workdir", options_.work_dir,
               fmt::format("and upperdir={} must be separate directories", options_.upper_dir));
  }
  work_root_ = std::make_shared<const sys::UniqueFd>(std::move(*root));
  // A daemon whose mount was just taken away needs a moment to finish.
  bool alone = sys::lock_exclusive(*work_root_).has_value();
  for (unsigned tries = 0; !alone && tries < options_.workdir_tries; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    alone = sys::lock_exclusive(*work_root_).has_value();
  }
  if (!alone) {
    return bad("workdir", options_.work_dir,
               "is in use by another mount; two mounts on one upperdir corrupt each other");
  }
  if (auto made = sys::mkdir(*work_root_, "work", 0700); !made && made.error() != EEXIST) {
    return bad("workdir", options_.work_dir, made.error());
  }
  auto work = sys::openat(*work_root_, "work", O_RDONLY | O_DIRECTORY);
  if (!work) return bad("workdir", options_.work_dir, work.error());
  work_ = std::make_shared<const sys::UniqueFd>(std::move(*work));
  // What is made in it must not inherit from it, nor be seen there.
  for (const char* acl : {kDefaultAcl, kAccessAcl}) ignore(sys::removexattr(*work_, "", acl));
  ignore(sys::chmod(*work_, "", 0700));
  if (sys::open_beneath(*work_, "incompat/volatile", O_PATH)) {
    return bad("workdir", options_.work_dir,
               "a volatile mount was not ended cleanly, so upper may be incomplete; remove work/incompat/volatile in "
               "it to use upper all the same");
  }
  clean_work_dir();
  // Not writable is found out here, by the first thing we write. A full disk can be cleaned up by way of the mount.
  auto probe = sys::openat(*work_, "#probe", O_CREAT | O_WRONLY | O_TRUNC, 0600);
  if (!possible(probe)) return bad("workdir", options_.work_dir, probe.error());
  ignore(sys::unlink(*work_, "#probe"));
  if (volatile_) {
    ignore(sys::mkdir(*work_, "incompat", 0700));
    auto incompat = sys::openat(*work_, "incompat", O_PATH | O_DIRECTORY);
    auto marked = incompat ? sys::mkdir(*incompat, "volatile", 0700) : Status(fail(incompat.error()));
    if (!marked) return bad("workdir", options_.work_dir, marked.error());
  }
  return {};
}

void Overlay::clean_work_dir() {
  std::vector<std::string> left;
  ignore(sys::read_dir(*work_, [&](std::string_view name, std::uint64_t, unsigned char) {
    left.emplace_back(name);
    return true;
  }));
  for (const std::string& name : left) remove_tree_in_work(name);
}

void Overlay::probe_upper() {
  const sys::Privileges privileges = sys::privileges();
  auto can_mark = [&](bool trusted) {
    mark_names_ = MarkNames(trusted);
    std::string name = mark_names_("vellum.probe");
    const auto set = sys::setxattr(*work_, "", name.c_str(), "y");
    const bool works = set ? sys::getxattr(*work_, "", name.c_str()).has_value() : possible(set);
    ignore(sys::removexattr(*work_, "", name.c_str()));
    return works;
  };
  bool trusted = privileges.sys_admin && !options_.user_xattr;
  marks_work_ = upper_->has_xattrs && ((trusted && can_mark(true)) || can_mark(false));

  const auto file = sys::openat(*work_, ".", O_TMPFILE | O_RDWR, 0600);
  can_tmpfile_ = possible(file);
  if (file) {
    can_tmpfile_ = possible(sys::link_fd(*file, *work_, "#probe"));
    ignore(sys::unlink(*work_, "#probe"));
  }

  auto make_file = [&](const char* name) { return sys::openat(*work_, name, O_CREAT | O_RDWR | O_TRUNC, 0600); };
  if (auto a = make_file("#probe"), b = make_file("#probe2"); a && b) {
    std::string page(4096, 'x');
    ignore(sys::pwrite(*a, std::as_bytes(std::span(page)), 0));
    can_clone_ = sys::clone_file(*a, *b).has_value();
  }
  ignore(sys::unlink(*work_, "#probe"));
  ignore(sys::unlink(*work_, "#probe2"));

  // A device whiteout is of use only if rename can leave one behind in the same step.
  const auto device = sys::mknod(*work_, "#probe", S_IFCHR, makedev(0, 0));
  bool devices = possible(device);
  if (device) {
    devices = possible(sys::rename(*work_, "#probe", *work_, "#probe2", RENAME_WHITEOUT));
    ignore(sys::unlink(*work_, "#probe"));
    ignore(sys::unlink(*work_, "#probe2"));
  }
  bool dot_wh = possible(make_file(".wh.#probe"));
  ignore(sys::unlink(*work_, ".wh.#probe"));
  style_ = options_.whiteouts;
  if (style_ == WhiteoutStyle::kAuto || (style_ == WhiteoutStyle::kDevice && !devices)) {
    style_ = devices ? WhiteoutStyle::kDevice : dot_wh || !marks_work_ ? WhiteoutStyle::kDotWh : WhiteoutStyle::kXattr;
  }
  if (style_ == WhiteoutStyle::kXattr && !marks_work_) {
    log::warning("whiteouts=xattr: upperdir={} holds no extended attributes; using .wh. files", options_.upper_dir);
    style_ = WhiteoutStyle::kDotWh;
  }
  if (options_.xattr_permissions != XattrPermissions::kOff) {
    upper_->override_name =
        options_.xattr_permissions == XattrPermissions::kContainers ? kOverrideContainers : kOverridePrivileged;
    // On the root it tells later readers of this layer to look for it.
    if (!sys::getxattr(*upper_->root, "", upper_->override_name.c_str())) {
      if (auto st = sys::statx(*upper_->root, "")) {
        ignore(sys::setxattr(*upper_->root, "", upper_->override_name.c_str(), format_override(*st)));
      }
    }
  }
}

void Overlay::make_root() {
  Node& root = nodes_.root();
  root.type = dirent_type(S_IFDIR);
  const Layer& top = upper_ != nullptr ? *upper_ : *layers_[1];
  if (auto st = sys::statx(*top.root, "")) root.ino = numbers_.present(st->dev, st->ino);
  if (upper_ != nullptr) {
    root.in_upper.store(true, std::memory_order_relaxed);
    Marks marks = read_marks(*upper_, *upper_->root, "").value_or(Marks{});
    root.dir->upper_xattr_whiteouts = marks.xattr_whiteouts;
    root.dir->upper_impure = marks.impure;
  }
  for (LayerIndex index = 1; index < layers_.size(); ++index) {
    Marks marks = read_marks(layer(index), *layer(index).root, "").value_or(Marks{});
    root.dir->lowers.push_back({.layer = index, .xattr_whiteouts = marks.xattr_whiteouts, .path = {}});
  }
}

Status Overlay::init(fuse::Connection& connection) {
  connection.writeback_cache = connection.writeback_cache && options_.writeback && upper_ != nullptr;
  connection.posix_acl = connection.posix_acl && !options_.no_acl && !options_.no_xattrs;
  // Where mode bits are kept in an attribute, the kernel could not take them away on a write that we do not see.
  connection.passthrough = connection.passthrough && upper_ != nullptr && upper_->override_name.empty();
  connection.export_support = connection.export_support && options_.nfs_filehandles;
  passthrough_ = connection.passthrough;
  writeback_ = connection.writeback_cache && !passthrough_;  // the kernel has one or the other
  no_open_ = connection.no_open && upper_ == nullptr && !options_.handles;
  no_opendir_ = connection.no_opendir && !options_.handles;
  no_fsync_ = connection.no_fsync && !options_.handles && (!syncs() || sys::lives_in_memory(*upper_->root));
  atomic_trunc_ = connection.atomic_o_trunc;
  notifier_ = connection.notifier;
  return {};
}

void Overlay::destroy() {
  notifier_ = nullptr;
  handles_.clear();
  if (upper_ == nullptr || options_.plain) return;
  settle_hard_links();
  if (volatile_) {
    // Everything is on disk after this, so the marker has said what it had to.
    if (auto fd = sys::openat(*upper_->root, ".", O_RDONLY | O_DIRECTORY); fd && sys::syncfs(*fd)) {
      remove_tree_in_work("incompat");
    }
  }
  clean_work_dir();
}

OverlayStats Overlay::stats() const {
  return {.nodes = nodes_.live(),
          .open_handles = handles_.live(),
          .cached_dir_fds = dir_fds_.size(),
          .dir_fd_hits = dir_fds_.hits(),
          .dir_fd_misses = dir_fds_.misses(),
          .copy_ups = copy_ups_.load(std::memory_order_relaxed),
          .copied_bytes = copied_bytes_.load(std::memory_order_relaxed),
          .whiteouts = whiteouts_.load(std::memory_order_relaxed),
          .bytes_read = bytes_read_.load(std::memory_order_relaxed),
          .bytes_written = bytes_written_.load(std::memory_order_relaxed)};
}

}  // namespace vellum::overlay
