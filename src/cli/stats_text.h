// Turns the counters of a mount, which arrive as JSON, into tables for a person.
//
// It knows no counter by name: numbers become lines, an object of like objects becomes a table with a row each,
// any other object a section. So a new counter shows up without a change here. Names that end in _ns are times and
// shown in microseconds.
// Errors: text that is no JSON object. Threads: pure functions.
#pragma once

#include <expected>
#include <string>
#include <string_view>

namespace vellum::cli {

std::expected<std::string, std::string> stats_text(std::string_view json);

}  // namespace vellum::cli
