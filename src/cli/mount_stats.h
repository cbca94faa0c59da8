// The counters of a running mount, put together from the session and the engine. JSON for `vellum stats`, one line
// for SIGUSR1. Threads: safe. Errors: none.
#pragma once

#include <string>

#include "fuse/session.h"
#include "overlay/overlay.h"

namespace vellum::cli {

std::string mount_stats_json(const fuse::Session& session, const overlay::Overlay& overlay);
std::string mount_stats_line(const fuse::Session& session, const overlay::Overlay& overlay);

}  // namespace vellum::cli
