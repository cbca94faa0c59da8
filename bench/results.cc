#include "results.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace vellum::bench {

using Json = nlohmann::json;

namespace {

void add_once(std::vector<std::string>& list, const std::string& word) {
  if (std::ranges::find(list, word) == list.end()) list.push_back(word);
}

std::vector<std::string> common_workloads(const Results& results, const std::string& where, const std::string& base) {
  std::vector<std::string> common = results.workloads(where);
  const std::size_t all = common.size();
  for (const std::string& system : results.systems()) {
    const auto fails = [&](const std::string& workload) { return !results.ratio(where, workload, system, base); };
    if (static_cast<std::size_t>(std::ranges::count_if(results.workloads(where), fails)) * 4 > all) continue;
    std::erase_if(common, fails);
  }
  return common;
}

}  // namespace

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::optional<double> Cell::median_seconds() const {
  std::vector<double> seconds;
  for (const Run& run : runs) {
    if (run.error.empty()) seconds.push_back(run.seconds);
  }
  if (seconds.empty()) return std::nullopt;
  return median(std::move(seconds));
}

bool Cell::too_long() const { return std::ranges::any_of(runs, &Run::too_long); }

std::string Cell::error() const {
  const auto failed = std::ranges::find_if(runs, [](const Run& run) { return !run.error.empty(); });
  return failed == runs.end() ? "" : failed->error;
}

Cell& Results::cell(const std::string& where, const std::string& workload, const std::string& system) {
  for (Cell& cell : cells) {
    if (cell.circumstances == where && cell.workload == workload && cell.system == system) return cell;
  }
  return cells.emplace_back(Cell{where, workload, system, {}, 0, {}});
}

const Cell* Results::find(const std::string& where, const std::string& workload, const std::string& system) const {
  for (const Cell& cell : cells) {
    if (cell.circumstances == where && cell.workload == workload && cell.system == system) return &cell;
  }
  return nullptr;
}

std::vector<std::string> Results::circumstances() const {
  std::vector<std::string> list;
  for (const Cell& cell : cells) add_once(list, cell.circumstances);
  return list;
}

std::vector<std::string> Results::workloads(const std::string& where) const {
  std::vector<std::string> list;
  for (const Cell& cell : cells) {
    if (cell.circumstances == where) add_once(list, cell.workload);
  }
  return list;
}

std::vector<std::string> Results::systems() const {
  std::vector<std::string> list;
  for (const Cell& cell : cells) add_once(list, cell.system);
  return list;
}

std::optional<double> Results::ratio(const std::string& where, const std::string& workload, const std::string& system,
                                     const std::string& base) const {
  const Cell* mine = find(where, workload, system);
  const Cell* other = find(where, workload, base);
  if (mine == nullptr || other == nullptr) return std::nullopt;
  const auto seconds = mine->median_seconds(), base_seconds = other->median_seconds();
  if (!seconds || !base_seconds) return std::nullopt;
  return *seconds / *base_seconds;
}

std::optional<Results::Mean> Results::geometric_mean(const std::string& where, const std::string& system,
                                                     const std::string& base) const {
  const std::vector<std::string> common = common_workloads(*this, where, base);
  double logarithms = 0;
  std::size_t count = 0;
  for (const std::string& workload : common) {
    if (const auto one = ratio(where, workload, system, base)) {
      logarithms += std::log(*one);
      ++count;
    }
  }
  if (count == 0) return std::nullopt;
  return Mean{std::exp(logarithms / static_cast<double>(count)), count};
}

Json to_json(const std::vector<Cell>& cells) {
  Json list = Json::array();
  for (const Cell& cell : cells) {
    Json runs = Json::array();
    for (const Run& run : cell.runs) {
      if (!run.error.empty()) {
        runs.push_back({{"error", run.error}});
        continue;
      }
      Json one{{"seconds", run.seconds}, {"ops", run.ops}};
      if (run.too_long) one["too_long"] = true;
      if (run.daemon_peak_kib > 0) {
        one["daemon_cpu_seconds"] = run.daemon_cpu;
        one["daemon_peak_kib"] = run.daemon_peak_kib;
      }
      if (run.requests) one["requests"] = *run.requests;
      runs.push_back(std::move(one));
    }
    Json row{{"circumstances", cell.circumstances},
             {"workload", cell.workload},
             {"system", cell.system},
             {"runs", std::move(runs)}};
    if (!cell.axis.empty()) {
      row["axis"] = cell.axis;
      row["axis_value"] = cell.axis_value;
    }
    if (const auto seconds = cell.median_seconds()) row["median_seconds"] = *seconds;
    list.push_back(std::move(row));
  }
  return list;
}

std::vector<Cell> cells_from_json(const Json& json) {
  std::vector<Cell> cells;
  for (const Json& row : json) {
    Cell cell{row["circumstances"],
              row["workload"],
              row["system"],
              row.value("axis", ""),
              row.value("axis_value", std::uint64_t{0}),
              {}};
    for (const Json& one : row["runs"]) {
      Run run;
      run.error = one.value("error", "");
      run.seconds = one.value("seconds", 0.0);
      run.ops = one.value("ops", std::uint64_t{0});
      run.too_long = one.value("too_long", false);
      run.daemon_cpu = one.value("daemon_cpu_seconds", 0.0);
      run.daemon_peak_kib = one.value("daemon_peak_kib", 0L);
      if (one.contains("requests")) run.requests = one["requests"].get<std::map<std::string, double>>();
      cell.runs.push_back(std::move(run));
    }
    cells.push_back(std::move(cell));
  }
  return cells;
}

}  // namespace vellum::bench
