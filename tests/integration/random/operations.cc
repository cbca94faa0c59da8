#include "operations.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <set>
#include <utility>

#include "sandbox.h"
#include "snapshot.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

namespace vellum::random_test {
namespace {

constexpr std::int64_t kClockSlackSeconds = 20;
constexpr std::uint64_t kSlots = 3;
constexpr std::array<const char*, static_cast<std::size_t>(OpKind::kCount)> kNames = {"create",
                                                                                      "write",
                                                                                      "read",
                                                                                      "truncate",
                                                                                      "mkdir",
                                                                                      "symlink",
                                                                                      "mknod",
                                                                                      "link",
                                                                                      "unlink",
                                                                                      "rmdir",
                                                                                      "rename",
                                                                                      "chmod",
                                                                                      "chown",
                                                                                      "utimens",
                                                                                      "setxattr",
                                                                                      "removexattr",
                                                                                      "getxattr",
                                                                                      "setacl",
                                                                                      "open-unlink-write",
                                                                                      "tmpfile",
                                                                                      "readdir",
                                                                                      "copy",
                                                                                      "stat",
                                                                                      "access",
                                                                                      "hold",
                                                                                      "held-write",
                                                                                      "held-read",
                                                                                      "held-stat",
                                                                                      "held-chmod",
                                                                                      "held-truncate",
                                                                                      "release",
                                                                                      "list-while-changing",
                                                                                      "remove-tree",
                                                                                      "remount"};

// Kinds by how often they should come; anything that changes the tree's shape comes often.
struct Weight {
  OpKind kind;
  unsigned weight;
};
constexpr std::array<Weight, static_cast<std::size_t>(OpKind::kCount)> kWeights = {{
    {OpKind::kCreate, 8},
    {OpKind::kWrite, 6},
    {OpKind::kRead, 2},
    {OpKind::kTruncate, 3},
    {OpKind::kMkdir, 8},
    {OpKind::kSymlink, 3},
    {OpKind::kMknod, 3},
    {OpKind::kLink, 6},
    {OpKind::kUnlink, 8},
    {OpKind::kRmdir, 6},
    {OpKind::kRename, 18},
    {OpKind::kChmod, 5},
    {OpKind::kChown, 3},
    {OpKind::kUtimens, 3},
    {OpKind::kSetxattr, 5},
    {OpKind::kRemovexattr, 2},
    {OpKind::kGetxattr, 2},
    {OpKind::kSetAcl, 2},
    {OpKind::kOpenUnlinkWrite, 3},
    {OpKind::kTmpfile, 2},
    {OpKind::kReaddir, 4},
    {OpKind::kCopy, 3},
    {OpKind::kStat, 2},
    {OpKind::kAccess, 1},
    {OpKind::kHold, 3},
    {OpKind::kHeldWrite, 3},
    {OpKind::kHeldRead, 2},
    {OpKind::kHeldStat, 2},
    {OpKind::kHeldChmod, 1},
    {OpKind::kHeldTruncate, 2},
    {OpKind::kRelease, 1},
    {OpKind::kListWhileChanging, 3},
    {OpKind::kRemoveTree, 4},
    {OpKind::kRemount, 2},
}};

// Runs as uid and gid 1000 without capabilities for as long as it lives.
class AsUser {
 public:
  explicit AsUser(bool on) : on_(on) {
    if (!on_) return;
    if (::setgroups(0, nullptr) != 0 || ::setegid(1000) != 0 || ::seteuid(1000) != 0) std::abort();
  }
  AsUser(const AsUser&) = delete;
  AsUser& operator=(const AsUser&) = delete;
  ~AsUser() {
    if (on_ && (::seteuid(0) != 0 || ::setegid(0) != 0)) std::abort();
  }

