#include "cli/views_mount.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "cli/mount_stats.h"
#include "cli/overlay_mount.h"
#include "cli/serve.h"
#include "sys/file.h"
#include "sys/mount_calls.h"
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
  if (parsed->overlay.nfs_filehandles) {
    return std::unexpected("nfs_filehandles: who opens a file by its handle may be in another view, or in none");
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
  const overlay::OverlayStats stats = views.original().stats();
  return with_session_stats(session, {{"overlay", {{"nodes", stats.nodes}, {"open_handles", stats.open_handles}}}});
}

int serve_views(const ViewsCommand& command, const OverlayCommand& shared, fuse::Daemon& daemon) {
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

  Serving what = serving(shared, kProgram, true);
  // By this number a path from a marker is kept out of the mount itself.
  what.on_mount = [&](const fuse::Mount& mount) -> Status {
    filesystem.mounted_as(TRY(sys::device_of(mount.path())));
    return {};
  };
  what.on_workers = [&](unsigned workers) { filesystem.set_workers(workers); };
  what.on_session = [&](const fuse::Session& session) {
    filesystem.set_stats_text([&] { return stats_json(session, filesystem); });
  };
  what.report = [&](const fuse::Session& session) { return stats_json(session, filesystem); };
  return serve(filesystem, what, daemon);
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
  return start(
      kProgram, command.foreground, [&] { log::set_debug(command.debug); },
      [&](fuse::Daemon& daemon) { return serve_views(command, *shared, daemon); });
}

}  // namespace vellum::cli
