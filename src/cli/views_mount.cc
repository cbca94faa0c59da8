#include "cli/views_mount.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/log.h"
#include "cli/overlay_mount.h"
#include "cli/version.h"
#include "fuse/channel.h"
#include "fuse/daemon.h"
#include "fuse/mount.h"
#include "fuse/session.h"
#include "fuse/stop_signals.h"
#include "fuse/write_out.h"
#include "sys/file.h"
#include "sys/mount_calls.h"
#include "sys/process.h"
#include "sys/uring_permit.h"
#include "views/views.h"

namespace vellum::cli {
namespace {

constexpr const char* kProgram = "vellum views";

// The options that views share with an overlay, read by the same rules.
Parsed<OverlayCommand> overlay_part(const ViewsCommand& command) {
  std::string list = "lowerdir=unused";
  for (const std::string& options : command.options) list += "," + options;
  if (!command.whiteouts.empty()) list += ",whiteouts=" + command.whiteouts;
  const std::vector<std::string> words = {"-o", list, command.mountpoint};
  auto parsed = parse_overlay_command(words, Environment::of_process());
  if (!parsed) return parsed;
  if (!parsed->overlay.upper_dir.empty() || !parsed->overlay.work_dir.empty() ||
      parsed->overlay.lower_dirs != std::vector<std::string>{"unused"}) {
    return std::unexpected("lowerdir=, upperdir= and workdir= are what each process says for itself");
  }
  parsed->overlay.lower_dirs.clear();
  // Layers that users name must not lend them root's rights, unless whoever mounts says so.
  const auto asked = [&list](std::string_view word) {
    return std::ranges::any_of(split_options(list), [&](const OptionText& option) { return option.name == word; });
  };
  parsed->mount.suid = asked("suid");
  parsed->mount.dev = asked("dev");
  parsed->foreground = command.foreground;
  parsed->debug = command.debug;
  return parsed;
}

std::string stats_json(const fuse::Session& session, const views::Views& views) {
  using Json = nlohmann::ordered_json;
  const overlay::OverlayStats stats = views.original().stats();
  const fuse::Connection connection = session.connection();
  Json json = {{"version", vellum_version()}};
  json.update(Json::parse(fuse::to_json(session.stats()), nullptr, false));
  json["passthrough"] = connection.passthrough;
  json["writeback_cache"] = connection.writeback_cache;
  json["overlay"] = {{"nodes", stats.nodes}, {"open_handles", stats.open_handles}};
  return json.dump();
}

int serve(const ViewsCommand& command, const OverlayCommand& shared, fuse::Daemon& daemon) {
  const auto refuse = [&](const std::string& why) { return daemon.fail(fmt::format("{}: {}", kProgram, why)); };
  const auto place = sys::real_path(command.mountpoint);
  if (!place) return refuse(fmt::format("{}: {}", command.mountpoint, place.error().message()));
  auto original = sys::open(place->c_str(), O_RDONLY | O_DIRECTORY);
  if (!original) return refuse(fmt::format("{}: {}", *place, original.error().message()));

  auto made =
      views::Views::create({.mountpoint = *place,
                            .resolver = {.prefix = command.prefix, .strict = command.strict, .denied = command.denied},
                            .engine = shared.overlay,
                            .shared_depth = command.shared_depth,
                            .idle = std::chrono::milliseconds(command.idle_milliseconds)},
                           std::move(*original));
  if (!made) return refuse(made.error());
  views::Views& filesystem = **made;

  // As for an overlay: the kernel decides at the moment of mounting whether io_uring is offered.
  std::optional<sys::UringPermit> permit;
  if (shared.mount.io_uring == MountSettings::IoUring::kOn) {
    if (auto taken = sys::UringPermit::take()) permit.emplace(std::move(*taken));
  }
  auto mount = fuse::mount(mount_options(shared.mount, true));
  if (!mount) return refuse(mount.error().message);
  if (const auto device = sys::device_of(mount->path())) filesystem.mounted_as(*device);
  if (!command.foreground) log::log_to_syslog(kProgram);
  fuse::Session session(filesystem, {.wishes = wishes(shared),
                                     .ring_threads = shared.mount.max_threads.value_or(0),
                                     .on_ready = [&](unsigned workers) {
                                       permit.reset();
                                       filesystem.set_workers(workers);
                                       daemon.ready();
                                     }});
  filesystem.set_stats_text([&] { return stats_json(session, filesystem); });
  std::jthread stopper;
  const fuse::StopSignals signals({
      .stop =
          [&](int) {
            if (stopper.joinable()) sys::exit_now(1);
            stopper = std::jthread([&] {
              fuse::write_out(*mount, session);
              ignore(mount->unmount());  // already gone, or gone with the connection that stop() ends
              session.stop();
            });
          },
      .report = [&] { log::warning("{}", stats_json(session, filesystem)); },
  });
  const unsigned threads = thread_count(shared.mount);
  filesystem.set_workers(threads);
  const Status served = session.run(std::make_unique<fuse::DeviceChannel>(mount->take_device()), threads);
  if (!served) return refuse(fmt::format("serving {} ended: {}", mount->path(), served.error().message()));
  return 0;
}

}  // namespace

int mount_views(const ViewsCommand& command) {
  auto shared = overlay_part(command);
  if (!shared) {
    fmt::print(stderr, "{}: {}\n", kProgram, shared.error());
    return 1;
  }
  for (const std::string& word : shared->ignored) fmt::print(stderr, "unknown argument ignored: {}\n", word);
  if (shared->mount.subtype.empty() || shared->mount.subtype == "fuse-overlayfs")
    shared->mount.subtype = "vellum-views";
  if (shared->mount.source.empty() || shared->mount.source == "fuse-overlayfs") shared->mount.source = "vellum-views";
  if (const Status blocked = fuse::StopSignals::block(); !blocked) {
    log::error("{}: cannot block signals: {}", kProgram, blocked.error().message());
    return 1;
  }
  sys::raise_open_file_limit();
  if (command.debug) log::set_debug(true);
  sys::clear_umask();
  if (command.foreground) {
    fuse::Daemon daemon = fuse::Daemon::foreground();
    return serve(command, *shared, daemon);
  }
  auto daemon = fuse::Daemon::start();
  if (!daemon) {
    log::error("{}: cannot go to the background: {}", kProgram, daemon.error().message());
    return 1;
  }
  if (!daemon->is_parent()) return serve(command, *shared, *daemon);
  return daemon->wait();
}

}  // namespace vellum::cli