 private:
  bool on_;
};

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool good() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int error_of(int result) { return result < 0 ? errno : 0; }
int error_of(ssize_t result) { return result < 0 ? errno : 0; }

void note_stat(Outcome& outcome, const char* what, const struct stat& st) {
  outcome.text += fmt::format(" {}[{:o} {}:{}", what, comparable_mode(st.st_mode), st.st_uid, st.st_gid);
  if (!S_ISDIR(st.st_mode)) outcome.text += fmt::format(" size {} nlink {}", st.st_size, st.st_nlink);
  if (S_ISCHR(st.st_mode)) outcome.text += fmt::format(" rdev {:#x}", st.st_rdev);
  outcome.text += "]";
  if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)) outcome.mtimes.push_back(st.st_mtim.tv_sec);
}

void note_path(Outcome& outcome, const char* what, const std::string& full) {
  struct stat st;
  if (::lstat(full.c_str(), &st) == 0)
    note_stat(outcome, what, st);
  else
    outcome.text += fmt::format(" {}[errno {}]", what, errno);
}

void note_fd(Outcome& outcome, const char* what, int fd) {
  struct stat st;
  if (::fstat(fd, &st) == 0)
    note_stat(outcome, what, st);
  else
    outcome.text += fmt::format(" {}[errno {}]", what, errno);
}

