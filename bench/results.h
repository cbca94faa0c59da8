// What was measured, and the numbers made of it. Plain values; as JSON the same.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "client.h"

namespace vellum::bench {

// One workload on one system under one set of circumstances: a field of the table.
struct Cell {
  std::string circumstances;  // "root, tmpfs, 8 layers": one table each
  std::string workload;
  std::string system;
  std::string axis;  // of a series; empty in a plain run
  std::uint64_t axis_value = 0;
  std::vector<Run> runs;

  // Of the runs that went well; of the capped ones the cap.
  std::optional<double> median_seconds() const;
  bool too_long() const;
  std::string error() const;  // of the first run that failed
};

struct Results {
  Cell& cell(const std::string& circumstances, const std::string& workload, const std::string& system);
  const Cell* find(const std::string& circumstances, const std::string& workload, const std::string& system) const;

  // In the order in which they first came.
  std::vector<std::string> circumstances() const;
  std::vector<std::string> workloads(const std::string& circumstances) const;
  std::vector<std::string> systems() const;

  // Time relative to `base`; nothing where one of the two has no time.
  std::optional<double> ratio(const std::string& circumstances, const std::string& workload, const std::string& system,
                              const std::string& base) const;
  // Over the workloads for which every system has a ratio, those aside that fail in more than a quarter of them.
  struct Mean {
    double value = 0;
    std::size_t workloads = 0;
  };
  std::optional<Mean> geometric_mean(const std::string& circumstances, const std::string& system,
                                     const std::string& base) const;

  std::vector<Cell> cells;
};

nlohmann::json to_json(const std::vector<Cell>& cells);
std::vector<Cell> cells_from_json(const nlohmann::json& json);

double median(std::vector<double> values);

}  // namespace vellum::bench
