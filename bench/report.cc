#include "report.h"

#include <fmt/format.h>

#include <algorithm>

#include "targets.h"

namespace vellum::bench {
namespace {

// Nobody waits for these.
bool is_waited_for(const std::string& operation) {
  return operation != "FORGET" && operation != "BATCH_FORGET" && operation != "RELEASE" && operation != "RELEASEDIR" &&
         operation != "INTERRUPT";
}

std::string time_text(double seconds) {
  if (seconds < 1e-6) return fmt::format("{:.0f}ns", seconds * 1e9);
  if (seconds < 1e-4) return fmt::format("{:.2f}us", seconds * 1e6);
  if (seconds < 1e-3) return fmt::format("{:.0f}us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f}ms", seconds * 1e3);
  return fmt::format("{:.2f}s", seconds);
}

std::uint64_t ops_of(const Results& results, const std::string& where, const std::string& workload) {
  for (const Cell& cell : results.cells) {
    if (cell.circumstances != where || cell.workload != workload) continue;
    for (const Run& run : cell.runs) {
      if (run.ops > 0) return run.ops;
    }
  }
  return 1;
}

using Row = std::vector<std::string>;

// The width on the screen: the texts hold no characters of two bytes but these.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

// Numbers to the right; the first column and those from `left_from` on to the left.
std::string aligned(const std::vector<Row>& rows, std::size_t left_from = 1000) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - width_of(row[i]), ' ');
      line += i == 0 ? row[i] + space : i >= left_from ? "  " + row[i] + space : "  " + space + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

std::string field(const Results& results, const std::string& where, const std::string& workload,
                  const std::string& system, const ReportOptions& options) {
  const Cell* cell = results.find(where, workload, system);
  if (cell == nullptr || cell->runs.empty()) return "";
  const auto seconds = cell->median_seconds();
  if (!seconds) return "failed";
  const std::string sign = cell->too_long() ? ">" : "";
  std::string text = sign + time_text(*seconds / static_cast<double>(ops_of(results, where, workload)));
  if (const auto ratio = results.ratio(where, workload, system, options.base)) {
    text += fmt::format(" {:>6}", fmt::format("{}{:.{}f}x", sign, *ratio, *ratio < 10 ? 2 : 1));
    if (options.check_targets) {
      const auto target = target_of(workload);
      text += target && cell->runs[0].requests && *ratio > *target ? "!" : " ";
    }
  }
  return text;
}

std::string times_table(const Results& results, const std::string& where, const std::vector<std::string>& systems,
                        const ReportOptions& options) {
  std::vector<Row> rows{{where}};
  rows[0].insert(rows[0].end(), systems.begin(), systems.end());
  if (options.check_targets) rows[0].push_back("target");
  for (const std::string& workload : results.workloads(where)) {
    Row& row = rows.emplace_back(Row{workload});
    for (const std::string& system : systems) row.push_back(field(results, where, workload, system, options));
    if (!options.check_targets) continue;
    const auto target = target_of(workload);
    row.push_back(target ? fmt::format("{:.2f}x", *target) : "");
  }
  Row& mean = rows.emplace_back(Row{"geometric mean"});
  for (const std::string& system : systems) {
    const auto value = results.geometric_mean(where, system, options.base);
    mean.push_back(
        value ? fmt::format("({}) {:.2f}x{}", value->workloads, value->value, options.check_targets ? " " : "") : "");
  }
  if (options.check_targets) mean.push_back(fmt::format("{:.2f}x", kGeometricMeanTarget));
  return aligned(rows);
}

double waited_for_per_op(const Run& run) {
  double sum = 0;
  for (const auto& [operation, count] : *run.requests) {
    if (is_waited_for(operation)) sum += count;
  }
  return sum / static_cast<double>(std::max<std::uint64_t>(run.ops, 1));
}

// Requests of the last run, the most frequent first.
std::string most_frequent(const Run& run) {
  std::vector<std::pair<double, std::string>> list;
  for (const auto& [operation, count] : *run.requests) {
    list.emplace_back(count / static_cast<double>(std::max<std::uint64_t>(run.ops, 1)), operation);
  }
  std::ranges::sort(list, std::greater{});
  std::string text;
  for (const auto& [count, operation] : list) {
    if (count >= 0.005) text += fmt::format("{}{} {:.2f}", text.empty() ? "" : ", ", operation, count);
  }
  return text;
}

std::string daemons_table(const Results& results, const std::string& where, const std::vector<std::string>& systems) {
  std::vector<Row> rows{{"workload", "system", "daemon CPU/op", "peak MiB", "requests/op", "of which"}};
  for (const std::string& workload : results.workloads(where)) {
    for (const std::string& system : systems) {
      const Cell* cell = results.find(where, workload, system);
      if (cell == nullptr || cell->runs.empty() || cell->runs.back().daemon_peak_kib == 0) continue;
      std::vector<double> cpu, peak;
      for (const Run& run : cell->runs) {
        cpu.push_back(run.daemon_cpu / static_cast<double>(std::max<std::uint64_t>(run.ops, 1)));
        peak.push_back(static_cast<double>(run.daemon_peak_kib) / 1024);
      }
      const Run& last = cell->runs.back();
      rows.push_back({workload, system, time_text(median(cpu)), fmt::format("{:.1f}", median(peak)),
                      last.requests ? fmt::format("{:.3f}", waited_for_per_op(last)) : "",
                      last.requests ? most_frequent(last) : ""});
    }
  }
  return rows.size() == 1 ? "" : aligned(rows, 5);
}

std::string failures_text(const Results& results) {
  std::string text;
  for (const Cell& cell : results.cells) {
    if (const std::string error = cell.error(); !error.empty()) {
      text += fmt::format("failed: {}: {} on {}: {}\n", cell.circumstances, cell.workload, cell.system, error);
    }
  }
  return text;
}

}  // namespace

