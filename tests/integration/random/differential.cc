#include "differential.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <set>
#include <utility>

#include "ground.h"
#include "snapshot.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

namespace vellum::random_test {
namespace {

constexpr std::size_t kOpsBetweenSnapshots = 10;

// Inode numbers of the plain side's directories that come from layers: only these may answer EXDEV to rename.
std::set<ino_t> directories_from_layers(const std::string& root, const Tree& tree) {
  std::set<ino_t> found;
  for (const auto& [path, node] : tree) {
    struct stat st;
    if (node.kind == Kind::kDirectory && ::lstat((root + "/" + path).c_str(), &st) == 0) found.insert(st.st_ino);
  }
  return found;
}

class Run {
 public:
  Run(Case& test, Backend backend) : test_(test), backend_(backend) {
    layers_ = write_layers({.trees = test.layers,
                            .style = test.style,
                            .last_is_upper = test.has_upper_content,
                            .spans_devices = test.spans_devices},
                           ground_);
    const Tree tree = merged(test.layers);
    write_tree(tree, ground_.plain(), WhiteoutStyle::kDevice);
    layer_directories_ = directories_from_layers(ground_.plain(), tree);
  }

  std::string go(Random& random, std::size_t more) {
    if (std::string wrong = mount(); !wrong.empty()) return wrong;
    if (std::string wrong = compare("as mounted"); !wrong.empty()) return wrong;
    const std::size_t total = test_.ops.size() + more;
    for (std::size_t i = 0; i < total; ++i) {
      if (i == test_.ops.size()) test_.ops.push_back(random_op(random, test_.features, existing_paths()));
      const Op op = test_.ops[i];
      const std::string where = fmt::format("operation {} ({})", i, describe(op));
      if (std::string wrong = step(op); !wrong.empty()) return where + ": " + wrong;
      if (i % kOpsBetweenSnapshots == kOpsBetweenSnapshots - 1)
        if (std::string wrong = compare("after " + where); !wrong.empty()) return wrong;
    }
    if (std::string wrong = compare("at the end"); !wrong.empty()) return wrong;
    return may_remount() ? remount("after a last remount") : "";
  }

 private:
  std::string mount() {
    mount_ = std::make_unique<Mount>(backend_, layers_, ground_.mountpoint(), test_.options);
    if (!mount_->failure().empty()) return mount_->failure();
    overlay_ = std::make_unique<Workplace>(ground_.mountpoint());
    if (plain_ == nullptr) plain_ = std::make_unique<Workplace>(ground_.plain());
    return "";
  }

  // Hard links of lower layers stay one file for as long as the mount lives, as with kernel overlayfs without its
  // index: afterwards a layer's own link counts show again, and so does a name that nobody had looked at
  // (docs/compat.md).
  bool may_remount() const { return !(backend_ == Backend::kVellum && test_.features.hard_links); }

  std::string remount(const std::string& when) {
    overlay_->release_all();
    plain_->release_all();
    if (!mount_->unmount()) return mount_->failure();
    if (std::string wrong = mount(); !wrong.empty()) return wrong;
    return compare(when);
  }

  std::string step(const Op& op) {
    if (op.kind == OpKind::kRemount) return may_remount() ? remount("after a remount") : "";
    if (op.kind == OpKind::kRename) return step_rename(op);
    const Outcome got = overlay_->run(op);
    return difference(plain_->run(op), got, test_.compare_mtimes);
  }

  bool is_layer_directory(const std::string& path) const {
    struct stat st;
    return ::lstat(plain_->full(path).c_str(), &st) == 0 && S_ISDIR(st.st_mode) &&
           layer_directories_.contains(st.st_ino);
  }

  std::string step_rename(const Op& op) {
    const bool exchange = op.mode == RENAME_EXCHANGE;
    const bool may_refuse =
        !test_.directories_move && (is_layer_directory(op.path) || (exchange && is_layer_directory(op.other)));
    const Outcome got = overlay_->run(op);
    if (got.error != EXDEV) return difference(plain_->run(op), got, test_.compare_mtimes);
    if (!may_refuse) return "got EXDEV, which only directories of lower layers may give";
    if (exchange || op.as_user || !plain_could_rename(op)) return "";
    const Outcome moved = move_by_copying(*overlay_, op);
    return difference(move_by_copying(*plain_, op), moved, test_.compare_mtimes);
  }

