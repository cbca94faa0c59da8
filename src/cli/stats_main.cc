#include "cli/stats_main.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/result.h"
#include "cli/stats_text.h"
#include "sys/file.h"

namespace vellum::cli {
namespace {

constexpr const char* kStatsXattr = "system.vellum.stats";

Result<std::string> read_stats(const std::string& path) {
  const sys::UniqueFd root = TRY(sys::open(path.c_str(), O_PATH));
  return sys::getxattr(root, "", kStatsXattr);
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
