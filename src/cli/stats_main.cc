#include "cli/stats_main.h"

#include <fmt/format.h>
#include <sys/xattr.h>

#include <cstdio>

#include "base/result.h"
#include "cli/stats_text.h"

namespace vellum::cli {
namespace {

constexpr const char* kStatsXattr = "system.vellum.stats";

Result<std::string> read_stats(const std::string& path) {
  // The counters grow while we ask for their size: leave room, and ask again when it was not enough.
  for (;;) {
    const ssize_t size = ::getxattr(path.c_str(), kStatsXattr, nullptr, 0);
    if (size < 0) return fail_errno();
    std::string text(static_cast<std::size_t>(size) + 1024, '\0');
    const ssize_t got = ::getxattr(path.c_str(), kStatsXattr, text.data(), text.size());
    if (got >= 0) {
      text.resize(static_cast<std::size_t>(got));
      return text;
    }
    if (errno != ERANGE) return fail_errno();
  }
}

std::string explain(const std::string& path, Errno error) {
  if (error == ENODATA || error == EOPNOTSUPP) return fmt::format("{}: not the root of a vellum mount", path);
  if (error == ENOTCONN) return fmt::format("{}: the mount's process is gone; unmount with: umount {}", path, path);
  return fmt::format("{}: {}", path, error.message());
}

}  // namespace

int run_stats(const StatsCommand& command) {
  const Result<std::string> json = read_stats(command.mountpoint);
  if (!json) {
    fmt::print(stderr, "vellum stats: {}\n", explain(command.mountpoint, json.error()));
    return 1;
  }
  if (command.json) {
    fmt::print("{}\n", *json);
    return 0;
  }
  const auto text = stats_text(*json);
  if (!text) {
    fmt::print(stderr, "vellum stats: {}: {}\n", command.mountpoint, text.error());
    return 1;
  }
  fmt::print("{}", *text);
  return 0;
}

}  // namespace vellum::cli
