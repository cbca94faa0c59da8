#include "cli/stats_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace vellum::cli {
namespace {

using Json = nlohmann::ordered_json;

bool is_time(std::string_view name) { return name.ends_with("_ns"); }

// The name as a label: without underscores, and with the unit in which its value is shown.
std::string label(std::string name) {
  if (is_time(name)) name.replace(name.size() - 2, 2, "us");
  std::ranges::replace(name, '_', ' ');
  return name;
}

std::string value_text(std::string_view name, const Json& value) {
  if (is_time(name) && value.is_number()) return fmt::format("{:.1f}", value.get<double>() / 1000);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return fmt::format("{:.1f}", value.get<double>());
  if (value.is_null()) return "-";
  return value.dump();
}

bool is_row(const Json& value) {
  return value.is_object() && !value.empty() &&
         std::ranges::all_of(value, [](const Json& cell) { return !cell.is_structured(); });
}

bool is_table(const Json& value) { return value.is_object() && !value.empty() && std::ranges::all_of(value, is_row); }

// Rows in their order, columns in the order in which the rows first name them.
std::string table_text(const std::string& title, const Json& rows) {
  std::vector<std::string> columns;
  for (const Json& row : rows) {
    for (const auto& [name, cell] : row.items()) {
      if (std::ranges::find(columns, name) == columns.end()) columns.push_back(name);
    }
  }
  std::vector<std::vector<std::string>> lines(1, {label(title)});
  for (const std::string& column : columns) lines[0].push_back(label(column));
  for (const auto& [name, row] : rows.items()) {
    std::vector<std::string>& line = lines.emplace_back(1, name);
    for (const std::string& column : columns)
      line.push_back(row.contains(column) ? value_text(column, row.at(column)) : "");
  }

  std::vector<std::size_t> widths(columns.size() + 1, 0);
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text = "\n";
  for (const auto& line : lines) {
    text += fmt::format("{:<{}}", line[0], widths[0]);
    for (std::size_t i = 1; i < line.size(); ++i) text += fmt::format("  {:>{}}", line[i], widths[i]);
    text += '\n';
  }
  return text;
}

std::string section_text(const Json& object, const std::string& indent) {
  std::size_t width = 0;
  for (const auto& [name, value] : object.items()) {
    if (!value.is_object()) width = std::max(width, name.size());
  }
  std::string scalars, sections;
  for (const auto& [name, value] : object.items()) {
    if (is_table(value)) {
      sections += table_text(name, value);
    } else if (value.is_object()) {
      sections += fmt::format("\n{}{}\n{}", indent, label(name), section_text(value, indent + "  "));
    } else {
      scalars += fmt::format("{}{:<{}}  {}\n", indent, label(name), width, value_text(name, value));
    }
  }
  return scalars + sections;
}

}  // namespace

std::expected<std::string, std::string> stats_text(std::string_view json) {
  const Json parsed = Json::parse(json, nullptr, false);
  if (!parsed.is_object()) return std::unexpected("the mount's answer is not a JSON object");
  return section_text(parsed, "");
}

}  // namespace vellum::cli
