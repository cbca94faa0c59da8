// Whiteouts as a tree of their own: `.deleted/a/b`, an empty regular file at the root of a layer, says that the layers
// below have no a/b. Directories in it are structure only. The name `.deleted` itself is hidden. An object beside its
// mark counts; a directory beside its mark does not merge with those below.
#include <dirent.h>

#include <limits>

#include "overlay/overlay.h"

namespace vellum::overlay {
namespace {

constexpr const char* kTree = ".deleted";

}  // namespace

bool Overlay::is_deleted_tree(const Node& dir, std::string_view name) const {
  return reads_deleted() && dir.parent == nullptr && name == kTree;
}

Result<sys::UniqueFd> Overlay::deleted_dir(const Node& dir, LayerIndex index) {
  const std::string path = path_in(dir, index);
  return with_fds([&] {
    return sys::open_beneath(*layer(index).root, path.empty() ? kTree : kTree + ("/" + path), O_RDONLY | O_DIRECTORY);
  });
}

bool Overlay::in_deleted_tree(const Node& parent, LayerIndex index, std::string_view name) {
  if (!reads_deleted()) return false;
  const auto dir = deleted_dir(parent, index);
  if (!dir) return false;
  const auto mark = sys::statx(*dir, CName(name));
  return mark && mark->is_regular();
}

bool Overlay::hidden_beside(const Node& parent, LayerIndex index, sys::FdRef dir, std::string_view name) {
  return sys::statx(dir, CName(kWhPrefix, name)).has_value() || in_deleted_tree(parent, index, name);
}

LayerIndex Overlay::first_deleted(const Node& parent, std::string_view name) {
  if (!reads_deleted()) return std::numeric_limits<LayerIndex>::max();
  LayerIndex index = 1;
  while (index < layers_.size() && !in_deleted_tree(parent, index, name)) ++index;
  return index;
}

Status Overlay::for_each_deleted(const Node& dir, LayerIndex index,
                                 const std::function<void(std::string_view)>& visit) {
  if (!reads_deleted()) return {};
  const auto tree = deleted_dir(dir, index);
  if (!tree) return tree.error() == ENOENT || tree.error() == ENOTDIR ? Status{} : fail(tree.error());
  std::vector<std::string> unsure;
  TRY(sys::read_dir(*tree, [&](std::string_view name, std::uint64_t, unsigned char type) {
    if (type == DT_REG) visit(name);
    if (type == DT_UNKNOWN) unsure.emplace_back(name);
    return true;
  }));
  for (const std::string& name : unsure) {
    if (const auto mark = sys::statx(*tree, CName(name)); mark && mark->is_regular()) visit(name);
  }
  return {};
}

Status Overlay::add_deleted(const Node& parent, std::string_view name) {
  sys::UniqueFd at = TRY(with_fds([&] { return sys::openat(*upper_->root, ".", O_PATH | O_DIRECTORY); }));
  std::string path = kTree;
  if (const std::string below = path_in(parent, 0); !below.empty()) path += "/" + below;
  for (std::string_view rest = path; !rest.empty();) {
    const auto slash = std::min(rest.find('/'), rest.size());
    const CName component(rest.substr(0, slash));
    rest.remove_prefix(std::min(slash + 1, rest.size()));
    const sys::Statx before = TRY(sys::statx(at, ""));
    const auto made = sys::mkdir(at, component, 0755);
    if (!made && made.error() != EEXIST) return made;
    // For the caller nothing has changed in the root.
    if (made) ignore(sys::utimens(at, "", before.atime, before.mtime));
    auto next = with_fds([&] { return sys::openat(at, component, O_PATH | O_DIRECTORY); });
    if (!next && next.error() == ENOTDIR) return {};  // a directory above hides all that lies below it
    if (!next) return fail(next.error());
    at = std::move(*next);
  }
  const CName mark(name);
  const auto made = sys::openat(at, mark, O_CREAT | O_EXCL | O_WRONLY, 0644);
  if (made || made.error() != EEXIST) return made ? Status{} : fail(made.error());
  if (TRY(sys::statx(at, mark)).is_regular()) return {};
  // Marks of names in a directory that is now removed itself.
  const std::string old = work_name("deleted");
  TRY(sys::rename(at, mark, *work_, old.c_str()));
  remove_tree_in_work(old);
  TRY(sys::openat(at, mark, O_CREAT | O_WRONLY, 0644));
  return {};
}

void Overlay::remove_deleted(const Node& parent, std::string_view name) {
  if (!reads_deleted() || !in_deleted_tree(parent, 0, name)) return;
  if (const auto dir = deleted_dir(parent, 0)) ignore(sys::unlink(*dir, CName(name)));  // left over, it hides nothing
}

}  // namespace vellum::overlay
