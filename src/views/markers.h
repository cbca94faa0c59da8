// What a process's environment says about the view it wants: PREFIX_LOWER (directories separated by `:`, `\:` for a
// colon in a name), PREFIX_UPPER and PREFIX_WORK. Text only; nothing is opened here. Threads: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vellum::views {

struct Markers {
  std::vector<std::string> lowers;  // topmost first; empty: the directory that the mount covers
  std::string upper;                // empty: read-only
  std::string work;                 // empty: beside upper
  bool too_long = false;            // a value is longer than execve(2) takes; it is not kept
  friend bool operator==(const Markers&, const Markers&) = default;
};

// `environment` as in /proc/PID/environ. Nothing: neither LOWER nor UPPER is there with a value.
std::optional<Markers> parse_markers(std::string_view environment, std::string_view prefix);

// Whether that is the environment of a program, and not a title that it wrote over it (setproctitle(3)).
bool is_environment(std::string_view text);

// Where the work directory is if none is named: hidden beside upper. Empty: upper has no name.
std::string default_work_dir(std::string_view upper);

std::vector<std::string> split_layers(std::string_view text);
std::string join_layers(const std::vector<std::string>& layers);

}  // namespace vellum::views
