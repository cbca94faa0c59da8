#include "sys/proc.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <functional>
#include <optional>
#include <string_view>

#include "sys/fd.h"

namespace vellum::sys {
namespace {

// A few pages hold all but the largest environments; a process may have up to a quarter of its stack of them.
constexpr std::size_t kMost = 8 << 20;

// All of a file of procfs, which answers less than was asked for only at its end.
Result<std::string> read_path(const char* path) {
  const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno();
  constexpr std::size_t kChunk = 32768;
  thread_local std::array<char, kChunk> buffer;
  std::string text;
  while (text.size() < kMost) {
    const ssize_t got = ::read(file.raw(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno();
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (static_cast<std::size_t>(got) < buffer.size()) return text;
  }
  return fail(E2BIG);
}

Result<std::string> read_file(pid_t pid, const char* name) {
  return read_path(fmt::format("/proc/{}/{}", pid, name).c_str());
}

std::string_view next_word(std::string_view& text) {
  const auto begin = std::min(text.find_first_not_of(" \t\n"), text.size());
  text.remove_prefix(begin);
  const auto end = std::min(text.find_first_of(" \t\n"), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

template <class T>
T number(std::string_view word) {
  T value = 0;
  std::from_chars(word.data(), word.data() + word.size(), value);
  return value;
}

std::string_view line_of(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.starts_with(key)) return line.substr(key.size());
    at = end + 1;
  }
  return {};
}

// What lies at a path, without asking its file system: that may be our own mount, or one that never answers.
struct Object {
  explicit Object(const std::string& path)
      : there(::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO, &st) == 0) {}
  bool operator==(const Object& other) const {
    return there && other.there && st.stx_dev_major == other.st.stx_dev_major &&
           st.stx_dev_minor == other.st.stx_dev_minor && st.stx_ino == other.st.stx_ino;
  }
  struct ::statx st {};
  bool there;
};

}  // namespace

Result<ProcessStat> process_stat(pid_t pid) {
  const std::string text = TRY(read_file(pid, "stat"));
  // The name in parentheses may hold anything, parentheses and blanks too.
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) return fail(ESRCH);
  std::string_view rest = std::string_view(text).substr(name_end + 1);
  ProcessStat stat;
  bool zombie = false;
  constexpr int kState = 3, kParent = 4, kThreads = 20, kStart = 22, kStack = 28, kEnvironStart = 50, kEnvironEnd = 51;
  for (int field = kState; field <= kEnvironEnd; ++field) {
    const std::string_view word = next_word(rest);
    if (field == kState) zombie = word == "Z" || word == "X";
    if (field == kParent) stat.parent = number<pid_t>(word);
    if (field == kThreads) stat.ended = zombie && number<int>(word) <= 1;
    if (field == kStart) stat.image.start = number<std::uint64_t>(word);
    if (field == kStack) stat.image.stack = number<std::uint64_t>(word);
    if (field == kEnvironStart) stat.image.environ_start = number<std::uint64_t>(word);
    if (field == kEnvironEnd) stat.image.environ_end = number<std::uint64_t>(word);
  }
  return stat;
}

Result<ProcessIds> process_ids(pid_t pid) {
  const std::string text = TRY(read_file(pid, "status"));
  ProcessIds ids;
  ids.process = number<pid_t>([&] {
    std::string_view line = line_of(text, "Tgid:");
    return next_word(line);
  }());
  std::string_view uids = line_of(text, "Uid:"), gids = line_of(text, "Gid:"), groups = line_of(text, "Groups:");
  if (uids.empty() || gids.empty()) return fail(ESRCH);
  for (std::uint32_t* id : {&ids.uid, &ids.euid, &ids.suid, &ids.fsuid}) *id = number<std::uint32_t>(next_word(uids));
  for (std::uint32_t* id : {&ids.gid, &ids.egid, &ids.sgid, &ids.fsgid}) *id = number<std::uint32_t>(next_word(gids));
  for (auto word = next_word(groups); !word.empty(); word = next_word(groups)) {
    ids.groups.push_back(number<gid_t>(word));
  }
  return ids;
}

bool ProcessIds::has_group(gid_t group) const {
  return group == fsgid || std::ranges::find(groups, group) != groups.end();
}

Result<std::string> process_environ(pid_t pid) { return read_file(pid, "environ"); }

Result<std::string> process_command(pid_t pid) {
  std::string name = TRY(read_file(pid, "comm"));
  if (name.ends_with('\n')) name.pop_back();
  return name;
}

bool shares_root(pid_t pid) {
  static const Object our_namespace("/proc/self/ns/mnt"), our_root("/proc/self/root");
  const std::string there = fmt::format("/proc/{}", pid);
  return Object(there + "/ns/mnt") == our_namespace && Object(there + "/root") == our_root;
}

bool addresses_are_random(pid_t pid) {
  static const bool never = read_path("/proc/sys/kernel/randomize_va_space").value_or("").starts_with('0');
  if (never) return false;
  const auto text = read_file(pid, "personality");
  unsigned long bits = ADDR_NO_RANDOMIZE;  // not told: not trusted
  if (text) std::from_chars(text->data(), text->data() + text->size(), bits, 16);
  return (bits & ADDR_NO_RANDOMIZE) == 0;
}

namespace {

// The value of an entry of an auxiliary vector of numbers of this width.
template <class Word>
std::optional<Word> auxiliary(std::string_view vector, Word wanted) {
  std::array<Word, 2> entry{};
  for (; vector.size() >= sizeof entry; vector.remove_prefix(sizeof entry)) {
    std::memcpy(entry.data(), vector.data(), sizeof entry);
    if (entry[0] == wanted) return entry[1];
  }
  return std::nullopt;
}

}  // namespace

Result<Program> process_program(pid_t pid) {
  const std::string vector = TRY(read_file(pid, "auxv"));
  Program program{.mark = std::hash<std::string_view>{}(vector), .secure = false};
  // Every program is told the size of a page, in numbers of its own width. In the middle of an execve() there is
  // nothing yet, after its end nothing more, and no environment either.
  if (auxiliary<std::uint64_t>(vector, AT_PAGESZ)) {
    program.secure = auxiliary<std::uint64_t>(vector, AT_SECURE).value_or(1) != 0;
  } else if (auxiliary<std::uint32_t>(vector, AT_PAGESZ)) {
    program.secure = auxiliary<std::uint32_t>(vector, AT_SECURE).value_or(1) != 0;
  }
  return program;
}

pid_t this_process() { return ::getpid(); }

}  // namespace vellum::sys
