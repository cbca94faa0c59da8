#include "sys/inherited_fds.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace vellum::sys {
namespace {

constexpr int kFirst = 3;
constexpr int kMost = 1024;

std::string variable(const char* name) {
  const char* value = ::secure_getenv(name);
  return value != nullptr ? value : "";
}

int number(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : -1;
}

}  // namespace

InheritedFds InheritedFds::take() {
  InheritedFds inherited;
  const int count = number(variable("LISTEN_FDS"));
  const std::string names = variable("LISTEN_FDNAMES");
  const bool ours = number(variable("LISTEN_PID")) == ::getpid();
  if (!ours || count <= 0 || count > kMost) return inherited;
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  std::size_t at = 0;
  for (int i = 0; i < count; ++i) {
    const int fd = kFirst + i;
    const std::size_t colon = std::min(names.find(':', at), names.size());
    std::string name = at <= names.size() ? names.substr(at, colon - at) : "";
    at = colon + 1;
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0) continue;
    ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    inherited.fds_.emplace_back(std::move(name), UniqueFd(fd));
  }
  return inherited;
}

std::optional<UniqueFd> InheritedFds::take(std::string_view name) {
  for (auto& [each, fd] : fds_) {
    if (each == name && fd) return std::move(fd);
  }
  return std::nullopt;
}

}  // namespace vellum::sys
