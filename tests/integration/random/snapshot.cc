#include "snapshot.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "tree.h"

namespace vellum::random_test {
namespace {

constexpr std::int64_t kClockSlackSeconds = 20;

class Walk {
 public:
  Walk(const std::string& root, const SnapshotOptions& options) : root_(root), options_(options) {}

  Snapshot run() {
    visit("", nullptr);
    return std::move(result_);
  }

 private:
  void odd(const std::string& path, const std::string& what) {
    result_.oddities.push_back(fmt::format("{}: {}", quoted(path), what));
  }

  void visit(const std::string& path, const dirent* listed) {
    const std::string full = path.empty() ? root_ : root_ + "/" + path;
    struct stat st;
    if (::lstat(full.c_str(), &st) != 0) return odd(path, fmt::format("listed, but lstat: {}", std::strerror(errno)));
    if (listed != nullptr) check_listing(path, *listed, st);
    Seen seen;
    seen.mode = comparable_mode(st.st_mode);
    seen.uid = st.st_uid;
    seen.gid = st.st_gid;
    seen.links = st.st_nlink;
    seen.rdev = S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? st.st_rdev : 0;
    seen.size = S_ISDIR(st.st_mode) ? 0 : st.st_size;
    seen.mtime = st.st_mtim.tv_sec;
    seen.xattrs = xattrs_of(path, full);
    if (S_ISREG(st.st_mode)) seen.data = content_of(path, full, st.st_size);
    if (S_ISLNK(st.st_mode)) seen.data = target_of(path, full);
    const auto [first, added] = inodes_.emplace(std::pair(st.st_dev, st.st_ino), path);
    if (!added && !S_ISDIR(st.st_mode) && st.st_nlink > 1)
      seen.same_file_as = first->second;
    else if (!added && options_.strict)
      odd(path, fmt::format("has the inode number {} of {}", st.st_ino, quoted(first->second)));
    result_.entries[path] = std::move(seen);
    if (S_ISDIR(st.st_mode)) visit_children(path, full);
  }

  void check_listing(const std::string& path, const dirent& listed, const struct stat& st) {
    if (listed.d_type != DT_UNKNOWN && listed.d_type != IFTODT(st.st_mode))
      odd(path, fmt::format("d_type {} but mode {:o}", listed.d_type, st.st_mode));
    if (options_.strict && listed.d_ino != st.st_ino)
      odd(path, fmt::format("d_ino {} but st_ino {}", listed.d_ino, st.st_ino));
  }

  void visit_children(const std::string& path, const std::string& full) {
    DIR* stream = ::opendir(full.c_str());
    if (stream == nullptr) return odd(path, fmt::format("opendir: {}", std::strerror(errno)));
    std::vector<dirent> listed;
    std::map<std::string, int> times;
    errno = 0;
    while (const dirent* entry = ::readdir(stream)) {
      if (times[entry->d_name]++ == 1) odd(path, fmt::format("lists {} more than once", quoted(entry->d_name)));
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") listed.push_back(*entry);
    }
    if (errno != 0) odd(path, fmt::format("readdir: {}", std::strerror(errno)));
    ::closedir(stream);
    if (options_.strict && (!times.contains(".") || !times.contains(".."))) odd(path, "lists no . or ..");
    // One order for everyone, so that "first path of an inode" is the same on both sides.
    std::sort(listed.begin(), listed.end(),
              [](const dirent& a, const dirent& b) { return std::strcmp(a.d_name, b.d_name) < 0; });
    for (const dirent& entry : listed) visit(path.empty() ? entry.d_name : path + "/" + entry.d_name, &entry);
  }

  std::string content_of(const std::string& path, const std::string& full, off_t size) {
    const int fd = ::open(full.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
      odd(path, fmt::format("open: {}", std::strerror(errno)));
      return "";
    }
    std::string data(static_cast<std::size_t>(size) + 1, '\0');
    std::size_t have = 0;
    while (have < data.size()) {
      const ssize_t got = ::read(fd, data.data() + have, data.size() - have);
      if (got < 0) odd(path, fmt::format("read: {}", std::strerror(errno)));
      if (got <= 0) break;
      have += static_cast<std::size_t>(got);
    }
    ::close(fd);
    data.resize(have);
    if (have != static_cast<std::size_t>(size)) odd(path, fmt::format("size {} but {} bytes to read", size, have));
    return data;
  }

  std::string target_of(const std::string& path, const std::string& full) {
    std::string target(8192, '\0');
    const ssize_t got = ::readlink(full.c_str(), target.data(), target.size());
    if (got < 0) odd(path, fmt::format("readlink: {}", std::strerror(errno)));
    target.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return target;
  }

