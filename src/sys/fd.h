// File descriptors with an owner. UniqueFd closes what it holds; FdRef borrows and never closes.
// No raw int fd lives outside src/sys/ (FdRef::raw() exists for the calls made there).
// Threads: plain values.
#pragma once

#include <utility>

namespace vellum::sys {

class UniqueFd;

class FdRef {
 public:
  constexpr FdRef() = default;
  constexpr explicit FdRef(int fd) : fd_(fd) {}
  FdRef(const UniqueFd& fd);  // borrowing is implicit on purpose
  constexpr int raw() const { return fd_; }
  constexpr explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class UniqueFd {
 public:
  constexpr UniqueFd() = default;
  constexpr explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  void reset(int fd = -1);
  int release() { return std::exchange(fd_, -1); }
  int raw() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

inline FdRef::FdRef(const UniqueFd& fd) : fd_(fd.raw()) {}

}  // namespace vellum::sys
