#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>
#include <string>
#include <vector>

#include "ground.h"
#include "mounts.h"
#include "parameters.h"
#include "snapshot.h"
#include "tree.h"

namespace vellum::random_test {
namespace {

constexpr int kThings = 12;
constexpr std::size_t kBigFile = 300'000;

std::string old_content(int i) { return std::string(kBigFile, static_cast<char>('a' + i)); }

// What one workload does to thing `i`, and what may be seen of it after a crash.
struct Workload {
  std::string name;
  std::string options;
  std::function<void(const std::string& root, int i)> act;
  // Empty if the snapshot shows thing `i` entirely before or entirely after `act`.
  std::function<std::string(const Snapshot& snapshot, int i)> check;
};

void PrintTo(const Workload& workload, std::ostream* out) { *out << workload.name; }

std::string file_name(int i) { return fmt::format("file{}", i); }
std::string directory_name(int i) { return fmt::format("dir{}", i); }

Tree lower_tree() {
  Tree tree;
  for (int i = 0; i < kThings; ++i) {
    Node& file = tree[file_name(i)];
    file.data = old_content(i);
    file.mode = 0640;
    file.uid = 1000;
    file.xattrs["user.x"] = "old";
    tree[directory_name(i)].kind = Kind::kDirectory;
    tree[directory_name(i)].mode = 0755;
    for (int child = 0; child < 5; ++child)
      tree[fmt::format("{}/{}", directory_name(i), child)].data = std::string(20'000, static_cast<char>('a' + child));
  }
  return tree;
}

const Seen* find(const Snapshot& snapshot, const std::string& path) {
  const auto found = snapshot.entries.find(path);
  return found == snapshot.entries.end() ? nullptr : &found->second;
}

// The file as the lower layer has it, but for its mode.
std::string check_whole(const Seen& seen, int i) {
  if (seen.data != old_content(i))
    return fmt::format("{} has another content, {} bytes", file_name(i), seen.data.size());
  if (seen.uid != 1000) return fmt::format("{} belongs to {}", file_name(i), seen.uid);
  if (seen.xattrs.count("user.x") == 0) return fmt::format("{} lost its xattr", file_name(i));
  return "";
}

std::string check_mode(const Snapshot& snapshot, int i) {
  const Seen* seen = find(snapshot, file_name(i));
  if (seen == nullptr) return file_name(i) + " is gone";
  if ((seen->mode & 07777) != 0640 && (seen->mode & 07777) != 0400)
    return fmt::format("{} has mode {:o}", file_name(i), seen->mode);
  return check_whole(*seen, i);
}

std::string check_renamed(const Snapshot& snapshot, int i) {
  const Seen* before = find(snapshot, file_name(i));
  const Seen* after = find(snapshot, "renamed-" + file_name(i));
  if ((before == nullptr) == (after == nullptr))
    return fmt::format("{}: old name {}, new name {}", file_name(i), before != nullptr, after != nullptr);
  return check_whole(before != nullptr ? *before : *after, i);
}

std::string check_removed(const Snapshot& snapshot, int i) {
  const Seen* seen = find(snapshot, file_name(i));
  return seen == nullptr ? "" : check_whole(*seen, i);
}

std::string check_moved_directory(const Snapshot& snapshot, int i) {
  const bool before = find(snapshot, directory_name(i)) != nullptr;
  const bool after = find(snapshot, "moved-" + directory_name(i)) != nullptr;
  if (before == after) return fmt::format("{}: old name {}, new name {}", directory_name(i), before, after);
  for (int child = 0; child < 5; ++child) {
    const std::string path = fmt::format("{}{}/{}", after ? "moved-" : "", directory_name(i), child);
    const Seen* seen = find(snapshot, path);
    if (seen == nullptr || seen->data != std::string(20'000, static_cast<char>('a' + child)))
      return path + (seen == nullptr ? " is missing" : " has another content");
  }
  return "";
}

std::string check_replaced(const Snapshot& snapshot, int i) {
  const Seen* seen = find(snapshot, file_name(i));
  if (seen == nullptr) return file_name(i) + " is gone";
  return seen->data == "new" || seen->data == old_content(i) ? "" : file_name(i) + " is neither old nor new";
}

std::vector<Workload> workloads() {
  const auto rename_to = [](const std::string& root, const std::string& from, const std::string& to) {
    ::rename((root + "/" + from).c_str(), (root + "/" + to).c_str());
  };
  return {
      {"CopyUp", "", [](const std::string& root, int i) { ::chmod((root + "/" + file_name(i)).c_str(), 0400); },
       check_mode},
      {"Rename", "", [=](const std::string& root, int i) { rename_to(root, file_name(i), "renamed-" + file_name(i)); },
       check_renamed},
      {"Whiteout", "", [](const std::string& root, int i) { ::unlink((root + "/" + file_name(i)).c_str()); },
       check_removed},
      {"Replace", "",
       [=](const std::string& root, int i) {
         const std::string temporary = fmt::format("{}/temporary{}", root, i);
         const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
         if (fd < 0 || ::write(fd, "new", 3) != 3 || ::fsync(fd) != 0) return;
         ::close(fd);
         rename_to(root, fmt::format("temporary{}", i), file_name(i));
       },
       check_replaced},
      {"RedirectOn", "redirect_dir=on",
       [=](const std::string& root, int i) { rename_to(root, directory_name(i), "moved-" + directory_name(i)); },
       check_moved_directory},
      {"RedirectCopy", "redirect_dir=copy",
       [=](const std::string& root, int i) { rename_to(root, directory_name(i), "moved-" + directory_name(i)); },
       check_moved_directory},
  };
}

class Kill : public ::testing::TestWithParam<Workload> {};

std::vector<std::string> names_below(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& [path, seen] : take_snapshot(directory, {.strict = false}).entries)
    if (!path.empty()) names.push_back(path);
  return names;
}

// Starts the workload in a process of its own, kills the daemon after `delay`, and says what is wrong afterwards.
// `took` is how long the workload ran.
std::string kill_once(const Workload& workload, Backend backend, std::chrono::microseconds delay,
                      std::chrono::microseconds& took) {
  const std::vector<Tree> trees = {lower_tree()};
  Ground ground;
  const Layers layers = write_layers({.trees = trees}, ground);
  {
    Mount mount(backend, layers, ground.mountpoint(), workload.options);
    if (!mount.failure().empty()) return mount.failure();
    const auto start = std::chrono::steady_clock::now();
    const pid_t worker = ::fork();
    if (worker == 0) {
      for (int i = 0; i < kThings; ++i) workload.act(ground.mountpoint(), i);
      ::_exit(0);
    }
    if (delay.count() > 0) {
      ::usleep(static_cast<useconds_t>(delay.count()));
      mount.kill_daemon();
    }
    ::waitpid(worker, nullptr, 0);
    took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
    if (delay.count() == 0 && !mount.unmount()) return mount.failure();
  }
  Mount mount(backend, layers, ground.mountpoint(), workload.options);
  if (!mount.failure().empty()) return "mounting again: " + mount.failure();
  const Snapshot snapshot = take_snapshot(ground.mountpoint(), {.strict = backend == Backend::kVellum});
  if (!snapshot.oddities.empty()) return snapshot.oddities.front();
  for (int i = 0; i < kThings; ++i)
    if (const std::string wrong = workload.check(snapshot, i); !wrong.empty()) return wrong;
  for (const auto& [path, seen] : snapshot.entries)
    if (path.find('#') != std::string::npos || path.starts_with(".")) return "litter in the tree: " + quoted(path);
  // The work directory itself may stay; what was being made in it may not.
  for (const std::string& left : names_below(layers.work))
    if (left != "work" && left != "index" && left != "incompat") return "litter in workdir: " + quoted(left);
  return "";
}

TEST_P(Kill, LeavesEverythingOldOrNew) {
  const Backend backend = tested_backend();
  if (!available(backend)) GTEST_FAIL() << name_of(backend) << " is not available (VELLUM_BIN unset?)";
  const Workload& workload = GetParam();
  if (backend == Backend::kKernel) GTEST_SKIP() << "there is no daemon to kill";
  std::chrono::microseconds full{};
  const std::string untouched = kill_once(workload, backend, std::chrono::microseconds(0), full);
  ASSERT_EQ(untouched, "") << "without a kill";
  Random random(parameters().seed);
  const auto stop = std::chrono::steady_clock::now() + std::chrono::duration<double>(parameters().seconds);
  int rounds = 0;
  for (; std::chrono::steady_clock::now() < stop; ++rounds) {
    const std::chrono::microseconds delay(1 + below(random, static_cast<std::uint64_t>(full.count()) + 500));
    std::chrono::microseconds took{};
    ASSERT_EQ(kill_once(workload, backend, delay, took), "")
        << "killed after " << delay.count() << " of " << full.count() << " us, round " << rounds << ", seed "
        << parameters().seed;
  }
  fmt::print("{} kills within {} us\n", rounds, full.count());
}

std::string workload_name(const ::testing::TestParamInfo<Workload>& workload) { return workload.param.name; }

INSTANTIATE_TEST_SUITE_P(Daemon, Kill, ::testing::ValuesIn(workloads()), workload_name);

}  // namespace
}  // namespace vellum::random_test
