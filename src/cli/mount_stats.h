// The counters of a running mount, put together from the session and the engine. JSON for `vellum stats`, one line
// for SIGUSR1. Threads: safe. Errors: none.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "fuse/session.h"
#include "overlay/overlay.h"

namespace vellum::cli {

// What every mount tells of its session, and after it what `engine` (an object) says.
std::string with_session_stats(const fuse::Session& session, const nlohmann::ordered_json& engine);
std::string mount_stats_json(const fuse::Session& session, const overlay::Overlay& overlay);
std::string mount_stats_line(const fuse::Session& session, const overlay::Overlay& overlay);

}  // namespace vellum::cli
