#include "fuse/stats.h"

#include <fmt/format.h>

#include <cmath>

namespace vellum::fuse {

std::uint64_t OperationStats::quantile_ns(double part) const {
  std::uint64_t all = 0;
  for (const auto n : latency) all += n;
  if (all == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(static_cast<double>(all) * part));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < latency.size(); ++i) {
    seen += latency[i];
    if (seen >= wanted && seen > 0) return std::uint64_t{1} << i;
  }
  return std::uint64_t{1} << (latency.size() - 1);
}

void Counters::add_to(SessionStats& sum, std::array<OperationStats, abi::kOpcodeLimit>& operations) const {
  sum.lost_replies += lost_replies.load(std::memory_order_relaxed);
  sum.malformed += malformed.load(std::memory_order_relaxed);
  sum.bytes_read += bytes_read.load(std::memory_order_relaxed);
  sum.bytes_written += bytes_written.load(std::memory_order_relaxed);
  for (std::size_t op = 0; op < operations.size(); ++op) {
    const Operation& from = operations_[op];
    OperationStats& to = operations[op];
    const std::uint64_t count = from.count.load(std::memory_order_relaxed);
    sum.requests += count;
    to.count += count;
    to.errors += from.errors.load(std::memory_order_relaxed);
    to.total_ns += from.total_ns.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < kLatencyBuckets; ++i) to.latency[i] += from.latency[i].load(std::memory_order_relaxed);
  }
}

std::string to_json(const SessionStats& stats) {
  std::string json =
      fmt::format(R"({{"protocol":"7.{}","transport":"{}","threads":{},"requests":{},"lost_replies":{},"malformed":{},)"
                  R"("bytes_read":{},"bytes_written":{},"notifications":{},"open_backing":{},"operations":{{)",
                  stats.minor, stats.transport, stats.threads, stats.requests, stats.lost_replies, stats.malformed,
                  stats.bytes_read, stats.bytes_written, stats.notifications, stats.open_backing);
  const char* separator = "";
  for (const auto& operation : stats.operations) {
    json += fmt::format(R"({}"{}":{{"count":{},"errors":{},"total_ns":{},"p50_ns":{},"p99_ns":{},"max_ns":{}}})",
                        separator, operation.name, operation.count, operation.errors, operation.total_ns,
                        operation.quantile_ns(0.5), operation.quantile_ns(0.99), operation.quantile_ns(1.0));
    separator = ",";
  }
  return json + "}}";
}

}  // namespace vellum::fuse
