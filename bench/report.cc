#include "report.h"

#include <fmt/format.h>

#include <algorithm>

#include "table.h"
#include "targets.h"

namespace vellum::bench {
namespace {

// Nobody waits for these.
bool is_waited_for(const std::string& operation) {
  return operation != "FORGET" && operation != "BATCH_FORGET" && operation != "RELEASE" && operation != "RELEASEDIR" &&
         operation != "INTERRUPT";
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
    if (options.check_targets && where == kTargetCircumstances) {
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

namespace {

// Counting requests is what only ours do.
bool is_ours(const Results& results, const std::string& where, const std::string& system) {
  return std::ranges::any_of(results.cells, [&](const Cell& cell) {
    return cell.circumstances == where && cell.system == system && !cell.runs.empty() && cell.runs[0].requests;
  });
}

// What one system misses in one table.
class Missed {
 public:
  Missed(const Results& results, std::string where, std::string system, std::string base)
      : results_(results), where_(std::move(where)), system_(std::move(system)), base_(std::move(base)) {}

  void check_root() {
    for (const std::string& workload : results_.workloads(where_)) {
      if (const auto target = target_of(workload)) at_most(workload, base_, *target);
      at_most(workload, kPeer, kNotSlower);
    }
    mean_at_most(base_, kGeometricMeanTarget);
    mean_at_most(kPeer, 1 / kFasterThanPeer);
    for (const char* workload : {"lookup_cold", "read_seq"}) {
      const Cell* one = results_.find(where_, workload, system_);
      const Cell* two = results_.find(where_, std::string(workload) + "_2t", system_);
      if (one == nullptr || two == nullptr || !one->median_seconds() || !two->median_seconds()) continue;
      const double gain = *one->median_seconds() / *two->median_seconds();
      if (gain < kTwoThreads)
        add(fmt::format("{}: {:.2f}x with two threads, not {:.2f}x", workload, gain, kTwoThreads));
    }
  }

  void check_rootless() {
    for (const char* workload : {"read_seq", "write_seq"}) at_most(workload, base_, kRootlessStream);
    mean_at_most(kPeer, 1 / kRootlessFasterThanPeer);
  }

  std::vector<std::string> lines;

 private:
  static constexpr const char* kPeer = "fuse-overlayfs";

  void add(const std::string& what) { lines.push_back(fmt::format("{} ({}): {}", system_, where_, what)); }

  void at_most(const std::string& workload, const std::string& other, double target) {
    const auto ratio = results_.ratio(where_, workload, system_, other);
    if (ratio && *ratio > target) add(fmt::format("{}: {:.2f}x of {}, not {:.2f}x", workload, *ratio, other, target));
  }

  void mean_at_most(const std::string& other, double target) {
    const auto mean = results_.geometric_mean(where_, system_, other);
    if (mean && mean->value > target) {
      add(fmt::format("geometric mean: {:.2f}x of {}, not {:.2f}x", mean->value, other, target));
    }
  }

  const Results& results_;
  std::string where_, system_, base_;
};

}  // namespace

std::vector<std::string> missed_targets(const Results& results, const std::string& base) {
  std::vector<std::string> lines;
  for (const std::string& where : results.circumstances()) {
    for (const std::string& system : results.systems()) {
      if (!is_ours(results, where, system)) continue;
      Missed missed(results, where, system, base);
      if (where == kTargetCircumstances) missed.check_root();
      if (!where.starts_with("root")) missed.check_rootless();
      lines.insert(lines.end(), missed.lines.begin(), missed.lines.end());
    }
  }
  return lines;
}

}  // namespace vellum::bench
