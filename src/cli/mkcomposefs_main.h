// The names of composefs's tools, with their command lines, output and exit status (0, or 1 for every error).
// Threads: main() only.
#pragma once

#include <string>
#include <vector>

namespace vellum::cli {

// All take the words behind the program's name.
int mkcomposefs_main(const std::string& program, const std::vector<std::string>& arguments);
int composefs_info_main(const std::string& program, const std::vector<std::string>& arguments);
int composefs_dump_main(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace vellum::cli
