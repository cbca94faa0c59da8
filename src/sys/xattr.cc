// getxattrat(2) and its siblings came with Linux 6.13. Before them the way to (dir, name) without following
// the last component is an l*xattr call on /proc/self/fd/DIR/NAME.
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>

#include "sys/file.h"

namespace vellum::sys {
namespace {

constexpr long kSetxattrat = 463, kGetxattrat = 464, kListxattrat = 465, kRemovexattrat = 466;

struct XattrArgs {  // struct xattr_args of <linux/xattr.h>
  std::uint64_t value;
  std::uint32_t size;
  std::uint32_t flags;
};

std::atomic<bool> have_at_calls{true};

// "/proc/self/fd/DIR[/NAME]". Without a name the link is followed: it leads to the object itself.
struct AttrPath {
  AttrPath(FdRef dir, const char* name) {
    if (*name == '\0') {
      std::snprintf(text.data(), text.size(), "/proc/self/fd/%d", dir.raw());
    } else {
      std::snprintf(text.data(), text.size(), "/proc/self/fd/%d/%s", dir.raw(), name);
    }
  }
  std::array<char, 320> text{};
  const char* c_str() const { return text.data(); }
};

// Runs `modern` while the kernel knows it, `classic` otherwise or for a bare fd (which may be O_PATH).
template <class Modern, class Classic>
ssize_t call(const char* name, Modern modern, Classic classic) {
  if (*name != '\0' && have_at_calls.load(std::memory_order_relaxed)) {
    ssize_t result = modern();
    // A seccomp filter that does not know the call answers EPERM or ENOSYS.
    if (result >= 0 || (errno != ENOSYS && errno != EPERM)) return result;
    ssize_t again = classic();
    if (again >= 0) have_at_calls.store(false, std::memory_order_relaxed);
    return again;
  }
  return classic();
}

std::uint64_t address(const void* pointer) {
  return static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer));
}

// Calls `fetch(buffer, size)` with growing buffers until the value fits.
template <class Fetch>
Result<std::string> fetch_growing(Fetch fetch) {
  std::array<char, 1024> small;
  ssize_t length = fetch(small.data(), small.size());
  if (length >= 0) return std::string(small.data(), static_cast<std::size_t>(length));
  if (errno != ERANGE) return fail_errno();
  for (std::size_t size = 65536 + 1; size <= (1u << 20); size *= 4) {
    std::string value(size, '\0');
    length = fetch(value.data(), value.size());
    if (length >= 0) {
      value.resize(static_cast<std::size_t>(length));
      return value;
    }
    if (errno != ERANGE) return fail_errno();
  }
  return fail(E2BIG);
}

}  // namespace

Result<std::string> getxattr(FdRef dir, const char* name, const char* attribute) {
  return fetch_growing([&](char* buffer, std::size_t size) {
    return call(
        name,
        [&] {
          XattrArgs args{.value = address(buffer), .size = static_cast<std::uint32_t>(size), .flags = 0};
          return ::syscall(kGetxattrat, dir.raw(), name, AT_SYMLINK_NOFOLLOW, attribute, &args, sizeof args);
        },
        [&] {
          AttrPath path(dir, name);
          return *name == '\0' ? ::getxattr(path.c_str(), attribute, buffer, size)
                               : ::lgetxattr(path.c_str(), attribute, buffer, size);
        });
  });
}

Status setxattr(FdRef dir, const char* name, const char* attribute, std::string_view value, int flags) {
  ssize_t result = call(
      name,
      [&] {
        XattrArgs args{.value = address(value.data()),
                       .size = static_cast<std::uint32_t>(value.size()),
                       .flags = static_cast<std::uint32_t>(flags)};
        return ::syscall(kSetxattrat, dir.raw(), name, AT_SYMLINK_NOFOLLOW, attribute, &args, sizeof args);
      },
      [&]() -> ssize_t {
        AttrPath path(dir, name);
        return *name == '\0' ? ::setxattr(path.c_str(), attribute, value.data(), value.size(), flags)
                             : ::lsetxattr(path.c_str(), attribute, value.data(), value.size(), flags);
      });
  if (result < 0) return fail_errno();
  return {};
}

Result<std::string> listxattr(FdRef dir, const char* name) {
  return fetch_growing([&](char* buffer, std::size_t size) {
    return call(
        name, [&] { return ::syscall(kListxattrat, dir.raw(), name, AT_SYMLINK_NOFOLLOW, buffer, size); },
        [&] {
          AttrPath path(dir, name);
          return *name == '\0' ? ::listxattr(path.c_str(), buffer, size) : ::llistxattr(path.c_str(), buffer, size);
        });
  });
}

Status removexattr(FdRef dir, const char* name, const char* attribute) {
  ssize_t result = call(
      name, [&] { return ::syscall(kRemovexattrat, dir.raw(), name, AT_SYMLINK_NOFOLLOW, attribute); },
      [&]() -> ssize_t {
        AttrPath path(dir, name);
        return *name == '\0' ? ::removexattr(path.c_str(), attribute) : ::lremovexattr(path.c_str(), attribute);
      });
  if (result < 0) return fail_errno();
  return {};
}

}  // namespace vellum::sys
