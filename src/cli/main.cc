// One binary, several names: what it does follows from the name that it was called by, else from its first word.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command_line.h"
#include "cli/fuse_overlayfs_main.h"
#include "cli/image_listing.h"
#include "cli/image_main.h"
#include "cli/image_mount.h"
#include "cli/mkcomposefs_main.h"
#include "cli/stats_main.h"
#include "cli/version.h"
#include "cli/views_list.h"
#include "cli/views_mount.h"
#include "cli/views_run.h"
#include "sys/process.h"
#include "views/markers.h"

namespace vellum::cli {
namespace {

// Names under which the binary is a drop-in for fuse-overlayfs, also as a helper of mount(8).
constexpr std::array<std::string_view, 4> kOverlayNames{"fuse-overlayfs", "mount.fuse-overlayfs", "mount.vellum",
                                                        "mount.fuse.vellum"};

// The helper of mount -t composefs.
constexpr std::string_view kImageMountName = "mount.composefs";

std::string base_name(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

int vellum_main(std::vector<std::string> arguments) {
  // Behind `overlay` stands the mount-style command line, which has rules of its own.
  if (!arguments.empty() && arguments.front() == "overlay") {
    return fuse_overlayfs_main("vellum overlay", std::span(arguments).subspan(1));
  }

  if (arguments.size() >= 2 && arguments[0] == "image" && arguments[1] == "mount") {
    return image_mount_main("vellum image mount", std::span(arguments).subspan(2));
  }
  if (!arguments.empty() && arguments.front() == "image")
    return image_main(std::vector<std::string>(arguments.begin() + 1, arguments.end()));

  CLI::App app("vellum: union file systems in user space", "vellum");
  app.require_subcommand(1);
  app.set_version_flag("-V,--version", "vellum " + vellum_version());
  app.footer("The same binary called as fuse-overlayfs takes fuse-overlayfs's command line.\nSee vellum(1).");
  app.add_subcommand("overlay", "Mount layers as one tree; same options as fuse-overlayfs (vellum overlay --help)");
  app.add_subcommand("image", "Make, look into, compare, check and mount images of trees (vellum image --help)");
  StatsCommand stats;
  CLI::App* stats_app = app.add_subcommand("stats", "Show the counters of a running mount");
  stats_app->add_option("MOUNT", stats.mountpoint, "the mount's root directory")->required();
  stats_app->add_flag("--json", stats.json, "print the counters as JSON");

  ViewsCommand views;
  CLI::App* views_app =
      app.add_subcommand("views", "Mount over a directory; every process may have its own overlay of it");
  views_app->add_option("MOUNTPOINT", views.mountpoint, "the directory; it stays as it is for processes without a view")
      ->required();
  views_app->add_option("-o", views.options, "options as of vellum overlay (vellum overlay --help)")
      ->allow_extra_args(false);
  views_app->add_option("--env-prefix", views.prefix, "markers are NAME_LOWER, NAME_UPPER, NAME_WORK")
      ->capture_default_str();
  views_app->add_flag("--strict", views.strict,
                      "refuse processes that cannot be told, instead of passing them through");
  views_app->add_option("--deny", views.denied, "executables that get ENOTSUP")->allow_extra_args(false);
  views_app->add_option("--whiteouts", views.whiteouts, "how removed names are kept in upper");
  views_app->add_option("--shared-depth", views.shared_depth, "levels of directories that all views share")
      ->capture_default_str();
  views_app->add_option("--idle", views.idle_milliseconds, "milliseconds that a view stays unused")
      ->capture_default_str();
  views_app->add_flag("-f,--foreground", views.foreground, "stay in the foreground");
  views_app->add_flag("-d,--debug", views.debug, "every request on stderr");
  views_app->add_flag("--list", views.list, "show the live views of a mount");
  views_app->add_flag("--json", views.json, "with --list: as JSON");

  RunCommand run;
  std::string lowers;
  CLI::App* run_app = app.add_subcommand("run", "Run a command in a view of its own");
  run_app->add_option("--lower", lowers, "lower directories, topmost first, separated by colons");
  run_app->add_option("--upper", run.upper, "the directory that takes all changes");
  run_app->add_option("--work", run.work, "a work directory; by default one is made beside upper");
  run_app->add_option("--at", run.at, "the mount point; mounted if nothing serves it yet");
  run_app->add_option("--env-prefix", run.prefix, "markers are NAME_LOWER, NAME_UPPER, NAME_WORK")
      ->capture_default_str();
  run_app->add_flag("--namespace", run.own_namespace, "mount in a namespace of the command's own instead");
  run_app->add_option("--inside", run.inside)->group("");
  std::vector<std::string> there_is_one;
  run_app->add_option("COMMAND", there_is_one, "the command and its arguments")->required();

  if (arguments.empty()) {
    fmt::print(stderr, "{}", app.help());
    return 1;
  }
  const std::string word = arguments.front();
  if (!word.starts_with('-') &&
      app.get_subcommands([&word](CLI::App* each) { return each->check_name(word); }).empty()) {
    fmt::print(stderr, "vellum: no command is named '{}' (try vellum --help)\n", word);
    return 1;
  }
  if (word == "run") {  // whose command is not for CLI11 to read
    run.command = take_command(*run_app, arguments, 1);
    if (!run.command.empty()) arguments.emplace_back("COMMAND");
  }
  if (const auto said = parse_words(app, arguments)) return *said;
  if (*views_app) return views.list ? list_views(views.mountpoint, views.json) : mount_views(views);
  if (*run_app) {
    run.lowers = views::split_layers(lowers);
    return run_in_view(std::move(run));
  }
  return run_stats(stats);
}

int run_as(const std::string& name, const std::vector<std::string>& arguments) {
  if (std::ranges::find(kOverlayNames, name) != kOverlayNames.end()) return fuse_overlayfs_main(name, arguments);
  if (name == kImageMountName) return image_mount_main(name, arguments);
  if (name == "mkcomposefs") return mkcomposefs_main(name, arguments);
  if (name == "composefs-info") return composefs_info_main(name, arguments);
  if (name == "composefs-dump") return composefs_dump_main(name, arguments);
  return vellum_main(arguments);
}

}  // namespace
}  // namespace vellum::cli

int main(int argc, char** argv) {
  using namespace vellum::cli;
  vellum::sys::occupy_standard_streams();
  try {
    const std::span<char*> words(argv, static_cast<std::size_t>(argc));
    const std::string name = words.empty() ? "vellum" : base_name(words.front());
    const std::vector<std::string> arguments(words.begin() + (words.empty() ? 0 : 1), words.end());
    const int status = run_as(name, arguments);
    if (status != 0 || finish_output()) return status;
    std::perror((name + ": cannot write").c_str());
    return 1;
  } catch (const std::exception& error) {  // out of memory: no work is under way that could be saved
    std::fputs(error.what(), stderr);
    std::fputc('\n', stderr);
    return 1;
  }
}
