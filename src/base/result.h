// One way to fail: Result<T> is a value or an Errno, nothing else.
//
// TRY(expr) yields the value or returns the error from the enclosing function; ignore(expr) says that an
// error does not matter (say why beside it). No exception crosses a function that touches a file.
// Errno values are Linux errno numbers, positive, never 0.
// Threads: plain values.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <utility>

namespace vellum {

class [[nodiscard]] Errno {
 public:
  constexpr explicit Errno(int value) : value_(value) {}
  // The current errno; EIO when a caller reports a failure without one.
  static Errno last() { return Errno(errno != 0 ? errno : EIO); }

  constexpr int value() const { return value_; }
  // "No such file or directory (ENOENT)"
  std::string message() const;

  friend constexpr bool operator==(Errno a, Errno b) = default;
  friend constexpr bool operator==(Errno a, int b) { return a.value_ == b; }

 private:
  int value_;
};

template <class T>
using Result = std::expected<T, Errno>;
using Status = Result<void>;

constexpr std::unexpected<Errno> fail(int error) { return std::unexpected(Errno(error)); }
constexpr std::unexpected<Errno> fail(Errno error) { return std::unexpected(error); }
inline std::unexpected<Errno> fail_errno() { return std::unexpected(Errno::last()); }

// Discards a result whose failure changes nothing for the caller.
template <class T>
constexpr void ignore(const T&) {}

namespace detail {
template <class T>
constexpr T take(Result<T>&& result) {
  return std::move(*result);
}
constexpr void take(Result<void>&&) {}
}  // namespace detail

}  // namespace vellum

// Each use names its variable anew, so that one TRY may stand inside another's arguments.
#define VELLUM_TRY_NAMED(name, ...)                  \
  __extension__({                                    \
    auto name = (__VA_ARGS__);                       \
    if (!name) return std::unexpected(name.error()); \
    ::vellum::detail::take(std::move(name));         \
  })
#define VELLUM_TRY_COUNTED(counter, ...) VELLUM_TRY_NAMED(vellum_try_##counter, __VA_ARGS__)
#define VELLUM_TRY_EXPANDED(counter, ...) VELLUM_TRY_COUNTED(counter, __VA_ARGS__)
#define TRY(...) VELLUM_TRY_EXPANDED(__COUNTER__, __VA_ARGS__)
