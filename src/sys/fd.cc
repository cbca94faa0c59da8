#include "sys/fd.h"

#include <unistd.h>

namespace vellum::sys {

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

}  // namespace vellum::sys
