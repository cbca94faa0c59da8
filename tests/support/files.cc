#include "support/files.h"

#include <acl/libacl.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/acl.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

namespace vellum::test {
namespace {

std::string error_text(int error) { return "<" + errno_name(error) + ">"; }

int write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) return -1;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

int write_with(const std::string& path, int flags, std::string_view content, mode_t mode = 0) {
  int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return -1;
  int result = write_all(fd, content), error = errno;
  if (::close(fd) < 0) return -1;
  errno = error;
  return result;
}

std::string kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "dir";
    case S_IFLNK: return "symlink";
    case S_IFIFO: return "fifo";
    case S_IFSOCK: return "socket";
    case S_IFCHR: return "char";
    case S_IFBLK: return "block";
    default: return "?";
  }
}

std::string printable(std::string_view bytes) {
  std::string out;
  for (char byte : bytes) {
    if (byte >= 32 && byte < 127 && byte != '\\') {
      out += byte;
    } else {
      std::array<char, 8> code{};
      std::snprintf(code.data(), code.size(), "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(byte)));
      out += code.data();
    }
  }
  return out;
}

std::string describe(const std::string& path, const std::string& shown, const struct stat& at,
                     SnapshotOptions options) {
  std::string line = printable(shown) + " " + kind_of(at.st_mode) + " " + octal(at.st_mode & 07777);
  if (options.owners) line += " " + std::to_string(at.st_uid) + ":" + std::to_string(at.st_gid);
  if (S_ISREG(at.st_mode)) {
    line += " size=" + std::to_string(at.st_size) +
            " hash=" + std::to_string(std::hash<std::string>{}(read_file(path))) +
            " nlink=" + std::to_string(at.st_nlink);
  }
  if (S_ISLNK(at.st_mode)) line += " -> " + printable(link_target(path));
  if (S_ISCHR(at.st_mode) || S_ISBLK(at.st_mode)) {
    line += " " + std::to_string(major(at.st_rdev)) + "/" + std::to_string(minor(at.st_rdev));
  }
  if (options.times) {
    line += " mtime=" + std::to_string(at.st_mtim.tv_sec) + "." + std::to_string(at.st_mtim.tv_nsec);
  }
  for (const auto& name : list_xattrs(path)) line += " " + printable(name) + "=" + printable(get_xattr(path, name));
  return line;
}

void add_lines(const std::string& root, const std::string& below, SnapshotOptions options,
               std::vector<std::string>& lines) {
  for (const auto& name : names_in(root + below)) {
    std::string shown = below.empty() ? name : below.substr(1) + "/" + name;
    std::string path = root + below + "/" + name;
    struct stat at {};
    if (::lstat(path.c_str(), &at) < 0) {
      lines.push_back(printable(shown) + " listed, but lstat gives " + errno_name(errno));
      continue;
    }
    lines.push_back(describe(path, shown, at, options));
    if (S_ISDIR(at.st_mode)) add_lines(root, below + "/" + name, options, lines);
  }
}

}  // namespace

std::string errno_name(int error) {
  if (error == 0) return "0";
  const char* name = ::strerrorname_np(error);
  return name == nullptr ? std::to_string(error) : name;
}

Fd::Fd(const std::string& path, int flags, mode_t mode) : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {
  EXPECT_GE(fd_, 0) << "open " << path << ": " << errno_name(errno);
}

int Fd::close() { return fd_ < 0 ? 0 : ::close(std::exchange(fd_, -1)); }

std::string read_fd(int fd) {
  std::string content(65536, '\0');
  std::size_t used = 0;
  for (;;) {
    if (used == content.size()) content.resize(content.size() * 2);
    ssize_t got = ::pread(fd, content.data() + used, content.size() - used, static_cast<off_t>(used));
    if (got < 0) return error_text(errno);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  content.resize(used);
  return content;
}

std::string read_file(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return error_text(errno);
  std::string content = read_fd(fd);
  ::close(fd);
  return content;
}

int write_file(const std::string& path, std::string_view content) {
  return write_with(path, O_WRONLY | O_TRUNC, content);
}

int create_file(const std::string& path, std::string_view content, mode_t mode) {
  return write_with(path, O_WRONLY | O_CREAT | O_EXCL, content, mode);
}

int append_file(const std::string& path, std::string_view content) {
  return write_with(path, O_WRONLY | O_APPEND, content);
}

int open_errno(const std::string& path, int flags, mode_t mode) {
  int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return errno;
  ::close(fd);
  return 0;
}

struct stat lstat_of(const std::string& path) {
  struct stat at {};
  EXPECT_EQ(errno_name(::lstat(path.c_str(), &at) < 0 ? errno : 0), "0") << "lstat " << path;
  return at;
}

struct stat fstat_of(int fd) {
  struct stat at {};
  EXPECT_EQ(errno_name(::fstat(fd, &at) < 0 ? errno : 0), "0") << "fstat";
  return at;
}

ino_t ino_of(const std::string& path) { return lstat_of(path).st_ino; }
mode_t mode_of(const std::string& path) { return lstat_of(path).st_mode & 07777; }

std::string octal(mode_t mode) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%04o", static_cast<unsigned>(mode));
  return text.data();
}

