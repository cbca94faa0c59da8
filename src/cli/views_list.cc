#include "cli/views_list.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "sys/file.h"
#include "views/markers.h"
#include "views/views.h"

namespace vellum::cli {
namespace {

using Json = nlohmann::ordered_json;

Result<std::string> read_from(sys::FdRef root, unsigned first) {
  return sys::getxattr(root, "", fmt::format("{}{}", views::kListXattr, first).c_str());
}

Result<Json> read_all(const std::string& mountpoint) {
  const sys::UniqueFd root = TRY(sys::open(mountpoint.c_str(), O_PATH));
  Json all = Json::array();
  for (unsigned next = 0;;) {
    std::istringstream lines(TRY(read_from(root, next)));
    bool more = false;
    for (std::string line; std::getline(lines, line);) {
      Json view = Json::parse(line, nullptr, false);
      if (view.is_discarded()) return fail(EBADMSG);
      if (view.contains("next")) {
        next = view["next"].get<unsigned>();
        more = true;
      } else {
        all.push_back(std::move(view));
      }
    }
    if (!more) return all;
  }
}

std::string layers_text(const Json& view) {
  if (view["view"] == 0) return "the directory itself";
  const auto lowers = view["lowers"].get<std::vector<std::string>>();
  const auto upper = view["upper"].get<std::string>();
  return fmt::format("{} on {}", upper.empty() ? "(read-only)" : upper,
                     lowers.empty() ? "the directory itself" : views::join_layers(lowers));
}

}  // namespace

bool serves_views(const std::string& directory) {
  const auto root = sys::open(directory.c_str(), O_PATH | O_DIRECTORY);
  return root && read_from(*root, 0).has_value();
}

int list_views(const std::string& mountpoint, bool json) {
  const auto all = read_all(mountpoint);
  if (!all) {
    const bool other = all.error() == ENODATA || all.error() == EOPNOTSUPP;
    fmt::print(stderr, "vellum views: {}: {}\n", mountpoint,
               other ? "not the mount point of a running vellum views" : all.error().message());
    return 1;
  }
  if (json) {
    fmt::print("{}\n", all->dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{:>5} {:>6} {:>5} {:>7} {:>8} {:>9}  {}\n", "VIEW", "UID", "PROCS", "NODES", "COPY-UPS", "WHITEOUTS",
             "LAYERS");
  for (const Json& view : *all) {
    fmt::print("{:>5} {:>6} {:>5} {:>7} {:>8} {:>9}  {}\n", view["view"].get<unsigned>(), view["uid"].get<unsigned>(),
               view["processes"].size(), view["nodes"].get<std::uint64_t>(), view["copy_ups"].get<std::uint64_t>(),
               view["whiteouts"].get<std::uint64_t>(), layers_text(view));
  }
  return 0;
}

}  // namespace vellum::cli