  bool hidden(const std::string& name) const {
    return !options_.keep_overlay_xattrs &&
           (name.find(".overlay.") != std::string::npos || name.find(".fuseoverlayfs.") != std::string::npos);
  }

  std::map<std::string, std::string> xattrs_of(const std::string& path, const std::string& full) {
    std::map<std::string, std::string> found;
    std::string list(65536, '\0');
    const ssize_t length = ::llistxattr(full.c_str(), list.data(), list.size());
    if (length < 0) {
      odd(path, fmt::format("listxattr: {}", std::strerror(errno)));
      return found;
    }
    for (std::size_t at = 0; at < static_cast<std::size_t>(length);) {
      const std::string name = list.c_str() + at;
      at += name.size() + 1;
      if (hidden(name)) continue;
      std::string value(65536, '\0');
      const ssize_t got = ::lgetxattr(full.c_str(), name.c_str(), value.data(), value.size());
      if (got < 0) odd(path, fmt::format("lists xattr {}, but getxattr: {}", name, std::strerror(errno)));
      value.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
      if (!found.emplace(name, value).second) odd(path, fmt::format("lists xattr {} twice", name));
    }
    return found;
  }

  std::string root_;
  SnapshotOptions options_;
  Snapshot result_;
  std::map<std::pair<dev_t, ino_t>, std::string> inodes_;
};

std::string first_difference(const std::string& expected, const std::string& got) {
  const auto at = static_cast<std::size_t>(
      std::mismatch(expected.begin(), expected.end(), got.begin(), got.end()).first - expected.begin());
  return fmt::format("sizes {} and {}, first difference at {}", expected.size(), got.size(), at);
}

std::string names_of(const std::map<std::string, std::string>& xattrs) {
  std::string text;
  for (const auto& [name, value] : xattrs) text += fmt::format(" {}={}", name, quoted(value.substr(0, 60)));
  return text;
}

void compare_entry(const std::string& path, const Seen& expected, const Seen& got, const Comparison& comparison,
                   std::vector<std::string>& lines) {
  const auto report = [&](const std::string& what) { lines.push_back(fmt::format("{}: {}", quoted(path), what)); };
  if (expected.mode != got.mode) report(fmt::format("mode {:o}, expected {:o}", got.mode, expected.mode));
  if (expected.uid != got.uid || expected.gid != got.gid)
    report(fmt::format("owner {}:{}, expected {}:{}", got.uid, got.gid, expected.uid, expected.gid));
  if (expected.rdev != got.rdev) report(fmt::format("device {:#x}, expected {:#x}", got.rdev, expected.rdev));
  if (expected.size != got.size) report(fmt::format("size {}, expected {}", got.size, expected.size));
  if (expected.data != got.data) report("content differs: " + first_difference(expected.data, got.data));
  if (expected.xattrs != got.xattrs)
    report(fmt::format("xattrs{}, expected{}", names_of(got.xattrs), names_of(expected.xattrs)));
  if (comparison.links && !S_ISDIR(expected.mode)) {
    if (expected.links != got.links) report(fmt::format("nlink {}, expected {}", got.links, expected.links));
    if (expected.same_file_as != got.same_file_as)
      report(fmt::format("is one file with {}, expected {}", quoted(got.same_file_as), quoted(expected.same_file_as)));
  }
  const bool timed = S_ISREG(expected.mode) || S_ISDIR(expected.mode) || S_ISLNK(expected.mode);
  if (comparison.mtimes && timed && std::abs(expected.mtime - got.mtime) > kClockSlackSeconds)
    report(fmt::format("mtime {}, expected {}", got.mtime, expected.mtime));
}

}  // namespace

mode_t comparable_mode(mode_t mode) {
  return S_ISREG(mode) && (mode & S_IXGRP) == 0 ? mode & ~static_cast<mode_t>(S_ISGID) : mode;
}

Snapshot take_snapshot(const std::string& directory, const SnapshotOptions& options) {
  return Walk(directory, options).run();
}

std::vector<std::string> differences(const Snapshot& expected, const Snapshot& got, const Comparison& comparison) {
  std::vector<std::string> lines = got.oddities;
  for (const auto& [path, entry] : expected.entries) {
    const auto found = got.entries.find(path);
    if (found == got.entries.end())
      lines.push_back(quoted(path) + ": missing");
    else
      compare_entry(path, entry, found->second, comparison, lines);
  }
  for (const auto& [path, entry] : got.entries)
    if (!expected.entries.contains(path)) lines.push_back(quoted(path) + ": should not be there");
  return lines;
}

}  // namespace vellum::random_test
