// Requests as text, for debug output: `LOOKUP node=1 "etc"`. Names are bytes: what is not printable is escaped.
// Threads: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "fuse/decode.h"

namespace vellum::fuse {

// "a\x0ab", with the quotes.
std::string quoted(std::string_view name);
std::string describe(const Header& header, const Operation& operation);
// "OK" or "ENOENT"
std::string describe_error(int error);

}  // namespace vellum::fuse
