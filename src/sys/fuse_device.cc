#include "sys/fuse_device.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>

namespace vellum::sys {
namespace {

struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
static_assert(sizeof(BackingMap) == 16);

constexpr unsigned kDeviceIoctlType = 229;
constexpr unsigned long kClone = _IOR(kDeviceIoctlType, 0, std::uint32_t);
constexpr unsigned long kBackingOpen = _IOW(kDeviceIoctlType, 1, BackingMap);
constexpr unsigned long kBackingClose = _IOW(kDeviceIoctlType, 2, std::uint32_t);

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

// The first user namespace is the one that maps every id to itself. (A namespace made to look so by an
// administrator is told apart by the ioctl itself, with EPERM.)
bool in_first_user_namespace() {
  File map(std::fopen("/proc/self/uid_map", "re"));
  unsigned long inside = 1, outside = 1, length = 0;
  return map && std::fscanf(map.get(), "%lu %lu %lu", &inside, &outside, &length) == 3 && inside == 0 && outside == 0 &&
         length == 4294967295UL;
}

// For its scope this thread lacks CAP_FSETID.
class WithoutFsetid {
 public:
  WithoutFsetid() {
    if (::syscall(SYS_capget, &header_, before_) != 0) return;
    __user_cap_data_struct fewer[2] = {before_[0], before_[1]};
    fewer[CAP_TO_INDEX(CAP_FSETID)].effective &= ~CAP_TO_MASK(CAP_FSETID);
    switched_ = ::syscall(SYS_capset, &header_, fewer) == 0;
  }
  ~WithoutFsetid() {
    if (switched_) ::syscall(SYS_capset, &header_, before_);
  }
  WithoutFsetid(const WithoutFsetid&) = delete;
  WithoutFsetid& operator=(const WithoutFsetid&) = delete;

 private:
  __user_cap_header_struct header_{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct before_[2]{};
  bool switched_ = false;
};

bool has_effective_capability(unsigned capability) {
  File status(std::fopen("/proc/self/status", "re"));
  if (!status) return false;
  char line[256];
  while (std::fgets(line, sizeof line, status.get()) != nullptr) {
    unsigned long long effective = 0;
    if (std::sscanf(line, "CapEff: %llx", &effective) == 1) return ((effective >> capability) & 1U) != 0;
  }
  return false;
}

}  // namespace

Result<UniqueFd> open_fuse_device() {
  UniqueFd device(::open(kFuseDevicePath, O_RDWR | O_CLOEXEC));
  if (!device) return fail_errno();
  return device;
}

Result<UniqueFd> clone_fuse_device(FdRef device) {
  UniqueFd clone = TRY(open_fuse_device());
  auto source = static_cast<std::uint32_t>(device.raw());
  if (::ioctl(clone.raw(), kClone, &source) != 0) return fail_errno();
  return clone;
}

Result<std::size_t> read_request(FdRef device, std::span<std::byte> buffer) {
  const ssize_t got = ::read(device.raw(), buffer.data(), buffer.size());
  if (got < 0) return fail_errno();
  return static_cast<std::size_t>(got);
}

bool request_waits(FdRef device) {
  pollfd event{.fd = device.raw(), .events = POLLIN, .revents = 0};
  return ::poll(&event, 1, 0) == 1 && (event.revents & POLLIN) != 0;
}

Status write_message(FdRef device, std::span<const iovec> parts) {
  if (::writev(device.raw(), parts.data(), static_cast<int>(parts.size())) < 0) return fail_errno();
  return {};
}

bool may_open_backing() {
  constexpr unsigned kCapSysAdmin = 21;
  return has_effective_capability(kCapSysAdmin) && in_first_user_namespace();
}

Result<std::int32_t> open_backing(FdRef device, FdRef file) {
  BackingMap map{.fd = file.raw(), .flags = 0, .padding = 0};
  const WithoutFsetid as_anybody;
  const int id = ::ioctl(device.raw(), kBackingOpen, &map);
  if (id < 0) return fail_errno();
  return id;
}

Status close_backing(FdRef device, std::int32_t backing_id) {
  auto id = static_cast<std::uint32_t>(backing_id);
  if (::ioctl(device.raw(), kBackingClose, &id) != 0) return fail_errno();
  return {};
}

}  // namespace vellum::sys