bool exists(const std::string& path) {
  struct stat at {};
  return ::lstat(path.c_str(), &at) == 0;
}

std::string link_target(const std::string& path) {
  std::string target(8192, '\0');
  ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
  if (size < 0) return error_text(errno);
  target.resize(static_cast<std::size_t>(size));
  return target;
}

std::vector<std::string> names_in(const std::string& dir) {
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(dir.c_str()), ::closedir);
  if (stream == nullptr) return {error_text(errno)};
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  if (errno != 0) names.push_back(error_text(errno));
  std::sort(names.begin(), names.end());
  return names;
}

std::string get_xattr(const std::string& path, const std::string& name) {
  std::string value(65536 + 1, '\0');
  ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
  if (size < 0) return error_text(errno);
  value.resize(static_cast<std::size_t>(size));
  return value;
}

int set_xattr(const std::string& path, const std::string& name, std::string_view value, int flags) {
  return ::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), flags);
}

Names list_xattrs(const std::string& path) {
  std::string list(65536, '\0');
  ssize_t size = ::llistxattr(path.c_str(), list.data(), list.size());
  if (size < 0) return {error_text(errno)};
  list.resize(static_cast<std::size_t>(size));
  Names names;
  for (std::size_t at = 0; at < list.size(); at += names.back().size() + 1) names.emplace_back(list.c_str() + at);
  std::sort(names.begin(), names.end());
  return names;
}

bool is_whiteout_device(const std::string& path) {
  struct stat at {};
  return ::lstat(path.c_str(), &at) == 0 && S_ISCHR(at.st_mode) && at.st_rdev == 0;
}

bool is_whiteout(const std::string& dir, const std::string& name) {
  if (is_whiteout_device(dir + "/" + name) || exists(dir + "/.wh." + name)) return true;
  for (const char* mark : {"trusted.overlay.whiteout", "user.overlay.whiteout"}) {
    if (!get_xattr(dir + "/" + name, mark).starts_with("<")) return true;
  }
  return false;
}

bool is_opaque(const std::string& dir) {
  if (exists(dir + "/.wh..wh..opq")) return true;
  for (const char* mark : {"trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"}) {
    if (get_xattr(dir, mark) == "y") return true;
  }
  return false;
}

int set_times(const std::string& path, SetTimes seconds) {
  std::array<timespec, 2> times{{{seconds.atime, 0}, {seconds.mtime, 0}}};
  return ::utimensat(AT_FDCWD, path.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
}

std::vector<std::string> snapshot(const std::string& root, SnapshotOptions options) {
  std::vector<std::string> lines;
  add_lines(root, "", options, lines);
  return lines;
}

Ran run(const std::string& command) {
  Ran ran;
  std::FILE* pipe = ::popen(("{ " + command + "\n} 2>&1").c_str(), "re");
  if (pipe == nullptr) return {.status = -1, .output = error_text(errno)};
  std::array<char, 4096> buffer{};
  for (std::size_t got = 0; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    ran.output.append(buffer.data(), got);
  }
  int status = ::pclose(pipe);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

int set_acl(const std::string& path, const std::string& text, bool is_default) {
  acl_t acl = ::acl_from_text(text.c_str());
  if (acl == nullptr) return -1;
  int result = ::acl_set_file(path.c_str(), is_default ? ACL_TYPE_DEFAULT : ACL_TYPE_ACCESS, acl);
  int error = errno;
  ::acl_free(acl);
  errno = error;
  return result;
}

std::string get_acl(const std::string& path, bool is_default) {
  acl_t acl = ::acl_get_file(path.c_str(), is_default ? ACL_TYPE_DEFAULT : ACL_TYPE_ACCESS);
  if (acl == nullptr) return error_text(errno);
  char* text = ::acl_to_any_text(acl, nullptr, ',', TEXT_ABBREVIATE | TEXT_NUMERIC_IDS);
  std::string result = text == nullptr ? error_text(errno) : text;
  ::acl_free(text);
  ::acl_free(acl);
  return result;
}

void remove_tree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  EXPECT_FALSE(error) << "remove " << path << ": " << error.message();
}

}  // namespace vellum::test
