// Descriptors that whoever started this program passed on, by the convention of socket activation: LISTEN_PID,
// LISTEN_FDS and LISTEN_FDNAMES in the environment, descriptors from 3 on.
// Taking them removes the variables and closes them on exec, so that no program we start takes them for its own.
// Threads: take() in main(), before any thread. Source: sd_listen_fds(3).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sys/fd.h"

namespace vellum::sys {

class InheritedFds {
 public:
  // None, where the variables are not meant for this process.
  static InheritedFds take();
  // The first of that name which was not taken yet.
  std::optional<UniqueFd> take(std::string_view name);

 private:
  std::vector<std::pair<std::string, UniqueFd>> fds_;
};

}  // namespace vellum::sys
