#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "ground.h"
#include "operations.h"
#include "parameters.h"
#include "sandbox.h"
#include "snapshot.h"

namespace vellum::random_test {
namespace {

// Who writes the upper layer, in which style, and who reads it afterwards.
struct Exchange {
  Backend writer, reader;
  WhiteoutStyle style;
};

void PrintTo(const Exchange& exchange, std::ostream* out) {
  *out << name_of(exchange.writer) << " to " << name_of(exchange.reader) << ", " << name_of(exchange.style);
}

// What both sides can express. Links of lower files are left out: which names of a copied-up file are still one
// file is not kept on disk (kernel overlayfs keeps it only with index=on).
Features common_features(const Exchange& exchange) {
  Features features;
  features.hard_links = false;
  features.overlay_xattrs = false;
  features.long_names = exchange.style != WhiteoutStyle::kDotWh;
  const bool peer = exchange.writer == Backend::kPeer || exchange.reader == Backend::kPeer;
  // The peer follows a symlink of a lower layer that stands below a directory of a higher one.
  if (peer) features.symlinks_in_layers = features.odd_names = features.acls = features.special_xattrs = false;
  return features;
}

std::string writer_options(const Exchange& exchange) {
  if (exchange.writer == Backend::kVellum) return "whiteouts=" + name_of(exchange.style);
  return "";
}

class Interchange : public ::testing::TestWithParam<Exchange> {};

// Runs random operations through the writer and returns what it shows at the end, after a mount of its own.
Snapshot write_through(const Exchange& exchange, const Layers& layers, const Ground& ground, Random& random,
                       const Features& features, std::vector<Op>& ops, std::string& failure) {
  {
    Mount mount(exchange.writer, layers, ground.mountpoint(), writer_options(exchange));
    if (!mount.failure().empty()) {
      failure = mount.failure();
      return {};
    }
    Workplace place(ground.mountpoint());
    for (std::uint64_t i = 0; i < parameters().ops; ++i) {
      std::vector<std::string> paths;
      for (const auto& [path, seen] : take_snapshot(ground.mountpoint(), {.strict = false}).entries)
        if (!path.empty()) paths.push_back(path);
      ops.push_back(random_op(random, features, paths));
      place.run(ops.back());
    }
    place.release_all();
    Snapshot live = take_snapshot(ground.mountpoint(), {.strict = false, .keep_overlay_xattrs = false});
    if (!mount.unmount()) failure = mount.failure();
    if (!failure.empty()) return live;
    Mount again(exchange.writer, layers, ground.mountpoint(), writer_options(exchange));
    const Snapshot after = take_snapshot(ground.mountpoint(), {.strict = false, .keep_overlay_xattrs = false});
    const std::vector<std::string> lines = differences(live, after);
    if (!lines.empty() && exchange.writer != Backend::kPeer)
      failure = fmt::format("the writer shows another tree after a remount:\n    {}", fmt::join(lines, "\n    "));
    return after;
  }
}

std::string read_by(const Exchange& exchange, const Layers& layers, const Ground& ground, const Snapshot& expected,
                    const std::string& how) {
  Mount mount(exchange.reader, layers, ground.mountpoint(), "");
  if (!mount.failure().empty()) return mount.failure();
  const bool strict = exchange.reader == Backend::kVellum;
  const Snapshot got = take_snapshot(ground.mountpoint(), {.strict = strict, .keep_overlay_xattrs = false});
  // The peer counts the links of a copied-up file by itself, and wrongly.
  const bool links = exchange.reader != Backend::kPeer && exchange.writer != Backend::kPeer;
  const std::vector<std::string> lines = differences(expected, got, {.links = links});
  if (lines.empty()) return "";
  return fmt::format("{} {}:\n    {}", name_of(exchange.reader), how, fmt::join(lines, "\n    "));
}

std::string exchange_once(const Exchange& exchange, Random& random, std::string& story) {
  const Features features = common_features(exchange);
  // Lower layers hold the style as well, so that each reader must know it there too.
  const bool lowers_in_style = exchange.writer != Backend::kKernel || exchange.style != WhiteoutStyle::kXattr;
  const std::vector<Tree> trees = random_layers(random, 2 + below(random, 3), features);
  Ground ground;
  Layers layers =
      write_layers({.trees = trees, .style = lowers_in_style ? exchange.style : WhiteoutStyle::kDevice}, ground);
  std::string failure;
  std::vector<Op> ops;
  const Snapshot expected = write_through(exchange, layers, ground, random, features, ops, failure);
  for (std::size_t i = trees.size(); i-- > 0;) story += fmt::format("  lower{}:\n{}", i, describe(trees[i]));
  for (std::size_t i = 0; i < ops.size(); ++i) story += fmt::format("    {}. {}\n", i, describe(ops[i]));
  if (!failure.empty()) return failure;
  // As an upper layer, and as the topmost of lower layers. Kernel overlayfs knows xattr whiteouts in lower layers only.
  if (exchange.reader != Backend::kKernel || exchange.style != WhiteoutStyle::kXattr) {
    failure = read_by(exchange, layers, ground, expected, "with the same upper layer");
    if (!failure.empty()) return failure;
  }
  Layers read_only;
  read_only.lowers = layers.lowers;
  read_only.lowers.insert(read_only.lowers.begin(), layers.upper);
  return read_by(exchange, read_only, ground, expected, "with the upper layer as its topmost lower one");
}

TEST_P(Interchange, ReaderShowsWhatTheWriterLeft) {
  const Exchange exchange = GetParam();
  for (Backend side : {exchange.writer, exchange.reader})
    if (!available(side)) GTEST_FAIL() << name_of(side) << " is not available";
  const Parameters& run = parameters();
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  std::uint64_t done = 0;
  for (; run.sequences == 0 ? seconds() < run.seconds : done < run.sequences; ++done) {
    const std::uint64_t seed = run.seed + done;
    Random random(seed);
    std::string story;
    const std::string failure = exchange_once(exchange, random, story);
    if (!failure.empty())
      GTEST_FAIL() << "replay with --seed " << seed << " --sequences 1 --ops " << run.ops << "\n"
                   << story << "  " << failure;
  }
  fmt::print("{} sequences from seed {} in {:.1f} s\n", done, run.seed, seconds());
}

std::string exchange_name(const ::testing::TestParamInfo<Exchange>& info) {
  return fmt::format("{}_to_{}_{}", name_of(info.param.writer), name_of(info.param.reader), name_of(info.param.style));
}

INSTANTIATE_TEST_SUITE_P(Vellum, Interchange,
                         ::testing::Values(Exchange{Backend::kVellum, Backend::kKernel, WhiteoutStyle::kDevice},
                                           Exchange{Backend::kVellum, Backend::kKernel, WhiteoutStyle::kXattr},
                                           Exchange{Backend::kVellum, Backend::kPeer, WhiteoutStyle::kDevice},
                                           Exchange{Backend::kVellum, Backend::kPeer, WhiteoutStyle::kDotWh},
                                           Exchange{Backend::kVellum, Backend::kVellum, WhiteoutStyle::kDotWh},
                                           Exchange{Backend::kKernel, Backend::kVellum, WhiteoutStyle::kDevice},
                                           Exchange{Backend::kPeer, Backend::kVellum, WhiteoutStyle::kDevice},
                                           Exchange{Backend::kPeer, Backend::kVellum, WhiteoutStyle::kDotWh}),
                         exchange_name);

// The test itself is checked by two sides that we did not write.
INSTANTIATE_TEST_SUITE_P(Others, Interchange,
                         ::testing::Values(Exchange{Backend::kKernel, Backend::kKernel, WhiteoutStyle::kDevice},
                                           Exchange{Backend::kKernel, Backend::kPeer, WhiteoutStyle::kDevice}),
                         exchange_name);

}  // namespace
}  // namespace vellum::random_test
