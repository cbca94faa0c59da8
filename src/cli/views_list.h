// `vellum views --list MOUNTPOINT`: the live views, one a line, or as JSON.
#pragma once

#include <string>

namespace vellum::cli {

int list_views(const std::string& mountpoint, bool json);
// Whether `vellum views` serves this directory.
bool serves_views(const std::string& directory);

}  // namespace vellum::cli
