// CLI11 with words that mean themselves. Left alone it takes "[a,b]" for a list of two, wherever words may come several
// times; here every argument arrives as it was given.
//
// Threads: one.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace vellum::cli {

// Once for an app that has all its options. A value: what was to be said (help, or what is wrong) has been said, and
// this is the exit status.
std::optional<int> parse_words(CLI::App& app, std::span<const std::string> arguments);

// Cuts off a command that is to be run, which is not for CLI11 to read: what follows "--", or begins with the first
// word that is neither an option of `app` nor its value. The first `skipped` arguments are not looked at.
std::vector<std::string> take_command(const CLI::App& app, std::vector<std::string>& arguments, std::size_t skipped);

}  // namespace vellum::cli
