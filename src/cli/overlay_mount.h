// From a parsed command to a served mount: layers opened, mounted, in the background unless asked otherwise.
//
// The order matters. The process forks before it has any thread; the child opens the layers while the working
// directory is still the caller's (layer paths may be relative), mounts, and only then tells the parent, which
// exits with 0 when the mount is usable and with 1 when it is not. Nothing stays mounted after an error.
#pragma once

#include <string>

#include "cli/overlay_options.h"
#include "fuse/mount.h"
#include "fuse/negotiate.h"

namespace vellum::cli {

// What a command means to those who mount and serve; also for `vellum views`.
fuse::MountOptions mount_options(const MountSettings& settings, bool writable);
fuse::Wishes wishes(const OverlayCommand& command);
unsigned thread_count(const MountSettings& settings);

int mount_overlay(const std::string& program, const OverlayCommand& command);

}  // namespace vellum::cli
