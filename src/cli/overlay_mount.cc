#include "cli/overlay_mount.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "cli/mount_stats.h"
#include "overlay/overlay.h"
#include "sys/file.h"

namespace vellum::cli {
namespace {

fuse::MountOptions mount_options(const MountSettings& settings, bool writable) {
  return {.mountpoint = settings.mountpoint,
          .subtype = settings.subtype,
          .source = settings.source,
          .selinux_context = settings.selinux_context,
          .flags = {.read_only = settings.read_only || !writable,
                    .nosuid = !settings.suid,
                    .nodev = !settings.dev,
                    .noexec = !settings.exec,
                    .noatime = !settings.atime,
                    .nodiratime = !settings.diratime,
                    .synchronous = settings.sync,
                    .dirsync = settings.dirsync},
          .allow_other = settings.allow_other,
          .default_permissions = settings.default_permissions};
}

fuse::Wishes wishes(const OverlayCommand& command) {
  fuse::Wishes wishes;
  wishes.writeback_cache = command.overlay.writeback;
  wishes.passthrough = command.mount.passthrough;
  wishes.posix_acl = !command.overlay.no_acl && !command.overlay.no_xattrs;
  wishes.readdirplus_auto = false;  // the engine leaves attributes out where they do not pay
  wishes.export_support = command.overlay.nfs_filehandles;
  wishes.io_uring = command.mount.io_uring != MountSettings::IoUring::kOff;
  wishes.splice = command.mount.splice;
  if (command.mount.max_write) wishes.max_write = *command.mount.max_write;
  if (command.mount.max_background) {
    constexpr std::uint32_t kMost = std::numeric_limits<std::uint16_t>::max();
    wishes.max_background = static_cast<std::uint16_t>(std::min(*command.mount.max_background, kMost));
  }
  return wishes;
}

unsigned thread_count(const MountSettings& settings) {
  if (!settings.threaded) return 1;
  if (settings.max_threads) return *settings.max_threads;
  // Requests mostly wait for the disk: a few more threads than cores, and never so many that idle ones cost.
  return std::clamp(2 * std::thread::hardware_concurrency(), 4u, 16u);
}

void start_logging(const OverlayCommand& command) {
  if (command.debug || !command.debug_log.empty()) log::set_debug(true);
  if (!command.debug_log.empty() && !log::set_debug_file(command.debug_log.c_str())) {
    log::warning("FUSE_OVERLAYFS_DEBUG_LOG={}: cannot write there; going on without", command.debug_log);
  }
}

int serve_overlay(const std::string& program, const OverlayCommand& command, fuse::Daemon& daemon) {
  auto overlay = overlay::Overlay::create(command.overlay);
  if (!overlay) return daemon.fail(fmt::format("{}: {}", program, overlay.error().why));
  overlay::Overlay& engine = **overlay;
  Serving what = serving(command, program, engine.writable());
  what.on_workers = [&engine](unsigned workers) { engine.set_workers(workers); };
  what.on_session = [&engine](const fuse::Session& session) {
    engine.set_stats_text([&session, &engine] { return mount_stats_json(session, engine); });
  };
  what.report = [&engine](const fuse::Session& session) { return mount_stats_line(session, engine); };
  return serve(engine, what, daemon);
}

}  // namespace

Serving serving(const OverlayCommand& command, std::string program, bool writable) {
  return {.program = std::move(program),
          .mount = mount_options(command.mount, writable),
          .wishes = wishes(command),
          .threads = thread_count(command.mount),
          .ring_threads = command.mount.max_threads.value_or(0),
          .io_uring_wanted = command.mount.io_uring == MountSettings::IoUring::kOn,
          .foreground = command.foreground,
          .on_mount = {},
          .on_workers = {},
          .on_session = {},
          .report = {}};
}

int mount_overlay(const std::string& program, const OverlayCommand& command) {
  const int code = start(
      program, command.foreground, [&command] { start_logging(command); },
      [&](fuse::Daemon& daemon) { return serve_overlay(program, command, daemon); });
  // The kernel takes the root for root's own until it has asked once, and would refuse its owner's first chmod.
  if (code == 0 && !command.foreground) ignore(sys::statx_path(command.mount.mountpoint.c_str()));
  return code;
}

}  // namespace vellum::cli
