#include "scaling.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "table.h"

namespace vellum::bench {
namespace {

Settings point(Settings settings, const char* axis, std::uint64_t value, const char* workloads) {
  settings.axis = axis;
  settings.axis_value = value;
  settings.workloads = workloads;
  settings.threads = {1};
  settings.cap_seconds = std::max(settings.cap_seconds, 300U);  // a million of anything takes its time
  settings.sizes.file_bytes = 0;                                // names are what grows, not memory
  return settings;
}

// Series by workload and system, the points in order.
using Series = std::map<std::tuple<std::string, std::string, std::string>, std::vector<const Cell*>>;

double per_op(const Cell& cell) {
  const auto seconds = cell.median_seconds();
  const std::uint64_t ops = cell.runs.empty() ? 0 : cell.runs.back().ops;
  return seconds && ops > 0 ? *seconds / static_cast<double>(ops) : 0;
}

double peak_bytes(const Cell& cell) {
  double peak = 0;
  for (const Run& run : cell.runs) peak = std::max(peak, static_cast<double>(run.daemon_peak_kib) * 1024);
  return peak;
}

std::string number_text(std::uint64_t value) {
  for (const auto& [unit, suffix] : {std::pair{1'000'000U, "M"}, std::pair{1000U, "k"}}) {
    if (value >= unit && value % unit == 0) return fmt::format("{}{}", value / unit, suffix);
  }
  return std::to_string(value);
}

}  // namespace

std::vector<Settings> scaling_points(const Settings& settings, bool quick) {
  std::vector<Settings> points;
  const unsigned most = quick ? 10'000 : 1'000'000;
  for (unsigned files = most / 100; files <= most; files *= 10) {
    Settings one = point(settings, "files", files, "lookup_cold,walk_stat_cold");
    one.sizes.files = files;
    one.sizes.directories = std::max(1U, files / 100);
    points.push_back(std::move(one));
  }
  for (unsigned names = 100; names <= most; names *= 10) {
    Settings one = point(settings, "names", names, "readdir_100k");
    one.sizes.many = names;
    points.push_back(std::move(one));
  }
  for (const unsigned layers : {1U, 8U, 64U}) {
    Settings one = point(settings, "layers", layers, "lookup_cold,miss_cold,walk_stat_cold");
    one.layers = {layers};
    points.push_back(std::move(one));
  }
  return points;
}

std::string scaling_text(const Results& results) {
  Series series;
  for (const Cell& cell : results.cells) {
    // By rights and place, which come before the layers; with the axis.
    const std::string place =
        cell.circumstances.substr(0, cell.circumstances.rfind(", ", cell.circumstances.find(" l")));
    series[{place + ", growing " + cell.axis, cell.workload, cell.system}].push_back(&cell);
  }
  std::string text =
      "Median time per operation while one thing grows; the last over the first; what the daemon's memory grew by.\n";
  std::string shown;
  std::vector<Row> rows;
  const auto flush = [&] {
    if (!rows.empty()) text += "\n" + aligned(rows);
    rows.clear();
  };
  for (auto& [key, cells] : series) {
    const auto& [where, workload, system] = key;
    std::ranges::stable_sort(cells, {}, &Cell::axis_value);
    if (where != shown) {
      flush();
      shown = where;
      Row& head = rows.emplace_back(Row{where, "system"});
      for (const Cell* cell : cells) head.push_back(number_text(cell->axis_value));
      head.push_back("last/first");
      head.push_back("bytes each");
    }
    Row& row = rows.emplace_back(Row{workload, system});
    for (const Cell* cell : cells) row.push_back(per_op(*cell) > 0 ? time_text(per_op(*cell)) : "failed");
    const Cell &first = *cells.front(), &last = *cells.back();
    row.push_back(per_op(first) > 0 ? fmt::format("{:.2f}x", per_op(last) / per_op(first)) : "");
    const double more_memory = peak_bytes(last) - peak_bytes(first);
    const double more = static_cast<double>(last.axis_value) - static_cast<double>(first.axis_value);
    row.push_back(peak_bytes(last) > 0 && first.axis != "layers" ? fmt::format("{:.0f}", more_memory / more) : "");
  }
  flush();
  return text;
}

}  // namespace vellum::bench
