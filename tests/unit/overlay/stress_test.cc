// Eight threads at one small tree: every operation against every other, for the sanitizers to watch and for the books
// to balance afterwards. Random but repeatable: VELLUM_TEST_SEED, VELLUM_STRESS_STEPS.
#include <gtest/gtest.h>

#include <algorithm>

#include <cstdlib>
#include <random>
#include <thread>

#include "support/seed.h"
#include "unit/overlay/overlay_fixture.h"

namespace vellum::overlay::testing {
namespace {

using fuse::NodeId;

struct NameSink final : fuse::DirSink {
  bool add(std::string_view name, std::uint64_t ino, std::uint32_t, std::uint64_t) override {
    EXPECT_FALSE(name.starts_with(".wh."));
    EXPECT_NE(ino, 0U);
    return true;
  }
};
struct PlusSink final : fuse::DirPlusSink {
  bool fits(std::size_t) const override { return true; }
  bool add(std::string_view, const fuse::Entry& entry, std::uint64_t) override {
    if (entry.node != NodeId::kNone) counted.push_back(entry.node);
    return counted.size() < 20;
  }
  std::vector<NodeId> counted;
};

// What one thread does. It names only nodes it has counted, as a kernel does.
class Worker {
 public:
  Worker(fuse::Filesystem& fs, unsigned seed) : fs_(fs), random_(seed) {}

  void run(unsigned steps) {
    for (unsigned step = 0; step < steps; ++step) {
      one();
      while (counted_.size() > 40) forget_one();
    }
    while (!counted_.empty()) forget_one();
  }

 private:
  unsigned below(unsigned limit) { return static_cast<unsigned>(random_()) % limit; }
  NodeId node() {
    return counted_.empty() || below(4) == 0 ? NodeId::kRoot : counted_[below(unsigned(counted_.size()))];
  }
  std::string name() { return std::string(1, static_cast<char>('a' + below(8))); }
  void forget_one() {
    std::size_t at = below(static_cast<unsigned>(counted_.size()));
    fs_.forget(counted_[at], 1);
    counted_[at] = counted_.back();
    counted_.pop_back();
  }
  void keep(const Result<fuse::Entry>& entry) {
    if (entry && entry->node != NodeId::kNone) counted_.push_back(entry->node);
    if (!entry) check(entry.error());
  }
  template <class T>
  void keep_going(const Result<T>& result) {
    if (!result) check(result.error());
  }
  // What can be expected of a tree that others change. EIO or EBADF would be wrong. (EOPNOTSUPP: chmod of a symlink;
  // ENXIO and ELOOP: open of what is no regular file.)
  static void check(Errno error) {
    static const std::set<int> kExpected{ENOENT,  EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL,    EXDEV,
                                         ENODATA, EPERM,  ESTALE,  ELOOP,  ENXIO,     EOPNOTSUPP};
    EXPECT_TRUE(kExpected.contains(error.value())) << error.message();
  }
  void use(NodeId file, int flags) {
    auto opened = fs_.open(me_, file, flags, false);
    if (!opened) return check(opened.error());
    std::byte buffer[512]{};
    keep_going(fs_.read(me_, file, opened->handle, below(100), buffer));
    if ((flags & O_ACCMODE) == O_RDWR) {
      keep_going(fs_.write(me_, file, opened->handle, below(100), std::span(buffer).first(below(512)), below(2) == 0));
      if (below(4) == 0) keep_going(fs_.fsync(me_, file, opened->handle, true));
    }
    fs_.release(file, opened->handle);
  }

  void one() {
    switch (below(20)) {
      case 0:
      case 1:
      case 2:
      case 3: return keep(fs_.lookup(me_, node(), name()));
      case 4: {
        NodeId parent = node();
        auto made = fs_.create(me_, parent, name(), O_RDWR, 0644, 022);
        if (!made) return check(made.error());
        counted_.push_back(made->entry.node);
        fs_.release(made->entry.node, made->open.handle);
        return;
      }
      case 5: return keep(fs_.mkdir(me_, node(), name(), 0755, 022));
      case 6: return keep_going(fs_.unlink(me_, node(), name()));
      case 7: return keep_going(fs_.rmdir(me_, node(), name()));
      case 8:
      case 9: {
        NodeId from = node(), to = node();
        std::string old_name = name();
        return keep_going(
            fs_.rename(me_, from, old_name, to, name(), {.noreplace = below(4) == 0, .exchange = below(8) == 0}));
      }
      case 10: {
        NodeId file = node();
        return keep(fs_.link(me_, file, node(), name()));
      }
      case 11: return keep(fs_.symlink(me_, node(), name(), "target"));
      case 12:
      case 13: return use(node(), O_RDONLY);
      case 14: return use(node(), O_RDWR | (below(3) == 0 ? O_TRUNC : 0));
      case 15: {
        fuse::SetAttr change;
        if (below(2) == 0)
          change.mode = 0600 | below(0200);
        else
          change.mtime_now = true;
        if (below(4) == 0) change.size = below(5000);
        return keep_going(fs_.setattr(me_, node(), change));
      }
      case 16: return keep_going(fs_.getattr(me_, node(), {}));
      case 17: {
        NodeId object = node();
        const std::string value = "v";
        if (below(2) == 0) return keep_going(fs_.getxattr(me_, object, "user.a"));
        auto set = fs_.setxattr(me_, object, "user.a", std::as_bytes(std::span(value)), {});
        return keep_going(set);
      }
      default: {
        NodeId dir = node();
        auto opened = fs_.opendir(me_, dir, 0);
        if (!opened) return check(opened.error());
        NameSink names;
        PlusSink plus;
        if (below(2) == 0)
          keep_going(fs_.readdir(me_, dir, opened->handle, 0, names));
        else
          keep_going(fs_.readdirplus(me_, dir, opened->handle, below(4), plus));
        counted_.insert(counted_.end(), plus.counted.begin(), plus.counted.end());
        fs_.releasedir(dir, opened->handle);
      }
    }
  }

