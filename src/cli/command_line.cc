#include "cli/command_line.h"

#include <algorithm>

namespace vellum::cli {
namespace {

// No argument of a program holds a null byte: behind the bracket it makes a word like others of it.
constexpr char kNoList = '\0';

std::string hide_list(std::string word) {
  if (word.ends_with(']')) word += kNoList;
  return word;
}

std::string show_again(std::string word) {
  if (word.ends_with(kNoList)) word.pop_back();
  return word;
}

void show_all_again(CLI::App& app) {
  for (CLI::Option* option : app.get_options())
    if (option->get_items_expected_max() > 0) option->transform(show_again);
  for (CLI::App* each : app.get_subcommands({})) show_all_again(*each);
}

bool takes_value(const CLI::App& app, const std::string& name) {
  const CLI::Option* option = app.get_option_no_throw(name);
  return option != nullptr && option->get_items_expected_min() > 0;
}

}  // namespace

std::optional<int> parse_words(CLI::App& app, std::span<const std::string> arguments) {
  show_all_again(app);
  // CLI11 takes its arguments last first.
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  std::ranges::transform(reversed, reversed.begin(), hide_list);
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  }
  return std::nullopt;
}

std::vector<std::string> take_command(const CLI::App& app, std::vector<std::string>& arguments, std::size_t skipped) {
  std::size_t at = skipped;
  while (at < arguments.size() && arguments[at] != "--" && arguments[at].starts_with('-') && arguments[at].size() > 1)
    at += takes_value(app, arguments[at]) ? 2U : 1U;
  at = std::min(at, arguments.size());
  const std::size_t first = at < arguments.size() && arguments[at] == "--" ? at + 1 : at;
  const auto from = [&](std::size_t n) { return arguments.begin() + static_cast<std::ptrdiff_t>(n); };
  std::vector<std::string> command(from(first), arguments.end());
  arguments.erase(from(at), arguments.end());
  return command;
}

}  // namespace vellum::cli
