#include "sys/pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

namespace vellum::sys {
namespace {

constexpr std::size_t kPageSize = 4096;

template <class Call>
ssize_t retry(Call call) {
  ssize_t n = 0;
  do n = call();
  while (n < 0 && errno == EINTR);
  return n;
}

Result<std::size_t> counted(ssize_t n) {
  if (n < 0) return fail_errno();
  return static_cast<std::size_t>(n);
}

}  // namespace

Result<Pipe> Pipe::create(std::size_t pages) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return fail_errno();
  Pipe pipe;
  pipe.out_.reset(ends[0]);
  pipe.in_.reset(ends[1]);
  pipe.grow(pages);
  if (pipe.pages_ == 0) return fail_errno();
  return pipe;
}

void Pipe::grow(std::size_t pages) {
  // The kernel rounds up to a power of two; a plain user's limit is one as well, so halves find it.
  std::size_t wanted = pages;
  while (::fcntl(in_.raw(), F_SETPIPE_SZ, static_cast<int>(wanted * kPageSize)) < 0 && errno == EPERM && wanted > 1) {
    wanted /= 2;
  }
  const int bytes = ::fcntl(in_.raw(), F_GETPIPE_SZ);
  if (bytes > 0) pages_ = static_cast<std::size_t>(bytes) / kPageSize;
}

Result<std::size_t> Pipe::write(std::span<const std::byte> bytes) {
  return counted(retry([&] { return ::write(in_.raw(), bytes.data(), bytes.size()); }));
}

Result<std::size_t> Pipe::read(std::span<std::byte> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = retry([&] { return ::read(out_.raw(), out.data() + done, out.size() - done); });
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) return fail_errno();
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<std::size_t> Pipe::fill_from(FdRef file, std::uint64_t offset, std::size_t size) {
  auto at = static_cast<loff_t>(offset);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n =
        retry([&] { return ::splice(file.raw(), &at, in_.raw(), nullptr, size - done, SPLICE_F_NONBLOCK); });
    if (n < 0 && done == 0) return fail_errno();
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<std::size_t> Pipe::empty_into(FdRef file, std::uint64_t offset, std::size_t size) {
  auto at = static_cast<loff_t>(offset);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n =
        retry([&] { return ::splice(out_.raw(), nullptr, file.raw(), &at, size - done, SPLICE_F_NONBLOCK); });
    if (n < 0 && done == 0) return fail_errno();
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

// EINTR is the caller's: that is how a thread is woken.
Result<std::size_t> Pipe::receive_request(FdRef device, std::size_t most) {
  return counted(::splice(device.raw(), nullptr, in_.raw(), nullptr, most, 0));
}

Status Pipe::send_message(FdRef device, std::size_t size) {
  const auto sent = counted(::splice(out_.raw(), nullptr, device.raw(), nullptr, size, 0));
  if (!sent) return fail(sent.error());
  return {};
}

}  // namespace vellum::sys
