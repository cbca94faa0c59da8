// The text form of a tree, one line for each name; composefs-dump(5) describes it.
//
//   PATH SIZE MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST [NAME=VALUE]...
//
// Reading accepts what mkcomposefs does, so that the same dump gives the same image; but every number and digest is
// checked, escaped zero bytes in names are refused, and so are hard links to directories and in circles.
// Memory: the tree, and one line, of at most kLineMax bytes: no line is longer unless its path alone is some MiB long.
// Errors: a line for people, with the number of the line. Threads: safe.
#pragma once

#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "composefs/tree.h"

namespace vellum::composefs {

inline constexpr std::size_t kLineMax = std::size_t{4} << 20;

struct DumpOptions {
  // No device number where there is no device, symlinks with their size and without content, a newline at the end.
  bool strict = false;
};

std::expected<Tree, std::string> parse_dump(std::string_view text, DumpOptions options = {});
// From a source that fills a buffer and gives 0 at the end.
using ReadSome = std::function<Result<std::size_t>(std::span<std::byte>)>;
std::expected<Tree, std::string> read_dump(const ReadSome& source, DumpOptions options = {});

// Writes text in pieces of about 64 KiB. A false return of the sink stops.
using TextSink = std::function<bool(std::string_view)>;
bool write_dump(const Tree& tree, const TextSink& sink);
// One line, with its newline, appended.
void append_dump_line(const Tree& tree, NodeId id, std::string_view path, std::string& out);

struct EscapeRule {
  bool spaces_stay = false;  // for people
  bool equal_signs = false;  // in xattrs
  bool lone_dash = false;    // in fields that are "-" when unset
};
void append_escaped(std::string& out, std::string_view text, EscapeRule rule = {});

}  // namespace vellum::composefs
