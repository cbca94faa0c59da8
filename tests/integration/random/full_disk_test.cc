#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "ground.h"
#include "mounts.h"
#include "operations.h"
#include "parameters.h"
#include "snapshot.h"
#include "tree.h"

namespace vellum::random_test {
namespace {

constexpr std::size_t kDiskSize = 16U << 20;
constexpr std::size_t kTooBig = 24U << 20;

// An ext4 of 16 MiB on a loop device, with upper and work directories on it.
class SmallDisk {
 public:
  explicit SmallDisk(const Ground& ground, unsigned inodes) : path_(ground.base() + "/disk") {
    const std::string image = ground.base() + "/image";
    ::mkdir(path_.c_str(), 0755);
    const std::string commands =
        fmt::format("truncate -s {0} {1} && mkfs.ext4 -q -m 0 -N {3} -O ^has_journal {1} && mount -o loop {1} {2}",
                    kDiskSize, image, path_, inodes);
    mounted_ = std::system(commands.c_str()) == 0;
    ::rmdir((path_ + "/lost+found").c_str());
    for (const char* name : {"/upper", "/work"}) ::mkdir((path_ + name).c_str(), 0755);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() { ::umount2(path_.c_str(), MNT_DETACH); }

  bool mounted() const { return mounted_; }
  std::string upper() const { return path_ + "/upper"; }
  std::string work() const { return path_ + "/work"; }
  struct statfs usage() const {
    struct statfs st;
    ::statfs(path_.c_str(), &st);
    return st;
  }
  // Takes all blocks, or all inodes, that are left.
  void fill_blocks() const {
    const int fd = ::open((path_ + "/filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const std::string block(65536, 'x');
    while (::write(fd, block.data(), block.size()) > 0) {
    }
    while (::write(fd, block.data(), 512) > 0) {
    }
    ::close(fd);
  }
  void fill_inodes() const {
    for (int i = 0; ::mknod(fmt::format("{}/filler{}", path_, i).c_str(), S_IFREG | 0600, 0) == 0; ++i) {
    }
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

std::vector<std::string> names_below(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& [path, seen] : take_snapshot(directory, {.strict = false}).entries)
    if (!path.empty()) names.push_back(path);
  return names;
}

// Everything but the work directories that stay.
std::vector<std::string> litter(const std::string& work) {
  std::vector<std::string> left;
  for (const std::string& path : names_below(work))
    if (path != "work" && path != "index" && path != "incompat") left.push_back(path);
  return left;
}

class FullDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(available(tested_backend())) << name_of(tested_backend()) << " is not available (VELLUM_BIN unset?)";
  }

  Layers layers_on(const SmallDisk& disk, const Tree& lower) {
    const std::vector<Tree> trees = {lower};
    Layers layers = write_layers({.trees = trees}, ground_);
    layers.upper = disk.upper();
    layers.work = disk.work();
    return layers;
  }

  Ground ground_;
};

TEST_F(FullDisk, CopyUpOfATooBigFileFailsAndLeavesNothing) {
  const SmallDisk disk(ground_, 1000);
  ASSERT_TRUE(disk.mounted());
  Tree lower;
  lower["big"].data = std::string(kTooBig, 'b');
  lower["small"].data = "small";
  const Layers layers = layers_on(disk, lower);
  Mount mount(tested_backend(), layers, ground_.mountpoint());
  ASSERT_EQ(mount.failure(), "");
  const Snapshot before = take_snapshot(ground_.mountpoint(), {.strict = false});
  const auto free_before = disk.usage().f_bfree;
  const std::string big = ground_.mountpoint() + "/big";

  EXPECT_EQ(::chmod(big.c_str(), 0600), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(::open(big.c_str(), O_RDWR), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(::rename(big.c_str(), (big + "2").c_str()), -1);
  EXPECT_EQ(errno, ENOSPC);

  EXPECT_EQ(differences(before, take_snapshot(ground_.mountpoint(), {.strict = false}), {.mtimes = false}),
            std::vector<std::string>{});
  EXPECT_EQ(names_below(layers.upper), std::vector<std::string>{});
  EXPECT_EQ(litter(layers.work), std::vector<std::string>{});
  // A block or two may have gone into the directories themselves.
  EXPECT_LT(free_before - disk.usage().f_bfree, 16U);
  EXPECT_EQ(::chmod((ground_.mountpoint() + "/small").c_str(), 0600), 0) << "there is room for a small one";
  EXPECT_TRUE(mount.unmount()) << mount.failure();
}

// Operations that need no data of their own: on a full disk each is done as a whole or says ENOSPC and does nothing.
class FullDiskOperations : public FullDisk, public ::testing::WithParamInterface<const char*> {};

TEST_P(FullDiskOperations, AreDoneOrNotDone) {
  const bool inodes = std::string_view(GetParam()) == "Inodes";
  Random random(parameters().seed);
  const SmallDisk disk(ground_, inodes ? 60 : 2000);
  ASSERT_TRUE(disk.mounted());
  Features features;
  features.hard_links = features.odd_names = features.acls = false;
  features.overlay_xattrs = features.special_xattrs = false;
  const std::vector<Tree> trees = random_layers(random, 2, features);
  Layers layers = write_layers({.trees = trees}, ground_);
  layers.upper = disk.upper();
  layers.work = disk.work();
  write_tree({}, layers.upper, WhiteoutStyle::kDevice);
  write_tree(merged(trees), ground_.plain(), WhiteoutStyle::kDevice);
  Mount mount(tested_backend(), layers, ground_.mountpoint());
  ASSERT_EQ(mount.failure(), "");
  Workplace overlay(ground_.mountpoint());
  Workplace plain(ground_.plain());
  inodes ? disk.fill_inodes() : disk.fill_blocks();

  static constexpr std::array kKinds = {OpKind::kMkdir,  OpKind::kSymlink, OpKind::kMknod,  OpKind::kLink,
                                        OpKind::kUnlink, OpKind::kRmdir,   OpKind::kRename, OpKind::kChmod};
  std::size_t refused = 0;
  std::string story = fmt::format("seed {}\n", parameters().seed);
  for (const Tree& tree : trees) story += describe(tree) + "  --\n";
  for (int i = 0; i < 200; ++i) {
    std::vector<std::string> paths;
    for (const auto& [path, seen] : take_snapshot(ground_.plain()).entries)
      if (!path.empty()) paths.push_back(path);
    Op op = random_op(random, features, paths);
    op.as_user = false;
    if (std::find(kKinds.begin(), kKinds.end(), op.kind) == kKinds.end()) continue;
    story += fmt::format("    {}. {}\n", i, describe(op));
    const Outcome got = overlay.run(op);
    if (got.error == ENOSPC) ++refused;
    // EXDEV: a directory of the lower layer, which needs a copy.
    if (got.error != ENOSPC && got.error != EXDEV) {
      ASSERT_EQ(difference(plain.run(op), got, false), "") << story;
    }
    const std::vector<std::string> lines =
        differences(take_snapshot(ground_.plain(), {.strict = false}),
                    take_snapshot(ground_.mountpoint(), {.strict = false}), {.mtimes = false});
    ASSERT_EQ(lines, std::vector<std::string>{}) << story << "  which gave errno " << got.error;
  }
  EXPECT_GT(refused, 0U) << "the disk was not full";
  ASSERT_TRUE(mount.unmount()) << mount.failure();
  // Kernel overlayfs keeps a whiteout there to link from, until the next mount.
  if (tested_backend() != Backend::kKernel) {
    EXPECT_EQ(litter(layers.work), std::vector<std::string>{}) << story;
  }
}

std::string resource_name(const ::testing::TestParamInfo<const char*>& resource) { return resource.param; }

INSTANTIATE_TEST_SUITE_P(No, FullDiskOperations, ::testing::Values("Inodes", "Blocks"), resource_name);

}  // namespace
}  // namespace vellum::random_test
