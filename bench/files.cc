#include "files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

namespace vellum::bench {

long must(long result, const char* what, const std::string& path) {
  if (result < 0) throw Failure(fmt::format("{} {}: {}", what, path, std::strerror(errno)));
  return result;
}

void make_dirs(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), 0755) < 0 && errno != EEXIST) must(-1, "mkdir", part);
    if (slash == std::string::npos) return;
  }
}

void write_file(const std::string& path, const std::string& content) {
  const int fd =
      static_cast<int>(must(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644), "create", path));
  const ssize_t written = ::write(fd, content.data(), content.size());
  ::close(fd);
  must(written == static_cast<ssize_t>(content.size()) ? 0 : -1, "write", path);
}

void write_big_file(const std::string& path, std::uint64_t size) {
  const int fd =
      static_cast<int>(must(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644), "create", path));
  std::string block(1U << 20U, '\0');
  for (std::uint64_t at = 0; at < size; at += block.size()) {
    for (std::size_t page = 0; page < block.size(); page += 4096) {
      const std::uint64_t number = (at + page) / 4096 + 1;
      std::memcpy(block.data() + page, &number, sizeof number);
    }
    const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), size - at));
    must(::write(fd, block.data(), wanted) == static_cast<ssize_t>(wanted) ? 0 : -1, "write", path);
  }
  must(::close(fd), "close", path);
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  return std::move(content).str();
}

void remove_tree(const std::string& path) {
  const auto remove_one = [](const char* name, const struct stat*, int type, struct FTW*) {
    if (type == FTW_DNR) {  // the work directory of kernel overlayfs has mode 0
      ::chmod(name, 0700);
      remove_tree(name);
      return 0;
    }
    if (::remove(name) < 0 && errno != ENOENT) std::fprintf(stderr, "remove %s: %s\n", name, std::strerror(errno));
    return 0;
  };
  ::nftw(path.c_str(), remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

std::string shell_quoted(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

void run_shell(const std::string& command) {
  std::FILE* pipe = ::popen(("exec 2>&1 </dev/null; " + command).c_str(), "re");
  if (pipe == nullptr) must(-1, "run", command);
  std::string output(4096, '\0');
  std::size_t used = 0;
  for (std::size_t got = 0; (got = std::fread(output.data() + used, 1, output.size() - used, pipe)) > 0;) {
    used = std::min(used + got, output.size() / 2);  // the rest is read, so that nobody waits for us
  }
  const int status = ::pclose(pipe);
  if (status != 0) throw Failure(fmt::format("{}: status {}: {}", command, status, output.substr(0, used)));
}

}  // namespace vellum::bench
