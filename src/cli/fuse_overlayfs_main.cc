#include "cli/fuse_overlayfs_main.h"

#include <fmt/format.h>

#include <cstdio>

#include "cli/overlay_help.h"
#include "cli/overlay_mount.h"
#include "cli/overlay_options.h"
#include "cli/version.h"

namespace vellum::cli {

int fuse_overlayfs_main(const std::string& program, std::span<const std::string> arguments) {
  Environment environment = Environment::of_process();
  environment.by_mount8 = program.starts_with("mount.");
  const Parsed<OverlayCommand> command = parse_overlay_command(arguments, environment);
  if (!command) {
    fmt::print(stderr, "{}: {}\n", program, command.error());
    return 1;
  }
  switch (command->action) {
    case OverlayCommand::Action::kHelp: fmt::print("{}", overlay_help()); return 0;
    case OverlayCommand::Action::kVersion: fmt::print("{}", overlay_version_text()); return 0;
    case OverlayCommand::Action::kNothing: return 0;
    case OverlayCommand::Action::kMount: break;
  }
  for (const std::string& word : command->ignored) fmt::print(stderr, "unknown argument ignored: {}\n", word);
  for (const std::string& warning : command->warnings) fmt::print(stderr, "{}: warning: {}\n", program, warning);
  return mount_overlay(program, *command);
}

}  // namespace vellum::cli
