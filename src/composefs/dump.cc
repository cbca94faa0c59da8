#include "composefs/dump.h"

#include <absl/container/flat_hash_map.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <vector>

namespace vellum::composefs {
namespace {

constexpr std::size_t kReadSize = 256 * 1024;
constexpr std::size_t kXattrTextMax = 65535;

enum Field { kPath, kSize, kMode, kNlink, kUid, kGid, kRdev, kMtime, kPayload, kContent, kDigest, kFields };

std::unexpected<std::string> wrong(std::string text) { return std::unexpected(std::move(text)); }
using Checked = std::expected<void, std::string>;
#define CHECK_OR_RETURN(...)                                                   \
  do {                                                                         \
    if (auto checked = (__VA_ARGS__); !checked) return wrong(checked.error()); \
  } while (false)

std::string_view split(std::string_view& rest, char at) {
  const std::size_t end = rest.find(at);
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return part;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The field itself if nothing in it is escaped, else its plain form in `scratch`.
std::expected<std::string_view, std::string> unescape(std::string_view text, std::string& scratch) {
  std::size_t next = text.find('\\');
  if (next == std::string_view::npos) return text;
  scratch.assign(text.substr(0, next));
  while (next < text.size()) {
    const char c = text[next++];
    if (c != '\\') {
      scratch += c;
      continue;
    }
    if (next == text.size()) return wrong("No character after escape");
    switch (text[next++]) {
      case '\\': scratch += '\\'; break;
      case 'n': scratch += '\n'; break;
      case 'r': scratch += '\r'; break;
      case 't': scratch += '\t'; break;
      case 'x': {
        if (text.size() - next < 2) return wrong("No hex characters after hex escape");
        const int high = hex_digit(text[next]), low = hex_digit(text[next + 1]);
        if (high < 0 || low < 0) return wrong("Invalid hex characters after hex escape");
        scratch += static_cast<char>(high << 4 | low);
        next += 2;
        break;
      }
      default: return wrong(fmt::format("Unsupported escape type {}", text[next - 1]));
    }
  }
  return std::string_view(scratch);
}

// As strtoull(3) reads it, which is what dumps were written for: space in front, a sign, and the greatest number
// for all that are greater.
std::expected<std::uint64_t, std::string> parse_number(std::string_view text, unsigned base) {
  std::string_view digits = text;
  while (!digits.empty() && (digits[0] == ' ' || (digits[0] >= '\t' && digits[0] <= '\r'))) digits.remove_prefix(1);
  bool negative = false;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
    negative = digits[0] == '-';
    digits.remove_prefix(1);
  }
  std::uint64_t value = 0;
  bool too_big = false;
  for (const char c : digits) {
    const auto digit = static_cast<unsigned>(c - '0');
    if (c < '0' || digit >= base) return wrong(fmt::format("Invalid integer {}", text));
    std::uint64_t scaled = 0;
    too_big = too_big || __builtin_mul_overflow(value, base, &scaled) ||
              __builtin_add_overflow(scaled, std::uint64_t{digit}, &value);
  }
  if (digits.empty()) return wrong(fmt::format("Invalid integer {}", text));
  if (too_big) return std::numeric_limits<std::uint64_t>::max();
  return negative ? 0 - value : value;
}

bool known_type(std::uint32_t mode) {
  switch (mode & 0170000) {
    case 0100000:
    case 0040000:
    case 0120000:
    case 0060000:
    case 0020000:
    case 0140000:
    case 0010000: return true;
    default: return false;
  }
}

class Parser {
 public:
  explicit Parser(DumpOptions options) : options_(options) {}

  Checked line(std::string_view text);
  std::unexpected<std::string> too_long() const { return wrong(fmt::format("Line too long (line {})", lines_ + 1)); }
  std::expected<Tree, std::string> finish();

 private:
  struct Link {
    NodeId node;
    std::string_view target;
    std::size_t line;
  };
  struct Place {
    NodeId parent = kNoNode;
    std::string_view dir, name;  // dir: without slashes at its ends, one between names
  };