void note_content(Outcome& outcome, int fd) {
  std::string data(200'000, '\0');
  const ssize_t got = ::pread(fd, data.data(), data.size(), 0);
  if (got < 0) {
    outcome.text += fmt::format(" read: errno {}", errno);
    return;
  }
  data.resize(static_cast<std::size_t>(got));
  outcome.text += fmt::format(" read {} bytes, hash {:x}", got, std::hash<std::string>{}(data));
}

std::vector<std::string> listing(const std::string& full, int& error) {
  std::vector<std::string> found;
  DIR* stream = ::opendir(full.c_str());
  if (stream == nullptr) {
    error = errno;
    return found;
  }
  while (const dirent* entry = ::readdir(stream)) found.emplace_back(entry->d_name);
  ::closedir(stream);
  std::sort(found.begin(), found.end());
  return found;
}

Outcome create(const Op& op, const std::string& full) {
  Outcome outcome;
  const Fd fd(::open(full.c_str(), O_NONBLOCK | O_CLOEXEC | O_CREAT | O_RDWR | static_cast<int>(op.number),
                     static_cast<mode_t>(op.mode)));
  if (!fd.good()) return {.error = errno, .text = {}, .mtimes = {}};
  outcome.error = error_of(::write(fd.get(), op.data.data(), op.data.size()));
  note_fd(outcome, "fd", fd.get());
  return outcome;
}

Outcome write_at(const Op& op, const std::string& full) {
  const Fd fd(::open(full.c_str(), O_NONBLOCK | O_CLOEXEC | O_WRONLY | static_cast<int>(op.mode)));
  if (!fd.good()) return {.error = errno, .text = {}, .mtimes = {}};
  Outcome outcome;
  outcome.error = error_of(::pwrite(fd.get(), op.data.data(), op.data.size(), static_cast<off_t>(op.number)));
  return outcome;
}

Outcome read_all(const std::string& full) {
  const Fd fd(::open(full.c_str(), O_NONBLOCK | O_CLOEXEC | O_RDONLY));
  if (!fd.good()) return {.error = errno, .text = {}, .mtimes = {}};
  Outcome outcome;
  note_content(outcome, fd.get());
  note_fd(outcome, "fd", fd.get());
  return outcome;
}

// Setting the size a file has already may or may not touch its mtime: file systems differ, so it is left out.
Outcome truncate_to(const Op& op, const std::string& full) {
  struct stat st;
  if (::stat(full.c_str(), &st) == 0 && S_ISREG(st.st_mode) && static_cast<std::uint64_t>(st.st_size) == op.number)
    return {};
  Outcome outcome;
  outcome.error = error_of(::truncate(full.c_str(), static_cast<off_t>(op.number)));
  return outcome;
}

Outcome get_xattr(const Op& op, const std::string& full) {
  std::string value(70'000, '\0');
  const ssize_t got = ::lgetxattr(full.c_str(), op.other.c_str(), value.data(), value.size());
  if (got < 0) return {.error = errno, .text = {}, .mtimes = {}};
  value.resize(static_cast<std::size_t>(got));
  return {.error = 0, .text = " value " + quoted(value), .mtimes = {}};
}

Outcome set_times(const Op& op, const std::string& full) {
  timespec times[2] = {{static_cast<time_t>(op.number), 0}, {static_cast<time_t>(op.number), 0}};
  if (op.mode == 1) times[0].tv_nsec = UTIME_OMIT;
  if (op.mode == 2) times[1].tv_nsec = UTIME_NOW;
  if (op.mode == 3) times[1].tv_nsec = UTIME_OMIT;
  Outcome outcome;
  outcome.error = error_of(::utimensat(AT_FDCWD, full.c_str(), times, AT_SYMLINK_NOFOLLOW));
  return outcome;
}

Outcome open_unlink_write(const Op& op, const std::string& full) {
  const Fd fd(::open(full.c_str(), O_NONBLOCK | O_CLOEXEC | O_RDWR | O_NOFOLLOW));
  if (!fd.good()) return {.error = errno, .text = {}, .mtimes = {}};
  Outcome outcome;
  outcome.error = error_of(::unlink(full.c_str()));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return outcome;
  note_fd(outcome, "unlinked", fd.get());
  outcome.text += fmt::format(" write {}", ::pwrite(fd.get(), op.data.data(), op.data.size(), 10));
  outcome.text += fmt::format(" chmod {}", error_of(::fchmod(fd.get(), 0640)));
  outcome.text += fmt::format(" setxattr {}", error_of(::fsetxattr(fd.get(), "user.held", "1", 1, 0)));
  outcome.text += fmt::format(" truncate {}", error_of(::ftruncate(fd.get(), 20'000)));
  note_content(outcome, fd.get());
  note_fd(outcome, "after", fd.get());
  return outcome;
}

Outcome make_tmpfile(const Op& op, const std::string& full, const std::string& new_name) {
  const Fd fd(::open(full.c_str(), O_TMPFILE | O_CLOEXEC | O_RDWR, static_cast<mode_t>(op.mode)));
  if (!fd.good()) return {.error = errno, .text = {}, .mtimes = {}};
  Outcome outcome;
  outcome.text += fmt::format(" write {}", ::write(fd.get(), op.data.data(), op.data.size()));
  note_fd(outcome, "tmpfile", fd.get());
  const std::string self = fmt::format("/proc/self/fd/{}", fd.get());
  outcome.error = error_of(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, new_name.c_str(), AT_SYMLINK_FOLLOW));
  note_fd(outcome, "linked", fd.get());
  return outcome;
}

Outcome copy_file(const std::string& from, const std::string& to) {
  const Fd source(::open(from.c_str(), O_NONBLOCK | O_CLOEXEC | O_RDONLY));
  if (!source.good()) return {.error = errno, .text = {}, .mtimes = {}};
  struct stat st;
  if (::fstat(source.get(), &st) != 0 || !S_ISREG(st.st_mode)) return {};
  const Fd target(::open(to.c_str(), O_CLOEXEC | O_NONBLOCK | O_WRONLY | O_CREAT | O_EXCL, 0644));
  if (!target.good()) return {.error = errno, .text = {}, .mtimes = {}};
  Outcome outcome;
  ssize_t copied = 0;
  ssize_t total = 0;
  while ((copied = ::copy_file_range(source.get(), nullptr, target.get(), nullptr, 1 << 20, 0)) > 0) total += copied;
  // Layers may lie on different devices; every copying program goes on this way then.
  if (copied < 0 && errno == EXDEV)
    while ((copied = ::sendfile(target.get(), source.get(), nullptr, 1 << 20)) > 0) total += copied;
  outcome.error = error_of(copied);
  outcome.text = fmt::format(" copied {}", total);
  return outcome;
}

// Lists part of a directory, changes it, lists the rest: what stood there all the time must come exactly once.
Outcome list_while_changing(const std::string& full) {
  int error = 0;
  std::vector<std::string> stayed = listing(full, error);
  if (error != 0) return {.error = error, .text = {}, .mtimes = {}};
  DIR* stream = ::opendir(full.c_str());
  if (stream == nullptr) return {.error = errno, .text = {}, .mtimes = {}};
  Outcome outcome;
  std::map<std::string, int> times;
  const auto note = [&](const dirent* entry) { ++times[entry->d_name]; };
  for (int i = 0; i < 3; ++i)
    if (const dirent* entry = ::readdir(stream)) note(entry);
  for (int i = 0; i < 20; ++i) {
    const std::string name = fmt::format("{}/while-listing-{}", full, i);
    const Fd fd(::open(name.c_str(), O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0644));
    outcome.error |= fd.good() ? 0 : errno;
  }
  for (int i = 0; i < 20; i += 2) ::unlink(fmt::format("{}/while-listing-{}", full, i).c_str());
  while (const dirent* entry = ::readdir(stream)) note(entry);
  for (const std::string& name : stayed)
    if (times[name] != 1) outcome.text += fmt::format(" {} listed {} times", quoted(name), times[name]);
  // A second look through the same stream shows the directory as it is now.
  ::rewinddir(stream);
  times.clear();
  while (const dirent* entry = ::readdir(stream)) note(entry);
  for (const auto& [name, count] : times)
    if (count != 1) outcome.text += fmt::format(" after rewind {} listed {} times", quoted(name), count);
  outcome.text += fmt::format(" {} after rewind", times.size());
  for (int i = 1; i < 20; i += 2) ::unlink(fmt::format("{}/while-listing-{}", full, i).c_str());
  ::closedir(stream);
  return outcome;
}

Outcome set_xattr(const Op& op, const std::string& full) {
  Outcome outcome;
  outcome.error =
      error_of(::lsetxattr(full.c_str(), op.other.c_str(), op.data.data(), op.data.size(), static_cast<int>(op.mode)));
  return outcome;
}

void copy_node(const std::string& from, const std::string& to, Outcome& outcome);

void copy_children(const std::string& from, const std::string& to, Outcome& outcome) {
  int error = 0;
  for (const std::string& name : listing(from, error))
    if (name != "." && name != "..") copy_node(from + "/" + name, to + "/" + name, outcome);
  outcome.error |= error;
}

void copy_node(const std::string& from, const std::string& to, Outcome& outcome) {
  struct stat st;
  if (::lstat(from.c_str(), &st) != 0) {
    outcome.error |= errno;
    return;
  }
  if (S_ISDIR(st.st_mode)) {
    outcome.error |= error_of(::mkdir(to.c_str(), 0700));
    copy_children(from, to, outcome);
  } else if (S_ISLNK(st.st_mode)) {
    std::string target(8192, '\0');
    const ssize_t got = ::readlink(from.c_str(), target.data(), target.size());
    target.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    outcome.error |= error_of(::symlink(target.c_str(), to.c_str()));
  } else if (S_ISREG(st.st_mode)) {
    outcome.error |= copy_file(from, to).error;
  } else {
    outcome.error |= error_of(::mknod(to.c_str(), st.st_mode, st.st_rdev));
  }
  outcome.error |= error_of(::lchown(to.c_str(), st.st_uid, st.st_gid));
  if (!S_ISLNK(st.st_mode)) outcome.error |= error_of(::chmod(to.c_str(), st.st_mode & 07777));
  const timespec times[2] = {st.st_mtim, st.st_mtim};
  outcome.error |= error_of(::utimensat(AT_FDCWD, to.c_str(), times, AT_SYMLINK_NOFOLLOW));
}

mode_t random_mode(Random& random) {
  static constexpr std::array<mode_t, 11> kModes = {0644, 0755, 0700,  0600,  0777, 0666,
                                                    0444, 0000, 04755, 02775, 01777};
  return pick(random, kModes);
}

std::string random_xattr_name(Random& random, const Features& features) {
  static const std::vector<std::string> kUser = {"user.x", "user.x", "user.y", "user.held"};
  static const std::vector<std::string> kSpecial = {"trusted.t", "security.s", "security.capability"};
  static const std::vector<std::string> kOverlay = {"trusted.overlay.opaque", "trusted.overlay.whiteout",
                                                    "trusted.overlay.anything"};
  if (features.overlay_xattrs && chance(random, 10)) return pick(random, kOverlay);
  if (features.special_xattrs && chance(random, 25)) return pick(random, kSpecial);
  return pick(random, kUser);
}

}  // namespace

std::string describe(const Op& op) {
  std::string text = kNames[static_cast<std::size_t>(op.kind)];
  if (op.kind == OpKind::kRemount) return text;
  text += " " + quoted(op.path);
  if (!op.other.empty()) text += " " + quoted(op.other);
  if (!op.data.empty()) text += fmt::format(" data({})", op.data.size());
  text += fmt::format(" number={} mode={:#o}", op.number, op.mode);
  if (op.kind == OpKind::kChown) text += fmt::format(" {}:{}", static_cast<int>(op.uid), static_cast<int>(op.gid));
  if (op.umask != 022) text += fmt::format(" umask={:o}", op.umask);
  if (op.as_user) text += " as 1000";
  return text;
}

Op random_op(Random& random, const Features& features, const std::vector<std::string>& existing_paths) {
  unsigned total = 0;
  for (const Weight& weight : kWeights) total += weight.weight;
  auto roll = below(random, total);
  Op op;
  for (const Weight& weight : kWeights) {
    op.kind = weight.kind;
    if (roll < weight.weight) break;
    roll -= weight.weight;
  }
  const auto existing = [&] {
    return !existing_paths.empty() && chance(random, 80) ? pick(random, existing_paths) : random_path(random, features);
  };
  const auto fresh = [&] {
    // A new name inside an existing directory; where the path is a file, ENOTDIR is met.
    std::string parent = existing();
    return chance(random, 50) || std::count(parent.begin(), parent.end(), '/') > 4
               ? random_path(random, features)
               : parent + "/" + pick(random, names(features));
  };
  op.as_user = chance(random, 12);
  op.umask = chance(random, 15) ? 077 : 022;
  op.path = existing();
  switch (op.kind) {
    case OpKind::kCreate: {
      static constexpr std::array<int, 4> kFlags = {0, O_EXCL, O_TRUNC, O_APPEND};
      op.path = chance(random, 60) ? fresh() : op.path;
      op.number = static_cast<std::uint64_t>(pick(random, kFlags));
      op.mode = random_mode(random);
      op.data = random_content(random);
      break;
    }
    case OpKind::kWrite:
      op.data = random_content(random);
      op.number = below(random, 9000);
      op.mode = chance(random, 20) ? O_APPEND : chance(random, 20) ? O_TRUNC : 0;
      break;
    case OpKind::kTruncate: op.number = below(random, 2) * below(random, 80'000); break;
    case OpKind::kMkdir:
      op.path = fresh();
      op.mode = random_mode(random);
      break;
    case OpKind::kSymlink:
      op.other = op.path;
      op.path = fresh();
      break;
    case OpKind::kMknod:
      op.path = fresh();
      op.number = features.devices ? below(random, 3) : 0;
      op.mode = random_mode(random);
      break;
    case OpKind::kLink:
    case OpKind::kCopy: op.other = fresh(); break;
    case OpKind::kRename:
      op.other = chance(random, 50) ? fresh() : existing();
      op.mode = chance(random, 15) ? RENAME_NOREPLACE : chance(random, 20) ? RENAME_EXCHANGE : 0;
      break;
    case OpKind::kChmod:
    case OpKind::kHeldChmod:
      op.mode = random_mode(random);
      if (!features.late_set_id) op.mode &= 01777;
      break;
    case OpKind::kChown:
      op.uid = chance(random, 30) ? static_cast<uid_t>(-1) : chance(random, 50) ? 1000 : 0;
      op.gid = chance(random, 30) && (features.empty_chown || op.uid != static_cast<uid_t>(-1)) ? static_cast<gid_t>(-1)
               : chance(random, 50)                                                             ? 1000
                                                                                                : 0;
      break;
    case OpKind::kUtimens:
      op.number = 1'100'000'000 + below(random, 1'000'000);
      op.mode = below(random, 4);
      break;
    case OpKind::kSetxattr: {
      op.other = random_xattr_name(random, features);
      op.data = random_content(random).substr(0, 200);
      if (op.other == "security.capability") op.data = file_capability();
      op.mode = chance(random, 15) ? XATTR_CREATE : chance(random, 15) ? XATTR_REPLACE : 0;
      break;
    }
    case OpKind::kRemovexattr:
    case OpKind::kGetxattr: op.other = random_xattr_name(random, features); break;
    case OpKind::kSetAcl:
      op.other = chance(random, 50) ? "system.posix_acl_access" : "system.posix_acl_default";
      op.data = random_acl(random);
      break;
    case OpKind::kOpenUnlinkWrite: op.data = random_content(random); break;
    case OpKind::kTmpfile:
      op.other = fresh();
      op.mode = random_mode(random);
      op.data = random_content(random);
      break;
    case OpKind::kRemoveTree: op.as_user = false; break;  // what rm leaves depends on the order of the listing
    case OpKind::kAccess: op.mode = below(random, 8); break;
    case OpKind::kHeldWrite: op.data = random_content(random); [[fallthrough]];
    case OpKind::kHeldTruncate: op.mode = below(random, 60'000); [[fallthrough]];
    case OpKind::kHold:
    case OpKind::kHeldRead:
    case OpKind::kHeldStat:
    case OpKind::kRelease: break;
    default: break;
  }
  const bool slotted = op.kind == OpKind::kHold || op.kind == OpKind::kHeldWrite || op.kind == OpKind::kHeldRead ||
                       op.kind == OpKind::kHeldStat || op.kind == OpKind::kHeldChmod ||
                       op.kind == OpKind::kHeldTruncate || op.kind == OpKind::kRelease;
  if (slotted) op.number = below(random, kSlots);
  if (op.kind == OpKind::kSetAcl && !features.acls) op.kind = OpKind::kStat;
  return op;
}

std::string difference(const Outcome& expected, const Outcome& got, bool compare_mtimes) {
  if (expected.error != got.error)
    return fmt::format("got {}, expected {}", got.error == 0 ? "success" : strerrorname_np(got.error),
                       expected.error == 0 ? "success" : strerrorname_np(expected.error));
  if (expected.text != got.text) return fmt::format("got{}, expected{}", got.text, expected.text);
  if (!compare_mtimes) return "";
  if (expected.mtimes.size() != got.mtimes.size()) return "another number of times";
  for (std::size_t i = 0; i < expected.mtimes.size(); ++i)
    if (std::abs(expected.mtimes[i] - got.mtimes[i]) > kClockSlackSeconds)
      return fmt::format("mtime {}, expected {}", got.mtimes[i], expected.mtimes[i]);
  return "";
}

Outcome Workplace::run(const Op& op) {
  Outcome outcome;
  {
    const mode_t before = ::umask(op.umask);
    const AsUser user(op.as_user);
    outcome = perform(op);
    ::umask(before);
  }
  if (op.kind == OpKind::kRemount) return outcome;
  note_path(outcome, "path", full(op.path));
  const bool two_paths =
      op.kind == OpKind::kRename || op.kind == OpKind::kLink || op.kind == OpKind::kCopy || op.kind == OpKind::kTmpfile;
  if (two_paths) note_path(outcome, "other", full(op.other));
  return outcome;
}

Outcome Workplace::perform(const Op& op) {
  const std::string path = full(op.path);
  const char* name = path.c_str();
  const auto mode = static_cast<mode_t>(op.mode);
  const auto done = [](int result) { return Outcome{.error = error_of(result), .text = {}, .mtimes = {}}; };
  const auto held = [&] {
    const auto found = held_.find(op.number);
    return found == held_.end() ? -1 : found->second;
  };
  Outcome outcome;
  switch (op.kind) {
    case OpKind::kCreate: return create(op, path);
    case OpKind::kWrite: return write_at(op, path);
    case OpKind::kRead: return read_all(path);
    case OpKind::kTruncate: return truncate_to(op, path);
    case OpKind::kMkdir: return done(::mkdir(name, mode));
    case OpKind::kSymlink: return done(::symlink(op.other.c_str(), name));
    case OpKind::kMknod: {
      static constexpr std::array<mode_t, 3> kTypes = {S_IFIFO, S_IFCHR, S_IFSOCK};
      return done(::mknod(name, kTypes[op.number] | mode, op.number == 1 ? makedev(1, 3) : 0));
    }
    case OpKind::kLink: return done(::linkat(AT_FDCWD, name, AT_FDCWD, full(op.other).c_str(), 0));
    case OpKind::kUnlink: return done(::unlink(name));
    case OpKind::kRmdir: return done(::rmdir(name));
    case OpKind::kRename:
      return done(::renameat2(AT_FDCWD, name, AT_FDCWD, full(op.other).c_str(), static_cast<unsigned>(op.mode)));
    case OpKind::kChmod: return done(::chmod(name, mode));
    case OpKind::kChown: return done(::lchown(name, op.uid, op.gid));
    case OpKind::kUtimens: return set_times(op, path);
    case OpKind::kSetxattr:
    case OpKind::kSetAcl: return set_xattr(op, path);
    case OpKind::kRemovexattr: return done(::lremovexattr(name, op.other.c_str()));
    case OpKind::kGetxattr: return get_xattr(op, path);
    case OpKind::kOpenUnlinkWrite: return open_unlink_write(op, path);
    case OpKind::kTmpfile: return make_tmpfile(op, path, full(op.other));
    case OpKind::kReaddir:
      for (const std::string& entry : listing(path, outcome.error)) outcome.text += " " + quoted(entry);
      return outcome;
    case OpKind::kCopy: return copy_file(path, full(op.other));
    case OpKind::kStat: {
      struct stat st;
      if (::stat(name, &st) == 0)
        note_stat(outcome, "followed", st);
      else
        outcome.error = errno;
      return outcome;
    }
    case OpKind::kAccess: return done(::faccessat(AT_FDCWD, name, static_cast<int>(op.mode), AT_EACCESS));
    case OpKind::kHold: {
      if (held() >= 0) ::close(held());
      held_.erase(op.number);
      Fd fd(::open(name, O_NONBLOCK | O_CLOEXEC | O_RDWR));
      if (!fd.good()) return done(-1);
      struct stat st;
      if (::fstat(fd.get(), &st) == 0 && S_ISREG(st.st_mode)) held_[op.number] = fd.release();
      return outcome;
    }
    case OpKind::kHeldWrite:
      if (held() < 0) return outcome;
      return done(static_cast<int>(::pwrite(held(), op.data.data(), op.data.size(), static_cast<off_t>(op.mode))));
    case OpKind::kHeldRead:
      if (held() >= 0) note_content(outcome, held());
      return outcome;
    case OpKind::kHeldStat:
      if (held() >= 0) note_fd(outcome, "held", held());
      return outcome;
    case OpKind::kHeldChmod: return held() < 0 ? outcome : done(::fchmod(held(), mode));
    case OpKind::kHeldTruncate: return held() < 0 ? outcome : done(::ftruncate(held(), static_cast<off_t>(op.mode)));
    case OpKind::kRelease:
      if (held() >= 0) ::close(held());
      held_.erase(op.number);
      return outcome;
    case OpKind::kListWhileChanging: return list_while_changing(path);
    case OpKind::kRemoveTree: {
      struct stat st;
      if (::lstat(name, &st) == 0) remove_tree(path);
      return outcome;
    }
    case OpKind::kRemount:
    case OpKind::kCount: return outcome;
  }
  return outcome;
}

void Workplace::release_all() {
  for (const auto& [slot, fd] : held_) ::close(fd);
  held_.clear();
}

Outcome move_by_copying(Workplace& place, const Op& rename) {
  Outcome outcome;
  const std::string to = place.full(rename.other);
  struct stat st;
  if (::lstat(to.c_str(), &st) == 0 && ::rmdir(to.c_str()) != 0) return {.error = errno, .text = {}, .mtimes = {}};
  copy_node(place.full(rename.path), to, outcome);
  remove_tree(place.full(rename.path));
  note_path(outcome, "path", place.full(rename.path));
  note_path(outcome, "other", to);
  return outcome;
}

}  // namespace vellum::random_test
