// The drop-in's command line (`fuse-overlayfs [-f] [-d] -o opt[,opt…] [source] mountpoint`) as typed values.
//
// parse_overlay_command() reads text only: whether a directory exists or a work directory is on the right device
// is checked by Overlay::create. Unknown words are collected in `ignored` and never an error, because container
// tools and mount(8) pass options that are meant for somebody else. A known option with a bad value is an error.
// Errors: one line that names the option and its value. Threads: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/option_text.h"
#include "overlay/options.h"

namespace vellum::cli {

// How the mount is made and served, as asked for. Numbers that were not given are chosen by the session.
struct MountSettings {
  std::string mountpoint;
  std::string source;  // fsname=, else the word before the mountpoint, else empty
  std::string subtype;
  std::string selinux_context;

  bool allow_other = false;
  bool default_permissions = true;
  bool read_only = false;
  bool suid = false;
  bool dev = false;
  bool exec = true;
  bool atime = false;
  bool diratime = true;
  bool sync = false;
  bool dirsync = false;

  bool threaded = true;
  bool passthrough = true;
  enum class IoUring { kAuto, kOn, kOff };
  IoUring io_uring = IoUring::kAuto;
  bool splice = true;
  std::optional<std::uint32_t> max_threads, max_write, max_background;
};

struct OverlayCommand {
  enum class Action { kMount, kNothing, kHelp, kVersion };
  Action action = Action::kMount;
  bool foreground = false;
  bool debug = false;
  std::string debug_log;  // a file for debug lines
  overlay::Options overlay;
  MountSettings mount;
  std::vector<std::string> ignored;   // words nobody here knows
  std::vector<std::string> warnings;  // said once, then go on
};

// What the parser needs to know of the process that it is in.
struct Environment {
  bool is_root = false;
  bool by_mount8 = false;                 // called as mount.TYPE: -f and -s are mount(8)'s "fake" and "sloppy"
  bool disable_device_whiteouts = false;  // FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT
  bool no_passthrough = false;            // FUSE_OVERLAYFS_NO_PASSTHROUGH
  std::string debug_log = {};             // FUSE_OVERLAYFS_DEBUG_LOG

  static Environment of_process();
};

// `arguments` without argv[0].
Parsed<OverlayCommand> parse_overlay_command(std::span<const std::string> arguments, const Environment& environment);

// Reads one -o list into `command`.
Parsed<void> apply_option_list(std::string_view list, OverlayCommand& command);

}  // namespace vellum::cli