std::string report_text(const Results& results, const ReportOptions& options) {
  const std::vector<std::string> systems = results.systems();
  std::string text = fmt::format("Median time per operation, and the ratio to {}.\n", options.base);
  for (const std::string& where : results.circumstances()) {
    text += "\n" + times_table(results, where, systems, options);
  }
  text += "\nWhat the daemons used. requests/op: those a caller waits for.\n";
  for (const std::string& where : results.circumstances()) {
    text += "\n" + where + "\n" + daemons_table(results, where, systems);
  }
  const std::string failures = failures_text(results);
  if (!failures.empty()) text += "\n" + failures;
  if (options.check_targets) {
    text += "\n";
    const auto missed = missed_targets(results, options.base);
    for (const std::string& line : missed) text += "missed: " + line + "\n";
    if (missed.empty()) text += "every target is met\n";
  }
  return text;
}

std::vector<std::string> missed_targets(const Results& results, const std::string& base) {
  std::vector<std::string> missed;
  const std::string where = "root, tmpfs, 8 layers";
  for (const std::string& system : results.systems()) {
    bool ours = false;
    for (const std::string& workload : results.workloads(where)) {
      const Cell* cell = results.find(where, workload, system);
      if (cell == nullptr || cell->runs.empty() || !cell->runs[0].requests) continue;
      ours = true;
      const auto ratio = results.ratio(where, workload, system, base);
      const auto target = target_of(workload);
      if (ratio && target && *ratio > *target) {
        missed.push_back(fmt::format("{} on {}: {:.2f}x, not {:.2f}x", workload, system, *ratio, *target));
      }
      const auto to_peer = results.ratio(where, workload, system, "fuse-overlayfs");
      if (to_peer && *to_peer > 1.05) {
        missed.push_back(fmt::format("{} on {}: {:.2f}x of fuse-overlayfs's time", workload, system, *to_peer));
      }
    }
    if (!ours) continue;
    if (const auto mean = results.geometric_mean(where, system, base); mean && mean->value > kGeometricMeanTarget) {
      missed.push_back(
          fmt::format("geometric mean on {}: {:.2f}x, not {:.2f}x", system, mean->value, kGeometricMeanTarget));
    }
    const auto to_peer = results.geometric_mean(where, system, "fuse-overlayfs");
    if (to_peer && to_peer->value > 1 / kFasterThanPeer) {
      missed.push_back(fmt::format("geometric mean on {}: {:.2f} times faster than fuse-overlayfs, not {:.2f}", system,
                                   1 / to_peer->value, kFasterThanPeer));
    }
  }
  return missed;
}

}  // namespace vellum::bench
