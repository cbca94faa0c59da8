#include "cli/overlay_mount.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <optional>
#include <thread>

#include "base/log.h"
#include "cli/mount_stats.h"
#include "fuse/channel.h"
#include "fuse/daemon.h"
#include "fuse/mount.h"
#include "fuse/session.h"
#include "fuse/stop_signals.h"
#include "fuse/write_out.h"
#include "overlay/overlay.h"
#include "sys/file.h"
#include "sys/process.h"
#include "sys/uring_permit.h"

namespace vellum::cli {

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

namespace {

void start_logging(const OverlayCommand& command) {
  if (command.debug || !command.debug_log.empty()) log::set_debug(true);
  if (!command.debug_log.empty() && !log::set_debug_file(command.debug_log.c_str())) {
    log::warning("FUSE_OVERLAYFS_DEBUG_LOG={}: cannot write there; going on without", command.debug_log);
  }
}

// The serving process, from opened layers to an unmounted tree.
int serve(const std::string& program, const OverlayCommand& command, fuse::Daemon& daemon) {
  auto overlay = overlay::Overlay::create(command.overlay);
  if (!overlay) return daemon.fail(fmt::format("{}: {}", program, overlay.error()));
  overlay::Overlay& engine = **overlay;

  // The kernel offers io_uring, or does not, at the moment of mounting. Asked for by name, it is switched on until
  // then.
  std::optional<sys::UringPermit> permit;
  if (command.mount.io_uring == MountSettings::IoUring::kOn) {
    if (auto taken = sys::UringPermit::take()) permit.emplace(std::move(*taken));
  }
  auto mount = fuse::mount(mount_options(command.mount, engine.writable()));
  if (!mount) return daemon.fail(fmt::format("{}: {}", program, mount.error().message));

  if (!command.foreground) log::log_to_syslog(program.c_str());
  std::function<bool()> over_io_uring;
  const auto ready = [&](unsigned workers) {
    permit.reset();
    engine.set_workers(workers);
    if (command.mount.io_uring == MountSettings::IoUring::kOn && !over_io_uring())
      log::warning("io_uring=1: not possible here, going on with /dev/fuse (is {} Y? see docs/troubleshooting.md)",
                   sys::UringPermit::kSwitch);
    daemon.ready();
  };
  fuse::Session session(
      engine, {.wishes = wishes(command), .ring_threads = command.mount.max_threads.value_or(0), .on_ready = ready});
  over_io_uring = [&session] { return session.over_io_uring(); };
  engine.set_stats_text([&session, &engine] { return mount_stats_json(session, engine); });
  std::jthread stopper;
  const fuse::StopSignals signals({
      .stop =
          [&session, &mount, &stopper](int) {
            // Somebody is in a hurry, or a layer does not answer.
            if (stopper.joinable()) sys::exit_now(1);
            stopper = std::jthread([&session, &mount] {
              fuse::write_out(*mount, session);
              ignore(mount->unmount());  // already gone, or gone with the connection that stop() ends
              session.stop();
            });
          },
      // A warning, because only those reach syslog from the background.
      .report = [&session, &engine] { log::warning("{}", mount_stats_line(session, engine)); },
  });

  engine.set_workers(thread_count(command.mount));  // ready() says how many there are in the end
  const Status served =
      session.run(std::make_unique<fuse::DeviceChannel>(mount->take_device()), thread_count(command.mount));
  if (!served)
    return daemon.fail(fmt::format("{}: serving {} ended: {}", program, mount->path(), served.error().message()));
  return 0;
}

}  // namespace

int mount_overlay(const std::string& program, const OverlayCommand& command) {
  if (const Status blocked = fuse::StopSignals::block(); !blocked) {
    log::error("{}: cannot block signals: {}", program, blocked.error().message());
    return 1;
  }
  sys::raise_open_file_limit();
  start_logging(command);  // the log file gets the caller's umask
  sys::clear_umask();

  if (command.foreground) {
    fuse::Daemon daemon = fuse::Daemon::foreground();
    return serve(program, command, daemon);
  }
  auto daemon = fuse::Daemon::start();
  if (!daemon) {
    log::error("{}: cannot go to the background: {}", program, daemon.error().message());
    return 1;
  }
  if (!daemon->is_parent()) return serve(program, command, *daemon);
  const int code = daemon->wait();
  // The kernel takes the root for root's own until it has asked once, and would refuse its owner's first chmod.
  if (code == 0) ignore(sys::statx_path(command.mount.mountpoint.c_str()));
  return code;
}

}  // namespace vellum::cli
