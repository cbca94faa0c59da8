// The small language of mount options: `a,b=c,d=e\,f`, paths separated by `:`, numbers, id maps. Pure text in,
// values out; nothing here knows an option by name.
//
// Escapes: a backslash takes the meaning from the next character (`\,` `\:` `\\`), and `\NNN` with three octal
// digits is that byte, as in /etc/fstab. Names are bytes, not UTF-8.
// Errors: the text to put behind "name=value: ". Threads: pure functions.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "overlay/options.h"

namespace vellum::cli {

template <class T>
using Parsed = std::expected<T, std::string>;

struct OptionText {
  std::string name;
  std::string value;  // escapes still in it, but for `\,`
  bool has_value = false;

  // As the user wrote it, for messages.
  std::string text() const { return has_value ? name + "=" + value : name; }
};

// Splits one -o list at its unescaped commas; empty parts vanish. A comma between double quotes directly behind
// the `=` of a SELinux context option does not split, and the quotes are taken off.
std::vector<OptionText> split_options(std::string_view list);

// Splits at unescaped colons and takes the escapes off each part. Empty parts stay.
std::vector<std::string> split_paths(std::string_view value);

std::string unescape(std::string_view value);
// A path as one of a list of paths in an option: the other way round.
std::string escape(std::string_view path);

Parsed<std::uint32_t> parse_u32(std::string_view text);
// 0 or 1, and the words no/yes, off/on, false/true.
Parsed<bool> parse_switch(std::string_view text);
// A finite number of seconds, 0 or more; fractions allowed.
Parsed<double> parse_seconds(std::string_view text);
// `ID:MAPPED:LENGTH` triples in one colon-separated list. Every range must lie within 0..2^32-1.
Parsed<std::vector<overlay::IdRange>> parse_id_map(std::string_view text);

}  // namespace vellum::cli
