#include "composefs/mount.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/scope.h"
#include "sys/file.h"
#include "sys/process.h"

namespace vellum::composefs {
namespace {

std::unexpected<KernelMountError> failure(Errno error, sys::FsContext* context, const std::string& what) {
  const std::string words = context != nullptr ? context->messages() : "";
  return std::unexpected(KernelMountError{
      error, fmt::format("{}: {}{}", what, error.message(), words.empty() ? "" : " (kernel: " + words + ")")});
}

std::string path_of(sys::FdRef fd) { return fmt::format("/proc/self/fd/{}", fd.raw()); }

KernelMount mount_erofs_source(const ErofsMount& what, const std::string& source) {
  auto context = sys::FsContext::open("erofs");
  if (!context) {
    const char* advice = context.error() == ENODEV ? " (is there an erofs module?)" : "";
    return failure(context.error(), nullptr, std::string("cannot mount EROFS") + advice);
  }
  const auto configure = [&]() -> Result<sys::UniqueFd> {
    TRY(context->set("source", source));
    TRY(context->set_flag("ro"));
    if (!what.acl) TRY(context->set_flag("noacl"));
    TRY(context->create());
    sys::MountFlags flags = what.flags;
    flags.read_only = true;
    sys::UniqueFd mount = TRY(context->mount(flags));
    if (what.user_namespace) TRY(sys::map_owners(mount, what.user_namespace));
    return mount;
  };
  auto mount = configure();
  if (!mount) return failure(mount.error(), &*context, "cannot mount the image as EROFS");
  return std::move(*mount);
}

// The layer's path for kernels that take no descriptor. Taken away again when the overlay stands.
class AttachedLayer {
 public:
  ~AttachedLayer() {
    if (path_.empty()) return;
    ignore(sys::unmount_detached(path_));  // the overlay holds what it needs
    ignore(sys::remove_directory(path_));
  }
  Status attach(sys::FdRef mount) {
    std::string path = TRY(sys::make_temporary_directory());
    auto undo = on_failure([&path] { ignore(sys::remove_directory(path)); });
    const sys::UniqueFd directory = TRY(sys::open(path.c_str(), O_PATH | O_DIRECTORY));
    TRY(sys::attach(mount, directory));
    undo.done();
    path_ = std::move(path);
    return {};
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// By path where a kernel takes no descriptor: at most 255 bytes, and a backslash would mean something in it.
std::string short_path_of(sys::FdRef directory) {
  constexpr std::size_t kMost = 255;
  const std::string fd_path = path_of(directory);
  const auto path = sys::real_path(fd_path);
  return path && path->size() <= kMost && path->find('\\') == std::string::npos ? *path : fd_path;
}

Status set_directory(sys::FsContext& context, const char* key, sys::FdRef directory) {
  if (context.set_fd(key, directory)) return {};
  return context.set(key, short_path_of(directory));
}

Status add_layers(sys::FsContext& context, const OverlayMount& what, AttachedLayer& attached) {
  if (const Status by_fd = context.set_fd("lowerdir+", what.metadata); by_fd) {
    for (const sys::UniqueFd& objects : *what.objects) TRY(context.set_fd("datadir+", objects));
    return {};
  }
  TRY(attached.attach(what.metadata));
  if (const Status by_path = context.set("lowerdir+", attached.path()); by_path) {
    for (const sys::UniqueFd& objects : *what.objects) TRY(context.set("datadir+", path_of(objects)));
    return {};
  }
  std::string lower = attached.path();
  for (const sys::UniqueFd& objects : *what.objects) lower += "::" + path_of(objects);
  return context.set("lowerdir", lower);
}

}  // namespace

KernelMount mount_erofs(const ErofsMount& what) {
  auto mount = mount_erofs_source(what, path_of(what.image));
  if (mount || mount.error().error != ENOTBLK) return mount;
  auto loop = sys::attach_loop_device(what.image);
  if (!loop) return failure(loop.error(), nullptr, "cannot make a loop device, which this kernel needs for EROFS");
  return mount_erofs_source(what, loop->second);
}

KernelMount mount_fuse(sys::FdRef device, const std::string& subtype, bool allow_other) {
  auto context = sys::FsContext::open("fuse");
  if (!context) return failure(context.error(), nullptr, "cannot mount FUSE");
  const auto configure = [&]() -> Result<sys::UniqueFd> {
    TRY(context->set("source", subtype));
    TRY(context->set("subtype", subtype));
    TRY(context->set("fd", std::to_string(device.raw())));
    TRY(context->set("rootmode", "40000"));
    TRY(context->set("user_id", std::to_string(sys::effective_uid())));
    TRY(context->set("group_id", std::to_string(sys::effective_gid())));
    TRY(context->set_flag("default_permissions"));
    if (allow_other) TRY(context->set_flag("allow_other"));
    // Of all mounts of it: where times of access cannot change, the kernel does not ask for them after each listing.
    TRY(context->set_flag("ro"));
    TRY(context->create());
    return context->mount({.read_only = true});
  };
  auto mount = configure();
  if (!mount) return failure(mount.error(), &*context, "cannot mount FUSE");
  return std::move(*mount);
}

KernelMount mount_overlay(const OverlayMount& what) {
  auto context = sys::FsContext::open("overlay");
  if (!context) return failure(context.error(), nullptr, "cannot mount overlayfs");
  AttachedLayer attached;
  const auto configure = [&]() -> Result<sys::UniqueFd> {
    TRY(context->set("source", "composefs"));
    if (what.userxattr) {
      // metacopy or redirect_dir beside it would be refused in a user namespace; for data-only layers they are implied.
      TRY(context->set_flag("userxattr"));
    } else {
      TRY(context->set("metacopy", "on"));
      TRY(context->set("redirect_dir", "on"));
    }
    if (what.verify != Verify::kNo) TRY(context->set("verity", what.verify == Verify::kTry ? "on" : "require"));
    TRY(add_layers(*context, what, attached));
    if (what.upper) {
      TRY(set_directory(*context, "upperdir", what.upper));
      TRY(set_directory(*context, "workdir", what.work));
    }
    TRY(context->create());
    return context->mount(what.flags);
  };
  auto mount = configure();
  if (!mount) return failure(mount.error(), &*context, "cannot mount overlayfs over the image");
  return std::move(*mount);
}

}  // namespace vellum::composefs