  fuse::Filesystem& fs_;
  std::minstd_rand random_;
  const fuse::Caller me_{.uid = ::geteuid(), .gid = ::getegid(), .pid = 1};
  std::vector<NodeId> counted_;
};

Tree stressed(const std::string& text) {
  return {{"a", File{text}},        {"b", HardLink{"a"}},  {"c/a", File{text}},   {"c/b", File{text}},
          {"c/d/a", HardLink{"a"}}, {"d/a/b", File{text}}, {"d/e", Symlink{"x"}}, {"e/f/g/h", File{text}}};
}

class Stress : public ::testing::TestWithParam<std::tuple<WhiteoutStyle, RedirectDir, bool /*metacopy*/>> {};

TEST_P(Stress, EightThreads) {
  const unsigned seed = test::random_seed();
  const char* given_steps = std::getenv("VELLUM_STRESS_STEPS");
  const unsigned steps = given_steps != nullptr ? static_cast<unsigned>(std::strtoul(given_steps, nullptr, 10)) : 1500;
  Spec spec{.lowers = {stressed("upper one of two\n"), stressed("lower")}, .upper = {{"c/f", File{"u"}}}};
  std::tie(spec.options.whiteouts, spec.options.redirect_dir, spec.options.metacopy) = GetParam();
  spec.options.fsync = false;
  if (exists("/dev/shm")) spec.base = "/dev/shm";
  OverlayFixture fs(spec);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 8; ++i) {
    threads.emplace_back([&fs, seed, steps, i] { Worker(fs.fs(), seed * 8 + i + 1).run(steps); });
  }
  for (auto& thread : threads) thread.join();

  EXPECT_EQ(fs.engine().stats().open_handles, 0U);
  // The nodes of copied-up hard links stay for the life of the mount, and with each the directories above it, however
  // deep they were moved; nothing else does.
  const std::uint64_t nodes = fs.engine().stats().nodes;
  EXPECT_EQ(fs.litter(), std::set<std::string>{});
  const std::string tree = fs.whole_tree();
  EXPECT_LE(nodes, 10U + static_cast<std::uint64_t>(std::count(tree.begin(), tree.end(), '\n')));
  EXPECT_EQ(tree.find('?'), std::string::npos) << "listed, but not found:\n" << tree;
  EXPECT_EQ(tree.find("<error>"), std::string::npos) << tree;
  fs.forget_all();
  EXPECT_EQ(fs.whole_tree(), tree) << "what is remembered is what is on disk";
  fs.remount();
  EXPECT_EQ(fs.whole_tree(), tree) << "the next mount sees the same";
}

std::string stress_name(const ::testing::TestParamInfo<Stress::ParamType>& given) {
  constexpr const char* kStyles[] = {"auto", "device", "dot_wh", "xattr"};
  constexpr const char* kRedirects[] = {"", "_redirect", "_redirect_copy"};
  return std::string(kStyles[static_cast<int>(std::get<0>(given.param))]) +
         kRedirects[static_cast<int>(std::get<1>(given.param))] + (std::get<2>(given.param) ? "_metacopy" : "");
}

INSTANTIATE_TEST_SUITE_P(All, Stress,
                         ::testing::Values(std::tuple(WhiteoutStyle::kDevice, RedirectDir::kOff, false),
                                           std::tuple(WhiteoutStyle::kDevice, RedirectDir::kOn, true),
                                           std::tuple(WhiteoutStyle::kDotWh, RedirectDir::kCopy, false),
                                           std::tuple(WhiteoutStyle::kXattr, RedirectDir::kOn, false)),
                         stress_name);

}  // namespace
}  // namespace vellum::overlay::testing
