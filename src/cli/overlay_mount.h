// From a parsed command to a served mount of stacked layers.
#pragma once

#include <string>

#include "cli/overlay_options.h"
#include "cli/serve.h"

namespace vellum::cli {

// What a command means to those who mount and serve; also for `vellum views`. The functions in it are the caller's.
Serving serving(const OverlayCommand& command, std::string program, bool writable);

int mount_overlay(const std::string& program, const OverlayCommand& command);

}  // namespace vellum::cli