  Checked fields(std::string_view text);
  std::expected<Place, std::string> place(std::string_view path);
  std::expected<NodeId, std::string> add(std::string_view path, std::uint32_t mode);
  Checked numbers(Node& node, const std::array<std::string_view, kFields>& field);
  Checked payload_and_content(Node& node, const std::array<std::string_view, kFields>& field);
  Checked xattrs(NodeId id, std::string_view rest);
  std::optional<NodeId> lookup(std::string_view path) const;
  std::string_view normal(std::string_view path);

  DumpOptions options_;
  Tree tree_;
  absl::flat_hash_map<std::string_view, NodeId> dirs_;
  std::string_view last_dir_;
  NodeId last_parent_ = kNoNode;
  std::vector<Link> links_;
  std::size_t lines_ = 0;
  std::string path_, scratch_, value_, normal_;
  std::vector<XattrId> xattrs_;
};

Checked Parser::line(std::string_view text) {
  if (text.size() > kLineMax) return too_long();
  ++lines_;
  auto done = fields(text);
  if (!done) return wrong(fmt::format("{} (line {})", done.error(), lines_));
  return {};
}

Checked Parser::fields(std::string_view text) {
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
    return wrong(fmt::format("Invalid embedded NUL character at position {}", zero));
  std::array<std::string_view, kFields> field;
  for (std::string_view& each : field) each = split(text, ' ');

  const auto path = unescape(field[kPath], path_);
  if (!path) return wrong(path.error());
  if (path->empty()) return wrong("Invalid empty path");
  const bool hard_link = field[kMode].starts_with('@');
  if (hard_link) field[kMode].remove_prefix(1);
  const auto wide_mode = parse_number(field[kMode], 8);
  if (!wide_mode) return wrong(wide_mode.error());
  const auto mode = static_cast<std::uint32_t>(*wide_mode);
  if (!known_type(mode)) return wrong(fmt::format("Invalid mode {:o}", mode));

  const auto id = add(*path, mode);
  if (!id) return wrong(id.error());
  if (hard_link) {
    if (tree_[*id].is_dir()) return wrong("Directories can't be hardlinked");
    if (field[kPayload] == "-") return wrong("No target path for the hardlink");
    const auto target = unescape(field[kPayload], scratch_);
    if (!target) return wrong(target.error());
    links_.push_back({*id, tree_.keep(*target), lines_});
    return {};
  }
  CHECK_OR_RETURN(numbers(tree_[*id], field));
  CHECK_OR_RETURN(payload_and_content(tree_[*id], field));
  return text.empty() ? Checked() : xattrs(*id, text);
}

// Slashes at the ends and double ones mean nothing.
std::string_view Parser::normal(std::string_view path) {
  while (path.starts_with('/')) path.remove_prefix(1);
  while (path.ends_with('/')) path.remove_suffix(1);
  if (path.find("//") == std::string_view::npos) return path;
  normal_.clear();
  std::ranges::unique_copy(path, std::back_inserter(normal_), [](char a, char b) { return a == '/' && b == '/'; });
  return normal_;
}

std::expected<Parser::Place, std::string> Parser::place(std::string_view path) {
  if (tree_.empty()) return wrong("Root node not present");
  const std::size_t slash = path.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (name.empty() || name.size() > kNameMax) return wrong("Can't add child");
  if (name == "." || name == "..") return wrong(fmt::format("Invalid . or .. in path: {}", path));
  const std::string_view dir = slash == std::string_view::npos ? std::string_view() : normal(path.substr(0, slash));
  if (last_parent_ == kNoNode || dir != last_dir_) {
    const auto found = dirs_.find(dir);
    if (found == dirs_.end()) {
      const auto other = lookup(dir);
      return wrong(fmt::format("{} for {}", other ? "Parent must be a directory" : "Parent directory missing", path));
    }
    last_dir_ = found->first;
    last_parent_ = found->second;
  }
  return Place{.parent = last_parent_, .dir = last_dir_, .name = name};
}

std::expected<NodeId, std::string> Parser::add(std::string_view path, std::uint32_t mode) {
  const bool is_dir = (mode & 0170000) == 0040000;
  NodeId id = kRoot;
  if (path == "/") {
    if (!is_dir) return wrong("Root must be a directory");
    if (!tree_.empty()) return wrong("Can't have multiple roots");
    id = tree_.add(kNoNode, "");
    dirs_.emplace(std::string_view(), id);
  } else {
    const auto where = place(path);
    if (!where) return wrong(where.error());
    if (is_dir) {
      const std::span<char> key = tree_.reserve(where->dir.size() + (where->dir.empty() ? 0 : 1) + where->name.size());
      auto end = std::ranges::copy(where->dir, key.begin()).out;
      if (!where->dir.empty()) *end++ = '/';
      std::ranges::copy(where->name, end);
      id = NodeId{static_cast<std::uint32_t>(tree_.size())};
      if (!dirs_.emplace(std::string_view(key.data(), key.size()), id).second)
        return wrong(fmt::format("Path {} already exist", path));
    }
    id = tree_.add(where->parent, where->name);
  }
  tree_[id].mode = mode & 0xffff;
  return id;
}

Checked Parser::numbers(Node& node, const std::array<std::string_view, kFields>& field) {
  std::array<std::uint64_t, kMtime> value{};
  for (const Field each : {kSize, kNlink, kUid, kGid, kRdev}) {
    const auto number = parse_number(field[each], 10);
    if (!number) return wrong(number.error());
    value[each] = *number;
  }
  // Values are cut to the width that the image has for them, as mkcomposefs does.
  node.size = value[kSize];
  node.nlink = static_cast<std::uint32_t>(value[kNlink]);
  node.uid = static_cast<std::uint32_t>(value[kUid]);
  node.gid = static_cast<std::uint32_t>(value[kGid]);
  if (node.is_device())
    node.rdev = static_cast<std::uint32_t>(value[kRdev]);
  else if (options_.strict && value[kRdev] != 0)
    return wrong("Non-zero devnum on non-device");
  std::string_view fraction = field[kMtime];
  const auto seconds = parse_number(split(fraction, '.'), 10);
  if (!seconds) return wrong(seconds.error());
  const auto nanoseconds = parse_number(fraction, 10);
  if (!nanoseconds) return wrong(nanoseconds.error());
  node.mtime = static_cast<std::int64_t>(*seconds);
  node.mtime_nsec = static_cast<std::uint32_t>(*nanoseconds);
  return {};
}

Checked Parser::payload_and_content(Node& node, const std::array<std::string_view, kFields>& field) {
  const std::uint64_t size = node.size;
  if (field[kPayload] != "-") {
    const auto payload = unescape(field[kPayload], scratch_);
    if (!payload) return wrong(payload.error());
    if (payload->size() >= kPathMax || payload->find('\0') != std::string_view::npos)
      return wrong(node.is_symlink() ? "Invalid symlink" : "Invalid payload");
    node.payload = tree_.keep(*payload);
  }
  std::optional<std::string_view> content;
  if (field[kContent] != "-") {
    const auto plain = unescape(field[kContent], scratch_);
    if (!plain) return wrong(plain.error());
    content = *plain;
    if (content->size() != size)
      return wrong(fmt::format("Invalid content size {}, must match size {}", content->size(), size));
    if (content->size() > kInlineMax && !node.is_symlink())
      return wrong(fmt::format("Inline content size {} exceeds maximum {}", content->size(), kInlineMax));
  }
  if (node.is_symlink()) {
    if (node.payload.empty()) return wrong("Invalid symlink");
    node.size = node.payload.size();
    if (options_.strict && size != node.size)
      return wrong(fmt::format("Invalid symlink size {}, must match size {}", node.size, size));
    if (options_.strict && content && !content->empty()) return wrong("Symlink cannot have content");
  } else if (content) {
    tree_.set_content(node, *content);
  }
  if (field[kDigest] != "-") {
    const auto text = unescape(field[kDigest], scratch_);
    if (!text) return wrong(text.error());
    const auto digest = parse_digest(*text);
    if (digest && digest->size == 32)
      tree_.set_digest(node, digest->view());
    else if (options_.strict || (node.is_regular() && node.size > 0 && node.content == nullptr))
      return wrong(fmt::format("Invalid digest {}", *text));  // where no image would hold it, lines end early
  }
  return {};
}

Checked Parser::xattrs(NodeId id, std::string_view rest) {
  if (rest.size() > kXattrTextMax) return wrong("Too many xattrs");
  xattrs_.clear();
  std::size_t budget = kXattrBudgetFirst;
  const XattrTable& table = tree_.xattr_table();
  while (!rest.empty()) {
    std::string_view value_text = split(rest, ' ');
    if (value_text.find('=') == std::string_view::npos) return wrong("Missing = in xattr");
    const auto name = unescape(split(value_text, '='), scratch_);
    if (!name) return wrong(name.error());
    const auto value = unescape(value_text, value_);
    if (!value) return wrong(value.error());
    if (name->empty() || name->size() > kXattrNameMax || name->find('\0') != std::string_view::npos ||
        value->size() > kXattrValueMax)
      return wrong("Can't set xattr");
    // The last of several values counts.
    const auto same = std::ranges::find(xattrs_, *name, [&table](XattrId each) { return table[each].name; });
    if (same != xattrs_.end()) {
      budget -= xattr_cost(name->size(), table[*same].value.size());
      xattrs_.erase(same);
    }
    budget += xattr_cost(name->size(), value->size());
    if (budget > kXattrBudget) return wrong("Can't set xattr");
    xattrs_.push_back(tree_.intern_xattr(*name, *value));
  }
  tree_.set_xattrs(id, xattrs_);
  return {};
}

// Before the tree is finished only by a search; for what is an error already.
std::optional<NodeId> Parser::lookup(std::string_view path) const {
  for (std::uint32_t i = 0; i < tree_.size(); ++i) {
    const Node& node = tree_[NodeId{i}];
    if (!path.ends_with(node.name)) continue;
    if (std::string_view(tree_.path(NodeId{i})).substr(1) == path) return NodeId{i};
  }
  return std::nullopt;
}

std::expected<Tree, std::string> Parser::finish() {
  if (tree_.empty()) return wrong("No files in dump file");
  // Links need a tree in which names are found; finishing twice would count children twice, so: links first, by name.
  absl::flat_hash_map<std::pair<NodeId, std::string_view>, NodeId> by_name;
  if (!links_.empty()) {
    by_name.reserve(tree_.size());
    for (std::uint32_t i = 1; i < tree_.size(); ++i)
      by_name.emplace(std::pair(tree_[NodeId{i}].parent, tree_[NodeId{i}].name), NodeId{i});
  }
  for (const Link& link : links_) {
    const std::string_view path = normal(link.target);
    const std::size_t slash = path.rfind('/');
    const auto dir = dirs_.find(slash == std::string_view::npos ? std::string_view() : path.substr(0, slash));
    const auto found =
        dir == dirs_.end() ? by_name.end() : by_name.find(std::pair(dir->second, path.substr(slash + 1)));
    if (found == by_name.end())
      return wrong(fmt::format("No target at {} for hardlink (line {})", link.target, link.line));
    if (found->second == link.node)
      return wrong(fmt::format("Self-referential hardlink {} (line {})", link.target, link.line));
    tree_[link.node].link = found->second;
  }
  if (auto finished = tree_.finish(); !finished) return wrong(finished.error());
  return std::move(tree_);
}

void append_optional(std::string& out, std::string_view text) {
  if (text.data() == nullptr)
    out += '-';
  else
    append_escaped(out, text, {.lone_dash = true});
}

}  // namespace

std::expected<Tree, std::string> parse_dump(std::string_view text, DumpOptions options) {
  Parser parser(options);
  while (!text.empty()) {
    if (options.strict && text.find('\n') == std::string_view::npos) return wrong("Missing trailing newline");
    CHECK_OR_RETURN(parser.line(split(text, '\n')));
  }
  return parser.finish();
}

std::expected<Tree, std::string> read_dump(const ReadSome& source, DumpOptions options) {
  Parser parser(options);
  std::string buffer(kReadSize, '\0');
  std::size_t used = 0;
  for (;;) {
    if (used > kLineMax) return parser.too_long();                // whatever else comes: no line end is in sight
    if (used == buffer.size()) buffer.resize(buffer.size() * 2);  // a line longer than the buffer
    const auto got = source(std::as_writable_bytes(std::span(buffer).subspan(used)));
    if (!got) return wrong(fmt::format("Error reading from file: {}", got.error().message()));
    if (*got == 0) break;
    const std::size_t searched = used;
    used += *got;
    const std::string_view filled(buffer.data(), used);
    const std::size_t last = filled.rfind('\n');
    if (last == std::string_view::npos || last < searched) continue;
    std::string_view lines = filled.substr(0, last + 1);
    while (!lines.empty()) CHECK_OR_RETURN(parser.line(split(lines, '\n')));
    std::memmove(buffer.data(), buffer.data() + last + 1, used - last - 1);
    used -= last + 1;
  }
  if (used > 0) {
    if (options.strict) return wrong("Missing trailing newline");
    CHECK_OR_RETURN(parser.line(std::string_view(buffer.data(), used)));
  }
  return parser.finish();
}

void append_escaped(std::string& out, std::string_view text, EscapeRule rule) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const auto hex = [&out](unsigned char c) {
    out += "\\x";
    out += kDigits[c >> 4];
    out += kDigits[c & 15];
  };
  if (rule.lone_dash && text == "-") return hex('-');
  for (const char each : text) {
    const auto c = static_cast<unsigned char>(each);
    if (each == '\\')
      out += "\\\\";
    else if (each == '\n')
      out += "\\n";
    else if (each == '\r')
      out += "\\r";
    else if (each == '\t')
      out += "\\t";
    else if (each == '=' && rule.equal_signs)
      hex(c);
    else if (c > ' ' && c < 0x7f)
      out += each;
    else if (each == ' ' && rule.spaces_stay)
      out += each;
    else
      hex(c);
  }
}

