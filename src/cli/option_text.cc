#include "cli/option_text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <utility>

namespace vellum::cli {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// The length of the escape that starts at text[at] (a backslash): 1 when nothing follows it.
std::size_t escape_length(std::string_view text, std::size_t at) {
  if (at + 1 >= text.size()) return 1;
  const bool octal = at + 3 < text.size() && text[at + 1] <= '3' && is_octal(text[at + 1]) && is_octal(text[at + 2]) &&
                     is_octal(text[at + 3]);
  return octal ? 4 : 2;
}

char escaped_char(std::string_view escape) {
  if (escape.size() == 1) return '\\';
  if (escape.size() == 2) return escape[1];
  return static_cast<char>((escape[1] - '0') * 64 + (escape[2] - '0') * 8 + (escape[3] - '0'));
}

bool takes_quoted_value(std::string_view name) {
  return name == "context" || name == "fscontext" || name == "defcontext" || name == "rootcontext";
}

// Reads one option from the front of `rest`, and the comma behind it.
OptionText take_option(std::string_view& rest) {
  OptionText option;
  bool quoted = false;
  std::size_t at = 0;
  for (; at < rest.size(); ++at) {
    const char c = rest[at];
    std::string& target = option.has_value ? option.value : option.name;
    if (c == '\\') {
      const std::string_view escape = rest.substr(at, escape_length(rest, at));
      if (escape == "\\,") {
        target += ',';
      } else {
        target += escape;
      }
      at += escape.size() - 1;
    } else if (c == '"' && option.has_value && takes_quoted_value(option.name) && (quoted || option.value.empty())) {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      break;
    } else if (c == '=' && !option.has_value) {
      option.has_value = true;
    } else {
      target += c;
    }
  }
  rest.remove_prefix(std::min(rest.size(), at + 1));
  return option;
}

template <class T>
bool parse_whole(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::vector<OptionText> split_options(std::string_view list) {
  std::vector<OptionText> options;
  while (!list.empty()) {
    OptionText option = take_option(list);
    if (!option.name.empty() || option.has_value) options.push_back(std::move(option));
  }
  return options;
}

std::vector<std::string> split_paths(std::string_view value) {
  std::vector<std::string> paths(1);
  for (std::size_t at = 0; at < value.size(); ++at) {
    if (value[at] == '\\') {
      const std::string_view escape = value.substr(at, escape_length(value, at));
      paths.back() += escaped_char(escape);
      at += escape.size() - 1;
    } else if (value[at] == ':') {
      paths.emplace_back();
    } else {
      paths.back() += value[at];
    }
  }
  return paths;
}

std::string unescape(std::string_view value) {
  std::string plain;
  for (std::size_t at = 0; at < value.size(); ++at) {
    if (value[at] != '\\') {
      plain += value[at];
      continue;
    }
    const std::string_view escape = value.substr(at, escape_length(value, at));
    plain += escaped_char(escape);
    at += escape.size() - 1;
  }
  return plain;
}

std::string escape(std::string_view path) {
  std::string text;
  for (const char c : path) {
    if (c == ',' || c == ':' || c == '\\') text += '\\';
    text += c;
  }
  return text;
}

Parsed<std::uint32_t> parse_u32(std::string_view text) {
  std::uint32_t value = 0;
  if (!parse_whole(text, value)) return std::unexpected("expected a whole number from 0 to 4294967295");
  return value;
}

Parsed<bool> parse_switch(std::string_view text) {
  if (text == "1" || text == "yes" || text == "on" || text == "true") return true;
  if (text == "0" || text == "no" || text == "off" || text == "false") return false;
  return std::unexpected("expected 0 or 1");
}

Parsed<double> parse_seconds(std::string_view text) {
  double value = 0;
  if (!parse_whole(text, value) || !std::isfinite(value) || value < 0) {
    return std::unexpected("expected a number of seconds, 0 or more");
  }
  return value;
}

Parsed<std::vector<overlay::IdRange>> parse_id_map(std::string_view text) {
  constexpr std::uint64_t kIds = std::uint64_t{1} << 32;
  std::vector<std::uint64_t> numbers;
  for (std::string_view rest = text;;) {
    const std::size_t colon = rest.find(':');
    std::uint64_t number = 0;
    const std::string_view field = rest.substr(0, colon);
    if (!parse_whole(field, number) || number > kIds) {
      return std::unexpected(fmt::format("'{}' is not a number from 0 to 4294967295", field));
    }
    numbers.push_back(number);
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  if (numbers.size() % 3 != 0) return std::unexpected("expected ID:MAPPED:LENGTH triples, separated by ':'");

  std::vector<overlay::IdRange> ranges;
  for (std::size_t i = 0; i < numbers.size(); i += 3) {
    const std::uint64_t on_disk = numbers[i], presented = numbers[i + 1], length = numbers[i + 2];
    if (length == 0) return std::unexpected(fmt::format("the range {}:{}:0 is empty", on_disk, presented));
    if (on_disk >= kIds || presented >= kIds || on_disk + length > kIds || presented + length > kIds) {
      return std::unexpected(fmt::format("the range {}:{}:{} goes beyond id 4294967295", on_disk, presented, length));
    }
    ranges.push_back({.on_disk = static_cast<std::uint32_t>(on_disk),
                      .presented = static_cast<std::uint32_t>(presented),
                      .length = length});
  }
  return ranges;
}

}  // namespace vellum::cli