  // Would this rename of a directory succeed? mv only copies where it would.
  bool plain_could_rename(const Op& op) const {
    struct stat st;
    if ((op.other + "/").starts_with(op.path + "/")) return false;
    const std::string parent =
        plain_->full(op.other.substr(0, op.other.rfind('/') == std::string::npos ? 0 : op.other.rfind('/')));
    if (::stat(parent.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return false;
    // Through a symlink the new parent may lie inside the old directory: leave that to rename itself.
    if (::lstat(parent.c_str(), &st) != 0 || S_ISLNK(st.st_mode)) return false;
    if (std::count(op.other.begin(), op.other.end(), '/') > 1) return false;
    return ::lstat(plain_->full(op.other).c_str(), &st) != 0;
  }

  std::vector<std::string> existing_paths() const {
    std::vector<std::string> paths;
    for (const auto& [path, seen] : take_snapshot(ground_.plain()).entries)
      if (!path.empty()) paths.push_back(path);
    return paths;
  }

  std::string compare(const std::string& when) const {
    const bool peer = backend_ == Backend::kPeer;
    // Kernel overlayfs numbers directories of an upper that it did not write itself in two ways.
    const bool numbers = !peer && !(backend_ == Backend::kKernel && (test_.spans_devices || test_.has_upper_content));
    const Snapshot expected = take_snapshot(ground_.plain(), {.strict = false});
    const Snapshot got = take_snapshot(ground_.mountpoint(), {.strict = numbers});
    const std::vector<std::string> lines = differences(expected, got, {.mtimes = test_.compare_mtimes});
    return lines.empty() ? "" : fmt::format("tree {}:\n    {}", when, fmt::join(lines, "\n    "));
  }

  Case& test_;
  Backend backend_;
  Ground ground_;
  Layers layers_;
  std::set<ino_t> layer_directories_;
  std::unique_ptr<Mount> mount_;  // outlives the files held open in it
  std::unique_ptr<Workplace> overlay_, plain_;
};

// How a failure begins, without its numbers: shrinking must not slide from one failure to another.
std::string family(const std::string& failure) {
  std::string text;
  for (const char c : failure.substr(0, failure.find("operation") == 0 ? 9 : 200))
    if (c < '0' || c > '9') text += c;
  return text.substr(0, 12);
}

}  // namespace

std::string describe(const Case& test) {
  std::string text = fmt::format("  options: {}\n", test.options);
  for (std::size_t i = test.layers.size(); i-- > 0;) {
    const bool upper = test.has_upper_content && i + 1 == test.layers.size();
    text += fmt::format("  {} ({} whiteouts{}):\n{}", upper ? "upper" : fmt::format("lower{}", i),
                        name_of(upper ? WhiteoutStyle::kDevice : test.style),
                        !upper && test.spans_devices && i % 2 == 1 ? ", other device" : "", describe(test.layers[i]));
  }
  text += "  operations:\n";
  for (std::size_t i = 0; i < test.ops.size(); ++i) text += fmt::format("    {}. {}\n", i, describe(test.ops[i]));
  return text;
}

Case random_case(Random& random, Backend backend) {
  Case test;
  std::vector<std::string> redirects = {"off"};
  if (backend != Backend::kPeer) redirects.push_back("on");
  if (backend == Backend::kVellum) redirects.push_back("copy");
  const std::string redirect = pick(random, redirects);
  std::vector<WhiteoutStyle> styles = {WhiteoutStyle::kDevice};
  // Kernel overlayfs reads xattr whiteouts too, but takes them for entries where it asks whether a directory is
  // empty (rmdir, rename over it: ENOTEMPTY, seen on 6.18).
  if (backend == Backend::kVellum) styles.push_back(WhiteoutStyle::kXattr);
  if (backend != Backend::kKernel) styles.push_back(WhiteoutStyle::kDotWh);
  test.style = pick(random, styles);
  // How our own whiteouts are to be written: its choice unless told.
  const std::vector<std::string> written = {"", "device", "dotwh", "xattr", "deleted-tree"};
  const std::string whiteouts = backend == Backend::kVellum ? pick(random, written) : "";
  test.features.hard_links = chance(random, 40);
  // Redirects of more than 256 bytes are refused (the kernel's redirect_max); .wh. before 255 bytes is too long.
  test.features.long_names = redirect != "on" && test.style != WhiteoutStyle::kDotWh && whiteouts != "dotwh";
  if (backend == Backend::kPeer) {
    test.features = {.hard_links = false,
                     .overlay_xattrs = false,
                     .acls = false,
                     .special_xattrs = false,
                     .odd_names = false,
                     .symlinks_in_layers = false,
                     .empty_chown = false};
  }
  test.has_upper_content = chance(random, 40);
  test.layers = random_layers(random, 2 + below(random, 4), test.features);
  test.spans_devices = !test.features.hard_links && chance(random, 30);
  // What a deleted tree hides is found by its path.
  test.directories_move = redirect != "off" && !(redirect == "on" && whiteouts == "deleted-tree");
  test.options = "redirect_dir=" + redirect;
  if (!whiteouts.empty()) test.options += ",whiteouts=" + whiteouts;
  if (redirect == "on" && chance(random, 40)) test.options += ",metacopy=on";
  // Kernel overlayfs sets a new mtime when it copies up the data of a file whose metadata it had already.
  test.compare_mtimes = backend != Backend::kKernel || !test.options.ends_with("metacopy=on");
  if (backend == Backend::kKernel) test.options += ",index=on,xino=on";
  if (backend == Backend::kVellum && test.spans_devices && chance(random, 50)) test.options += ",xino=on";
  if (backend == Backend::kVellum) {
    const auto roll = below(random, 100);
    if (roll < 35) test.options += ",passthrough=0";
    if (roll >= 35 && roll < 50) test.options += ",passthrough=upper";
    // What passes through takes a setuid or setgid bit that came after the file was opened, from root's file too.
    test.features.late_set_id = roll < 35;
  }
  // A chown that changes nothing clears setuid bits, but the kernel does not tell a FUSE server that clears them by
  // itself on writes (FUSE_HANDLE_KILLPRIV_V2), which saves it a request for each write.
  test.features.empty_chown = backend == Backend::kKernel;
  return test;
}

std::string run_case(Case& test, Backend backend, Random& random, std::size_t more) {
  return Run(test, backend).go(random, more);
}

std::optional<std::pair<Case, std::string>> shrink(const Case& test, Backend backend, double seconds) {
  const auto stop = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  const auto in_time = [&] { return std::chrono::steady_clock::now() < stop; };
  Random unused;
  Case best = test;
  std::string failure = run_case(best, backend, unused, 0);
  if (failure.empty()) return std::nullopt;
  const auto still_fails = [&](Case& smaller) {
    std::string now = run_case(smaller, backend, unused, 0);
    if (now.empty() || family(now) != family(failure)) return false;
    best = smaller;
    failure = std::move(now);
    return true;
  };
  for (std::size_t chunk = std::max<std::size_t>(best.ops.size() / 2, 1); in_time(); chunk /= 2) {
    for (std::size_t at = best.ops.size(); at > 0 && in_time();) {
      at = at > chunk ? at - chunk : 0;
      if (at >= best.ops.size()) continue;
      Case smaller = best;
      const auto from = smaller.ops.begin() + static_cast<std::ptrdiff_t>(at);
      smaller.ops.erase(from, from + static_cast<std::ptrdiff_t>(std::min(chunk, smaller.ops.size() - at)));
      still_fails(smaller);
    }
    if (chunk == 1) break;
  }
  for (std::size_t layer = 0; layer < best.layers.size(); ++layer) {
    std::vector<std::string> paths;
    for (const auto& [path, node] : best.layers[layer]) paths.push_back(path);
    for (auto path = paths.rbegin(); path != paths.rend() && in_time(); ++path) {
      Case smaller = best;
      Tree& tree = smaller.layers[layer];
      const auto next = std::next(tree.find(*path));
      const bool has_children = next != tree.end() && next->first.starts_with(*path + "/");
      const bool is_linked =
          std::any_of(tree.begin(), tree.end(), [&](const auto& e) { return e.second.link_to == *path; });
      if (has_children || is_linked) continue;
      tree.erase(*path);
      if (well_formed(smaller.layers)) still_fails(smaller);
    }
  }
  return std::pair{best, failure};
}

}  // namespace vellum::random_test