void append_dump_line(const Tree& tree, NodeId id, std::string_view path, std::string& out) {
  const bool hard_link = tree[id].link != kNoNode;
  const Node& node = tree[tree.target(id)];
  append_escaped(out, path.empty() ? "/" : path);
  fmt::format_to(std::back_inserter(out), " {} {}{:o} {} {} {} {} {}.{} ", node.size, hard_link ? "@" : "", node.mode,
                 node.nlink, node.uid, node.gid, node.rdev, node.mtime, node.mtime_nsec);
  if (hard_link)
    append_escaped(out, tree.path(tree.target(id)), {.lone_dash = true});
  else
    append_optional(out, node.payload);
  out += ' ';
  append_optional(out, node.content_view());
  out += ' ';
  if (node.digest == nullptr) {
    out += '-';
  } else {
    Digest digest{.bytes = {}, .size = 32};
    std::copy_n(node.digest, 32, digest.bytes.begin());
    out += digest.hex();
  }
  for (const XattrId each : tree.xattrs(node)) {
    const XattrPair& xattr = tree.xattr_table()[each];
    out += ' ';
    append_escaped(out, xattr.name, {.equal_signs = true});
    out += '=';
    append_escaped(out, xattr.value, {.equal_signs = true});
  }
  out += '\n';
}

bool write_dump(const Tree& tree, const TextSink& sink) {
  constexpr std::size_t kPiece = 64 * 1024;
  std::string text;
  bool going = true;
  walk(tree, [&](NodeId id, std::string_view path) {
    if (!going) return;
    append_dump_line(tree, id, path, text);
    if (text.size() < kPiece) return;
    going = sink(text);
    text.clear();
  });
  return going && (text.empty() || sink(text));
}

}  // namespace vellum::composefs
