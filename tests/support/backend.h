// Which implementation of an overlay a run of the integration tests is about, and with which rights.
//
// A backend is chosen once per process (--backend=NAME or VELLUM_TEST_BACKEND). A case that a backend cannot hold
// says so with NOT_ON(backends, "reason"): it is skipped, and the reason is printed at the end of the run, so that
// docs/compat.md can name it. A missing program or device is not such a reason: that is a failure.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace vellum::test {

class Backends {
 public:
  constexpr explicit Backends(unsigned bits) : bits_(bits) {}
  constexpr bool contains(Backends other) const { return (bits_ & other.bits_) == other.bits_; }
  friend constexpr Backends operator|(Backends a, Backends b) { return Backends(a.bits_ | b.bits_); }
  friend constexpr bool operator==(Backends, Backends) = default;

 private:
  unsigned bits_;
};

inline constexpr Backends kVellumRoot{1};     // our binary, root
inline constexpr Backends kVellumUserns{2};   // our binary, root of a user namespace with 65536 ids
inline constexpr Backends kVellumUser{4};     // our binary, a plain user through fusermount3
inline constexpr Backends kKernel{8};         // kernel overlayfs, root
inline constexpr Backends kKernelUserns{16};  // kernel overlayfs with userxattr in a user namespace
inline constexpr Backends kPeer{32};          // Debian's fuse-overlayfs, root; for information only

inline constexpr Backends kAnyVellum = kVellumRoot | kVellumUserns | kVellumUser;
inline constexpr Backends kAnyKernel = kKernel | kKernelUserns;
inline constexpr Backends kAnyUserns = kVellumUserns | kKernelUserns;
inline constexpr Backends kUnprivileged = kAnyUserns | kVellumUser;  // no rights in the first user namespace

Backends current_backend();
std::string_view backend_name();
inline bool on(Backends backends) { return backends.contains(current_backend()); }

// "kernel", "vellum-root", …; a wrong name ends the process with a list of the right ones.
void choose_backend(std::string_view name);

// Whether NOT_ON skips here. With VELLUM_TEST_TRY_ALL set it never does: to see whether a reason still holds.
bool excused(Backends backends);

void note_not_on(std::string_view reason);
// What was left out and why, one line per case; also written to the file named by VELLUM_TEST_NOT_ON_FILE.
void print_not_on();

}  // namespace vellum::test

#define NOT_ON(backends, reason)             \
  do {                                       \
    if (::vellum::test::excused(backends)) { \
      ::vellum::test::note_not_on(reason);   \
      GTEST_SKIP() << (reason);              \
    }                                        \
  } while (false)
