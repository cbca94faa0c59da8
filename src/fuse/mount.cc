#include "fuse/mount.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>
#include <vector>

#include "base/log.h"
#include "base/scope.h"
#include "sys/capabilities.h"
#include "sys/fuse_device.h"
#include "sys/packet_socket.h"
#include "sys/process.h"

namespace vellum::fuse {
namespace {

constexpr const char* kMountProgram = "fusermount3";

std::unexpected<MountError> failure(Errno error, std::string message) {
  return std::unexpected(MountError{error, std::move(message)});
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

// fusermount3 splits its options at commas.
std::string escaped(const std::string& value) {
  std::string text;
  for (const char c : value) {
    if (c == ',' || c == '\\') text += '\\';
    text += c;
  }
  return text;
}

std::string source_of(const MountOptions& options) {
  if (!options.source.empty()) return options.source;
  return options.subtype.empty() ? "fuse" : options.subtype;
}

// The options that mean the same to mount(2)'s data and to fusermount3.
std::string common_data(const MountOptions& options) {
  std::string data;
  if (options.default_permissions) data += ",default_permissions";
  if (options.allow_other) data += ",allow_other";
  if (options.max_read != 0) data += fmt::format(",max_read={}", options.max_read);
  return data;
}

// Container tools name a label wherever they run, but the kernel takes one only with SELinux, and from nobody in
// another user namespace than its own.
std::string label_data(const MountOptions& options) {
  if (options.selinux_context.empty()) return {};
  if (sys::privileges().sys_admin && sys::has_selinux()) return fmt::format(",context=\"{}\"", options.selinux_context);
  log::debug("context={}: left out, files have the labels that the policy says", options.selinux_context);
  return {};
}

Status mount_directly(const MountOptions& options, const std::string& path, std::uint32_t root_type,
                      const sys::UniqueFd& device) {
  const std::string data =
      fmt::format("fd={},rootmode={:o},user_id={},group_id={}{}{}", device.raw(), root_type, sys::effective_uid(),
                  sys::effective_gid(), common_data(options), label_data(options));
  const std::string type = options.subtype.empty() ? "fuse" : "fuse." + options.subtype;
  return sys::mount(source_of(options), path, type, options.flags, data);
}

std::string program_options(const MountOptions& options) {
  const sys::MountFlags& flags = options.flags;
  std::string text = flags.read_only ? "ro" : "rw";
  const auto add = [&text](bool on, const char* word) {
    if (on) text += word;
  };
  add(flags.nosuid, ",nosuid");
  add(flags.nodev, ",nodev");
  add(flags.noexec, ",noexec");
  add(flags.noatime, ",noatime");
  // It knows no nodiratime; noatime says as much of directories.
  add(flags.relatime, ",relatime");
  add(flags.strictatime, ",strictatime");
  add(flags.synchronous, ",sync");
  add(flags.dirsync, ",dirsync");
  text += ",fsname=" + escaped(source_of(options));
  if (!options.subtype.empty()) text += ",subtype=" + escaped(options.subtype);
  return text + common_data(options);
}

// Runs the program, which mounts and sends the device over the socket that _FUSE_COMMFD names.
std::expected<sys::UniqueFd, MountError> mount_by_program(const MountOptions& options, const std::string& path) {
  auto ends = sys::stream_socket_pair();
  if (!ends) return failure(ends.error(), fmt::format("cannot make a socket pair: {}", ends.error().message()));
  auto& [ours, theirs] = *ends;
  auto child =
      sys::start_program({kMountProgram, "-o", program_options(options), "--", path}, {"_FUSE_COMMFD=3"}, theirs);
  if (!child) {
    return failure(child.error(), fmt::format("cannot run {}: {}; mounting {} without privileges needs it (Debian "
                                              "package fuse3)",
                                              kMountProgram, child.error().message(), path));
  }
  theirs.reset();
  auto device = sys::receive_fd(ours);
  const std::string words = trimmed(sys::read_to_end(child->errors, 4096));
  const auto ended = sys::wait_for(child->pid);
  if (device && ended && ended->success()) return std::move(*device);
  return failure(Errno(EPERM), fmt::format("cannot mount {}: {}", path,
                                           words.empty() ? std::string(kMountProgram) + " failed" : words));
}

Status unmount_by_program(const std::string& path) {
  const auto child = TRY(sys::start_program({kMountProgram, "-u", "-q", "-z", "--", path}, {}, sys::FdRef()));
  ignore(sys::read_to_end(child.errors, 4096));  // it says in words what its exit status says too
  const auto ended = TRY(sys::wait_for(child.pid));
  if (!ended.success()) return fail(EPERM);
  return {};
}

std::string advice_for_device(Errno error) {
  switch (error.value()) {
    case ENOENT:
    case ENODEV:
    case ENXIO: return "is the fuse module loaded (modprobe fuse), and the device given to this container?";
    case EACCES:
    case EPERM: return "this user may not open it: ask for read and write permission on the device";
    default: return "FUSE is not usable here";
  }
}

}  // namespace

Mount::Mount(Mount&& other) noexcept { *this = std::move(other); }

Mount& Mount::operator=(Mount&& other) noexcept {
  if (this == &other) return *this;
  ignore(unmount());
  device_ = std::move(other.device_);
  path_ = std::exchange(other.path_, {});
  id_ = other.id_;
  by_program_ = other.by_program_;
  mounted_ = other.mounted_.exchange(false);
  return *this;
}

Mount::~Mount() { ignore(unmount()); }  // there is nobody left to tell

Result<std::string> Mount::place() const {
  if (const auto there = sys::mount_id(path_); there && *there == id_) return path_;
  return sys::mount_point(id_);
}

Status Mount::sync() const { return sys::sync_file_system(TRY(place())); }

Status Mount::unmount() {
  if (!mounted_.exchange(false)) return {};
  const auto path = place();
  if (!path) return {};
  const Status direct = sys::unmount_detached(*path);
  if (direct) return {};
  // EINVAL: no longer a mount point. ENOENT, ENOTCONN: gone with what it lay on.
  if (direct.error() == EINVAL || direct.error() == ENOENT) return {};
  if (direct.error() == EPERM && by_program_) return unmount_by_program(*path);
  return direct;
}

std::expected<Mount, MountError> mount(const MountOptions& options) {
  const auto path = sys::real_path(options.mountpoint);
  if (!path) {
    if (path.error() == ENOTCONN)
      return failure(path.error(), fmt::format("mountpoint {}: a dead FUSE mount lies there; take it away with: "
                                               "fusermount3 -u {}",
                                               options.mountpoint, options.mountpoint));
    return failure(path.error(), fmt::format("mountpoint {}: {}", options.mountpoint, path.error().message()));
  }
  const auto type = sys::file_type(*path);
  if (!type) {
    const char* advice =
        type.error() == ENOTCONN ? "; a dead FUSE mount lies there, take it away with fusermount3 -u" : "";
    return failure(type.error(), fmt::format("mountpoint {}: {}{}", *path, type.error().message(), advice));
  }
  if (*type != S_IFDIR)
    return failure(Errno(ENOTDIR), fmt::format("mountpoint {}: {}", *path, Errno(ENOTDIR).message()));

  Mount made;
  made.path_ = *path;
  auto device = sys::open_fuse_device();
  if (!device && device.error() != EACCES && device.error() != EPERM) {
    return failure(device.error(), fmt::format("cannot open {}: {}; {}", sys::kFuseDevicePath, device.error().message(),
                                               advice_for_device(device.error())));
  }
  if (device) {
    const Status direct = mount_directly(options, *path, *type, *device);
    if (direct) {
      made.device_ = std::move(*device);
      made.mounted_ = true;
      made.id_ = sys::mount_id(made.path_).value_or(sys::MountId{});
      return made;
    }
    if (direct.error() != EPERM)
      return failure(direct.error(), fmt::format("cannot mount {}: {}{}", *path, direct.error().message(),
                                                 direct.error() == ENODEV ? "; this kernel has no FUSE" : ""));
    device->reset();
  }
  auto by_program = mount_by_program(options, *path);
  if (!by_program) {
    MountError error = std::move(by_program.error());
    if (!device) error.message += fmt::format("; and {}: {}", sys::kFuseDevicePath, advice_for_device(device.error()));
    return std::unexpected(std::move(error));
  }
  made.device_ = std::move(*by_program);
  made.by_program_ = true;
  made.mounted_ = true;
  made.id_ = sys::mount_id(made.path_).value_or(sys::MountId{});
  return made;
}

}  // namespace vellum::fuse
