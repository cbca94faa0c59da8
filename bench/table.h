// Text in columns, and numbers as people read them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace vellum::bench {

using Row = std::vector<std::string>;

// Numbers to the right; the first column and those from `left_from` on to the left.
std::string aligned(const std::vector<Row>& rows, std::size_t left_from = 1000);

std::string time_text(double seconds);  // 1.25us, 3.4ms

}  // namespace vellum::bench
