// What the session counted: per operation, how often, how often it failed, and how long it took, in powers of two
// of nanoseconds. Counting costs a few unshared memory writes per request; a snapshot may be taken at any time.
// Threads: a Counters block has one writer and any number of readers.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include "fuse/abi.h"

namespace vellum::fuse {

inline constexpr std::size_t kLatencyBuckets = 40;  // the last holds everything from 2^39 ns (9 minutes) up

struct OperationStats {
  std::string name;  // "LOOKUP"; "OPCODE" for those unknown
  std::uint64_t count = 0;
  std::uint64_t errors = 0;  // replies with an error, ENOENT of a lookup too
  std::uint64_t total_ns = 0;
  std::array<std::uint64_t, kLatencyBuckets> latency{};  // [i]: below 2^i ns, and not below 2^(i-1)

  // An upper bound of the time in which `part` (0 to 1) of the requests were answered; 0 when there were none.
  std::uint64_t quantile_ns(double part) const;
};

struct SessionStats {
  std::vector<OperationStats> operations;  // only those that came at least once, by opcode
  std::uint64_t requests = 0;
  std::uint64_t lost_replies = 0;  // the kernel no longer wanted them
  std::uint64_t malformed = 0;
  std::uint64_t bytes_read = 0;     // in READ replies
  std::uint64_t bytes_written = 0;  // in WRITE requests
  std::uint64_t notifications = 0;
  std::uint64_t open_backing = 0;  // backing files registered now
  unsigned threads = 0;
  std::uint32_t minor = 0;  // the protocol in use, 7.minor; 0 before INIT
  const char* transport = "";
};

// The same as JSON text, for whoever only passes it on.
std::string to_json(const SessionStats& stats);

// One worker's counters.
class Counters {
 public:
  struct Operation {
    std::atomic<std::uint64_t> count{0}, errors{0}, total_ns{0};
    std::array<std::atomic<std::uint64_t>, kLatencyBuckets> latency{};
  };

  void count(std::uint32_t opcode, bool failed, std::uint64_t ns) {
    Operation& operation = operations_[opcode < abi::kOpcodeLimit ? opcode : 0];
    bump(operation.count);
    if (failed) bump(operation.errors);
    bump(operation.total_ns, ns);
    const auto bucket = static_cast<std::size_t>(std::bit_width(ns));
    bump(operation.latency[bucket < kLatencyBuckets ? bucket : kLatencyBuckets - 1]);
  }
  void add_to(SessionStats& sum, std::array<OperationStats, abi::kOpcodeLimit>& operations) const;

  // One writer: a plain load and store is enough, and cheaper than a locked addition.
  static void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t> lost_replies{0}, malformed{0}, bytes_read{0}, bytes_written{0};

 private:
  std::array<Operation, abi::kOpcodeLimit> operations_;
};

}  // namespace vellum::fuse
