// The process's one logger. Lines go to stderr (and to syslog once a daemon has closed it, see log_to_syslog);
// debug lines only after set_debug(true). Formatting is fmt's; callers that log on a hot path check
// debug_enabled() first. Threads: safe.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace vellum::log {

enum class Level { kDebug, kInfo, kWarning, kError };

void set_debug(bool on);
bool debug_enabled();
// Debug lines go to this file instead of stderr. Returns false if it cannot be opened.
bool set_debug_file(const char* path);
// From now on warnings and errors also reach syslog: a daemon's stderr is /dev/null.
void log_to_syslog(const char* program);
void write(Level level, std::string_view line);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (debug_enabled()) write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace vellum::log
