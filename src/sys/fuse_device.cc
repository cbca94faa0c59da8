#include "sys/fuse_device.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <climits>

#include "sys/capabilities.h"

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

// For its scope this thread lacks CAP_FSETID.
class WithoutFsetid {
 public:
  WithoutFsetid() : before_(Capabilities::of_thread()) {
    if (!before_) return;
    Capabilities fewer = *before_;
    fewer.drop(CAP_FSETID);
    switched_ = fewer.apply().has_value();
  }
  ~WithoutFsetid() {
    if (switched_) ignore(before_->apply());
  }
  WithoutFsetid(const WithoutFsetid&) = delete;
  WithoutFsetid& operator=(const WithoutFsetid&) = delete;

 private:
  Result<Capabilities> before_;
  bool switched_ = false;
};

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

bool may_open_backing() { return privileges().sys_admin; }

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
