// The command line of mount.composefs and of `vellum image mount`: the same words, -o and long options alike.
// Pure text in, values out. Errors: a line for people. Threads: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/option_text.h"
#include "composefs/objects.h"
#include "composefs/verity.h"
#include "sys/mount_calls.h"

namespace vellum::cli {

struct ImageMountCommand {
  enum class Action { kMount, kHelp, kNothing };
  // Whether FUSE takes part; kAuto: where the kernel does not do it alone.
  enum class Fuse { kAuto, kYes, kNo };

  Action action = Action::kMount;
  std::string image, mountpoint;
  std::vector<std::string> basedirs;
  std::optional<composefs::Digest> digest;
  composefs::Verify verify = composefs::Verify::kNo;
  std::string upperdir, workdir, idmap;
  sys::MountFlags flags;
  std::optional<bool> allow_other;
  std::optional<std::uint32_t> threads;
  Fuse fuse = Fuse::kAuto;
  std::optional<bool> io_uring;  // unset: where the kernel offers it
  bool standalone = false;
  bool foreground = false;
  bool debug = false;
};

Parsed<ImageMountCommand> parse_image_mount(std::span<const std::string> arguments);
std::string image_mount_help(std::string_view program);

}  // namespace vellum::cli
