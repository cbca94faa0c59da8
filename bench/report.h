// Results for people: tables of text, and a chart. Errors: Failure.
#pragma once

#include <string>

#include "results.h"

namespace vellum::bench {

struct ReportOptions {
  std::string base = "kernel";
  bool check_targets = false;
};

// Times per operation and ratios; then what the daemons used and, for ours, requests per operation.
std::string report_text(const Results& results, const ReportOptions& options);
// The targets that were missed, a line each, by the systems that are ours.
std::vector<std::string> missed_targets(const Results& results, const std::string& base);

// Bars of ratios, drawn by gnuplot.
void draw_chart(const Results& results, const std::string& base, const std::string& path);

}  // namespace vellum::bench
