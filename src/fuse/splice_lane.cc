#include "fuse/splice_lane.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "fuse/abi.h"
#include "sys/file.h"

namespace vellum::fuse {
namespace {

constexpr std::size_t kBeforeData = sizeof(abi::InHeader) + sizeof(abi::WriteIn);

// A message takes a piece of the pipe for each page of data, for its headers, and for data that starts inside a page.
// Other requests are shorter than this: an xattr of 64 KiB with its name.
constexpr std::size_t kMorePages = 8;
constexpr std::size_t kLeastPages = 32;

std::size_t pages_for(std::size_t data) {
  return std::max((data + abi::kPageSize - 1) / abi::kPageSize, kLeastPages) + kMorePages;
}

}  // namespace

// No longer than needed: what all pipes of a user may hold together is limited, and others want some of it.
bool SpliceLane::open(std::size_t pages) {
  if (pipe_ && pipe_->pages() >= pages) return true;
  if (pages >= refused_) return false;
  if (pipe_) {
    pipe_->grow(pages);
  } else if (auto pipe = sys::Pipe::create(pages)) {
    pipe_ = std::move(*pipe);
  } else {
    log::debug("no pipe to splice with: {}", pipe.error().message());
  }
  if (pipe_ && pipe_->pages() >= pages) return true;
  refused_ = pages;
  return false;
}

Result<std::size_t> SpliceLane::load(std::uint64_t unique, sys::FdRef file, std::uint64_t offset, std::size_t size) {
  settle();
  if (!open(pages_for(size))) return fail(ENOSPC);
  // The header, which comes first, says how long the reply is.
  const std::uint64_t end = TRY(sys::file_size(file));
  if (offset >= end) return fail(ENODATA);
  const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(size, end - offset));
  if (length < kLeast) return fail(ENODATA);
  const abi::OutHeader header{
      .length = static_cast<std::uint32_t>(sizeof header + length), .error = 0, .unique = unique};
  if (TRY(pipe_->write(std::as_bytes(std::span(&header, 1)))) != sizeof header) return fail(EIO);
  const auto filled = pipe_->fill_from(file, offset, length);
  if (!filled || *filled != length) {
    drop();
    return fail(filled ? Errno(ENODATA) : filled.error());
  }
  loaded_ = sizeof header + length;
  return length;
}

Status SpliceLane::send() {
  const std::size_t size = std::exchange(loaded_, 0);
  Status sent = pipe_->send_message(device_, size);
  if (!sent) drop();
  return sent;
}

void SpliceLane::expect_data(bool expected) {
  // The kernel refuses a request that finds no room, and with it somebody's data.
  expects_data_ = expected && open(pages_for(max_write_));
}

Result<RequestBytes> SpliceLane::receive(std::span<std::byte> buffer) {
  settle();
  const std::size_t size = TRY(pipe_->receive_request(device_, buffer.size()));
  expects_data_ = false;
  const auto bytes = buffer.first(size);
  const auto start = bytes.first(std::min(size, kBeforeData));
  if (TRY(pipe_->read(start)) != start.size()) return fail(EIO);
  held_ = size - start.size();
  spent_ = false;
  place_ = bytes.subspan(start.size());
  abi::InHeader header{};
  std::memcpy(&header, start.data(), std::min(start.size(), sizeof header));
  const bool keep = header.opcode == static_cast<std::uint32_t>(abi::Opcode::kWrite) && held_ >= kLeast;
  if (held_ > 0 && !keep) TRY(unload_to_buffer());
  return RequestBytes{.head = bytes};
}

Result<std::size_t> SpliceLane::unload(sys::FdRef file, std::uint64_t offset) {
  const std::size_t done = TRY(pipe_->empty_into(file, offset, held_));
  held_ -= done;
  place_ = place_.subspan(done);
  if (held_ > 0) TRY(unload_to_buffer());
  spent_ = true;
  return done;
}

Status SpliceLane::unload_to_buffer() {
  const std::size_t size = std::exchange(held_, 0);
  if (spent_) return fail(EIO);
  const auto got = pipe_->read(place_);
  if (got && *got == size) return {};
  drop();
  return fail(EIO);
}

void SpliceLane::drop() {
  held_ = loaded_ = 0;
  std::array<std::byte, 4 * abi::kPageSize> nowhere;
  for (;;) {
    const auto got = pipe_->read(nowhere);
    if (!got) return give_up();  // something cannot be read out: it must not be taken for what comes next
    if (*got < nowhere.size()) return;
  }
}

void SpliceLane::give_up() {
  pipe_.reset();
  held_ = loaded_ = 0;
  expects_data_ = false;
  refused_ = 0;
}

}  // namespace vellum::fuse
