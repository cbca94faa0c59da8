#include "composefs/check.h"

#include <absl/container/flat_hash_set.h>
#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <vector>

#include "base/crew.h"
#include "composefs/objects.h"
#include "sys/file.h"

namespace vellum::composefs {
namespace {

constexpr std::uint64_t kBig = std::uint64_t{16} << 20;  // read by all threads together

class Checker {
 public:
  Checker(const Tree& tree, std::span<const sys::UniqueFd> directories, const CheckOptions& options)
      : tree_(tree),
        directories_(directories),
        options_(options),
        threads_(options.threads > 0 ? options.threads : default_threads()) {}
  CheckCounts run();

 private:
  void collect();
  void work();
  void check(NodeId id, unsigned threads);
  std::optional<BadObject> fault(const Node& node, unsigned threads) const;

  const Tree& tree_;
  const std::span<const sys::UniqueFd> directories_;
  const CheckOptions& options_;
  const unsigned threads_;
  std::vector<NodeId> objects_;  // the biggest last
  std::uint64_t bytes_ = 0;
  std::mutex mutex_;
  std::size_t next_ = 0;
  std::size_t small_ = 0;
  CheckCounts counts_;
};

// The same object under two sizes or digests is two matters: one of them must be wrong.
void Checker::collect() {
  absl::flat_hash_set<std::pair<std::string_view, std::pair<std::uint64_t, std::string_view>>> seen;
  for (std::uint32_t i = 0; i < tree_.size(); ++i) {
    const Node& node = tree_[NodeId{i}];
    if (node.link != kNoNode || !node.is_regular() || node.content != nullptr || node.size == 0) continue;
    const std::span<const std::uint8_t> expected = node.any_digest();
    const std::string_view digest(static_cast<const char*>(static_cast<const void*>(expected.data())), expected.size());
    if (!seen.insert({node.payload, {node.size, digest}}).second) continue;
    objects_.push_back(NodeId{i});
    bytes_ += node.size;
  }
  const auto is_small = [this](NodeId id) { return tree_[id].size < kBig; };
  small_ = static_cast<std::size_t>(std::ranges::partition(objects_, is_small).begin() - objects_.begin());
}

std::optional<BadObject> Checker::fault(const Node& node, unsigned threads) const {
  BadObject bad{.fault = Fault::kMissing, .object = node.payload, .path = {}, .detail = {}};
  const auto file = open_object(directories_, node.payload);
  if (!file) {
    bad.fault = file.error() == ENOENT ? Fault::kMissing : Fault::kUnreadable;
    bad.detail = file.error().message();
    return bad;
  }
  const auto status = sys::statx(*file, "");
  if (!status || !status->is_regular()) {
    bad.fault = Fault::kUnreadable;
    bad.detail = "no regular file";
    return bad;
  }
  if (status->size != node.size) {
    bad.fault = Fault::kSize;
    bad.detail = fmt::format("{} bytes expected, {} found", node.size, status->size);
    return bad;
  }
  const std::span<const std::uint8_t> digest = node.any_digest();
  if (digest.empty()) {
    bad.fault = Fault::kNoDigest;
    return bad;
  }
  const VerityFormat format{.hash = node.digest != nullptr ? Hash::kSha256 : Hash::kSha512, .block_bits = 12};
  const auto found = measure_digest(*file, format, threads);
  if (!found) {
    bad.fault = Fault::kUnreadable;
    bad.detail = found.error().message();
    return bad;
  }
  if (std::ranges::equal(found->view(), digest)) return std::nullopt;
  Digest expected{.bytes = {}, .size = static_cast<std::uint8_t>(digest.size())};
  std::ranges::copy(digest, expected.bytes.begin());
  bad.fault = Fault::kDigest;
  bad.detail = fmt::format("digest expected {}, found {}", expected.hex(), found->hex());
  return bad;
}

void Checker::check(NodeId id, unsigned threads) {
  const Node& node = tree_[id];
  auto bad = fault(node, threads);
  const std::lock_guard lock(mutex_);
  ++counts_.objects;
  counts_.bytes += node.size;
  if (bad) {
    ++counts_.bad;  // also what nobody looked into: "0 bad" must mean that everything is well
    if (bad->fault == Fault::kNoDigest) ++counts_.unchecked;
    bad->path = tree_.path(id);
    if (options_.bad) options_.bad(*bad);
  }
  if (options_.progress) options_.progress(counts_, objects_.size(), bytes_);
}

void Checker::work() {
  for (;;) {
    std::size_t index = 0;
    {
      const std::lock_guard lock(mutex_);
      if (next_ == small_) return;
      index = next_++;
    }
    check(objects_[index], 1);
  }
}

CheckCounts Checker::run() {
  collect();
  run_crew(threads_, [this] { work(); });
  for (std::size_t i = small_; i < objects_.size(); ++i) check(objects_[i], threads_);
  return counts_;
}

}  // namespace

CheckCounts check_objects(const Tree& tree, std::span<const sys::UniqueFd> directories, const CheckOptions& options) {
  return Checker(tree, directories, options).run();
}

}  // namespace vellum::composefs
