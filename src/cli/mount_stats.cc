#include "cli/mount_stats.h"

#include <fmt/format.h>

#include <filesystem>
#include <iterator>

#include "cli/version.h"

namespace vellum::cli {

using Json = nlohmann::ordered_json;

namespace {

std::int64_t count_open_fds() {
  std::error_code error;
  const std::filesystem::directory_iterator fds("/proc/self/fd", error);
  return error ? -1 : std::distance(begin(fds), end(fds)) - 1;  // without the one that is reading
}

}  // namespace

std::string with_session_stats(const fuse::Session& session, const Json& engine) {
  const fuse::Connection connection = session.connection();
  Json json = {{"version", vellum_version()}};
  json.update(Json::parse(fuse::to_json(session.stats()), nullptr, false));
  json["passthrough"] = connection.passthrough;
  json["writeback_cache"] = connection.writeback_cache;
  json["open_fds"] = count_open_fds();
  json.update(engine);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string mount_stats_json(const fuse::Session& session, const overlay::Overlay& overlay) {
  const overlay::OverlayStats o = overlay.stats();
  return with_session_stats(session, {{"overlay",
                                       {{"nodes", o.nodes},
                                        {"open_handles", o.open_handles},
                                        {"cached_dir_fds", o.cached_dir_fds},
                                        {"dir_fd_hits", o.dir_fd_hits},
                                        {"dir_fd_misses", o.dir_fd_misses},
                                        {"copy_ups", o.copy_ups},
                                        {"copied_bytes", o.copied_bytes},
                                        {"whiteouts", o.whiteouts},
                                        {"bytes_read", o.bytes_read},
                                        {"bytes_written", o.bytes_written}}}});
}

std::string mount_stats_line(const fuse::Session& session, const overlay::Overlay& overlay) {
  const overlay::OverlayStats o = overlay.stats();
  const fuse::SessionStats s = session.stats();
  return fmt::format("nodes: {}, open handles: {}, requests: {}, copy-ups: {}, whiteouts: {}, passthrough: {}", o.nodes,
                     o.open_handles, s.requests, o.copy_ups, o.whiteouts,
                     session.connection().passthrough ? "on" : "off");
}

}  // namespace vellum::cli
