#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "ground.h"
#include "mounts.h"
#include "parameters.h"
#include "sandbox.h"
#include "tree.h"

namespace vellum::random_test {
namespace {

constexpr std::size_t kMiB = 1U << 20;

class Scale : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(available(tested_backend())) << name_of(tested_backend()) << " is not available (VELLUM_BIN unset?)";
  }

  // A limit for the daemon, which inherits it; the test itself needs few files.
  static void limit_open_files(rlim_t files) {
    const rlimit limit = {files, files};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  }

  Layers layers_over(const std::vector<std::string>& lowers) {
    Layers layers;
    layers.lowers = lowers;
    layers.upper = ground_.base() + "/upper";
    layers.work = ground_.base() + "/work";
    ::mkdir(layers.upper.c_str(), 0755);
    ::mkdir(layers.work.c_str(), 0755);
    return layers;
  }

  // `directories` directories with `files` small files each.
  std::string make_tree(int directories, int files) {
    std::string lower = ground_.base() + "/lower";
    ::mkdir(lower.c_str(), 0755);
    for (int d = 0; d < directories; ++d) {
      const std::string directory = fmt::format("{}/directory{:04}", lower, d);
      ::mkdir(directory.c_str(), 0755);
      for (int f = 0; f < files; ++f) ::mknod(fmt::format("{}/file{:04}", directory, f).c_str(), S_IFREG | 0644, 0);
    }
    return lower;
  }

  // Runs a shell command, returns its output and prints how long it took.
  static std::string output_of(const std::string& command, int& status) {
    const auto start = std::chrono::steady_clock::now();
    std::string text;
    FILE* pipe = ::popen(command.c_str(), "r");
    std::array<char, 4096> part{};
    while (const std::size_t got = ::fread(part.data(), 1, part.size(), pipe)) text.append(part.data(), got);
    status = ::pclose(pipe);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("  {:.2f} s: {}\n", seconds, command);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

  static std::size_t resident_bytes(pid_t pid) {
    std::ifstream statm(fmt::format("/proc/{}/statm", pid));
    std::size_t all = 0;
    std::size_t resident = 0;
    statm >> all >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  }

  Ground ground_;
};

TEST_F(Scale, HundredThousandFilesWithThousandOpenFiles) {
  const Layers layers = layers_over({make_tree(200, 500)});
  limit_open_files(1024);
  Mount mount(tested_backend(), layers, ground_.mountpoint());
  ASSERT_EQ(mount.failure(), "");
  int status = 0;
  EXPECT_EQ(output_of(fmt::format("find {} -ls | wc -l", mount.path()), status), "100201");
  EXPECT_EQ(status, 0);
  if (mount.daemon() > 0)
    fmt::print("  daemon: {:.1f} MiB\n", static_cast<double>(resident_bytes(mount.daemon())) / kMiB);
  EXPECT_EQ(output_of(fmt::format("rm -rf {}/* 2>&1 | head -3", mount.path()), status), "");
  EXPECT_EQ(output_of(fmt::format("find {} | wc -l", mount.path()), status), "1");
  EXPECT_TRUE(mount.unmount()) << mount.failure();
}

TEST_F(Scale, FiveHundredLayersMountInASecond) {
  // Kernel overlayfs takes its options in one page here, so short names and relative paths.
  std::vector<std::string> lowers;
  const std::string top = "/mnt/l";
  ::mkdir(top.c_str(), 0755);
  for (int i = 0; i < 500; ++i) {
    const std::string lower = fmt::format("{}/{}", top, i);
    Tree tree;
    tree["common"].data = fmt::format("{}", i);
    tree[fmt::format("only{}", i)].data = "here";
    ::mkdir(lower.c_str(), 0755);
    write_tree(tree, lower, WhiteoutStyle::kDevice);
    lowers.push_back(tested_backend() == Backend::kKernel ? fmt::format("{}", i) : lower);
  }
  const Layers layers = layers_over(lowers);
  ASSERT_EQ(::chdir(top.c_str()), 0);
  const auto start = std::chrono::steady_clock::now();
  Mount mount(tested_backend(), layers, ground_.mountpoint());
  ASSERT_EQ(::chdir("/"), 0);
  ASSERT_EQ(mount.failure(), "");
  struct stat st;
  EXPECT_EQ(::stat((mount.path() + "/only499").c_str(), &st), 0);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("  {:.3f} s to mount 500 layers and find a name in the last\n", seconds);
  EXPECT_LT(seconds, 1.0);
  int status = 0;
  EXPECT_EQ(output_of(fmt::format("ls {} | wc -l", mount.path()), status), "501");
  EXPECT_EQ(output_of(fmt::format("cat {}/common", mount.path()), status), "0");
  EXPECT_TRUE(mount.unmount()) << mount.failure();
  remove_tree(top);
}

TEST_F(Scale, IdleDaemonIsSmall) {
  if (tested_backend() == Backend::kKernel) GTEST_SKIP() << "there is no daemon to measure";
  Mount mount(tested_backend(), layers_over({make_tree(1, 1)}), ground_.mountpoint());
  ASSERT_EQ(mount.failure(), "");
  const std::size_t bytes = resident_bytes(mount.daemon());
  fmt::print("  {:.1f} MiB\n", static_cast<double>(bytes) / kMiB);
  EXPECT_LT(bytes, 20 * kMiB);
}

TEST_F(Scale, MillionFilesWalked) {
  const Layers layers = layers_over({make_tree(1000, 1000)});
  Mount mount(tested_backend(), layers, ground_.mountpoint());
  ASSERT_EQ(mount.failure(), "");
  int status = 0;
  EXPECT_EQ(output_of(fmt::format("find {} -ls | wc -l", mount.path()), status), "1001001");
  if (mount.daemon() < 0) return;
  const std::size_t bytes = resident_bytes(mount.daemon());
  fmt::print("  {:.1f} MiB\n", static_cast<double>(bytes) / kMiB);
  EXPECT_LT(bytes, 400 * kMiB);
}

}  // namespace
}  // namespace vellum::random_test
