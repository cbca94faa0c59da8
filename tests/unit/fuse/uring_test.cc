// Requests over io_uring under a real kernel: what is different from /dev/fuse. (What is the same is tried over every
// transport in transports_test.cc.)
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <optional>
#include <thread>

#include "fuse/uring_channel.h"
#include "unit/fuse/memory_fs.h"
#include "unit/fuse/mounted.h"
#include "unit/fuse/uring_switch.h"

namespace vellum::fuse {
namespace {

using namespace std::chrono_literals;
using testing::MemoryFs;
using testing::Mounted;
using testing::UringSwitch;

class UringTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::mounts_available()) GTEST_FAIL() << "needs root and /dev/fuse";
  }
  // The switch matters while mounting only.
  std::unique_ptr<Mounted> mount(Filesystem& fs, SessionOptions options = {}, unsigned threads = 4, bool on = true) {
    const UringSwitch io_uring(on);
    auto mounted = std::make_unique<Mounted>(fs, std::move(options), threads);
    EXPECT_EQ(mounted->error(), "");
    watchdog_ = std::jthread([root = mounted->root()](const std::stop_token& stop) { watch(stop, root); });
    return mounted;
  }
  MemoryFs fs_;

 private:
  // Server and users are one process here: if a request is never answered, not even SIGKILL ends it.
  static void watch(const std::stop_token& stop, const std::string& root) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    if (never.wait_for(lock, stop, 30s, [] { return false; }) || stop.stop_requested()) return;
    ADD_FAILURE() << "a request was not answered";
    ::umount2(root.c_str(), MNT_FORCE);
  }
  std::jthread watchdog_;
};

std::string pattern(std::size_t size) {
  std::string content(size, '\0');
  for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 2654435761U >> 13);
  return content;
}

// Requests for the attributes of a node, held up until let go.
class SlowFs final : public MemoryFs {
 public:
  Result<AttrReply> setattr(const Caller& caller, NodeId node, const SetAttr& change) override {
    {
      std::unique_lock lock(mutex_);
      ++waiting_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return open_; });
    }
    return MemoryFs::setattr(caller, node, change);
  }
  bool wait_for(int number) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, [&] { return waiting_ >= number; });
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

TEST_F(UringTest, CarriesALongWriteAndReadInOneRequest) {
  constexpr std::uint32_t kSize = 1 << 20;
  const auto mounted = mount(fs_, {.wishes = {.max_write = kSize}});
  EXPECT_STREQ(mounted->session().stats().transport, "io_uring");
  EXPECT_TRUE(mounted->session().over_io_uring());
  void* memory = std::aligned_alloc(4096, kSize);
  auto* const bytes = static_cast<char*>(memory);
  const std::string content = pattern(kSize);
  content.copy(bytes, kSize);
  const int fd = ::open(mounted->path("f").c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(::pwrite(fd, bytes, kSize, 0), static_cast<ssize_t>(kSize));
  std::fill_n(bytes, kSize, '\0');
  EXPECT_EQ(::pread(fd, bytes, kSize, 0), static_cast<ssize_t>(kSize));
  EXPECT_EQ(std::string_view(bytes, kSize), content);
  EXPECT_EQ(::pread(fd, bytes, kSize, kSize - 4096), 4096);
  ::close(fd);
  std::free(memory);
  const SessionStats stats = mounted->session().stats();
  EXPECT_EQ(stats.malformed, 0U);
  for (const auto& operation : stats.operations) {
    const std::string_view name = operation.name;
    if (name == "WRITE" || name == "READ") {
      EXPECT_EQ(operation.count, name == "WRITE" ? 1U : 2U) << name;
    }
  }
}

TEST_F(UringTest, SmallMessagesSuffice) {
  // Names, links and xattrs travel in the same room as data.
  const auto mounted = mount(fs_, {.wishes = {.max_write = 4096}});
  const std::string target(4000, 't');
  EXPECT_EQ(::symlink(target.c_str(), mounted->path("s").c_str()), 0);
  std::string read(5000, '\0');
  EXPECT_EQ(::readlink(mounted->path("s").c_str(), read.data(), read.size()), 4000);
  std::ofstream(mounted->path("f")) << pattern(100'000);
  std::ifstream file(mounted->path("f"));
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), pattern(100'000));
}

TEST_F(UringTest, ManyUsersAtOnce) {
  const auto mounted = mount(fs_);
  {
    std::vector<std::jthread> users;
    for (int t = 0; t < 16; ++t)
      users.emplace_back([&mounted, t] {
        for (int i = 0; i < 40; ++i) {
          const std::string path = mounted->path(std::to_string(t) + "-" + std::to_string(i));
          std::ofstream(path) << path;
          std::string content;
          std::ifstream(path) >> content;
          EXPECT_EQ(content, path);
          EXPECT_EQ(::unlink(path.c_str()), 0);
        }
      });
  }
  const SessionStats stats = mounted->session().stats();
  EXPECT_EQ(stats.lost_replies, 0U);
  EXPECT_EQ(stats.malformed, 0U);
}

TEST_F(UringTest, ARequestThatTakesLongHoldsUpNoOther) {
  SlowFs fs;
  const auto mounted = mount(fs);
  ASSERT_EQ(::mkdir(mounted->path("d").c_str(), 0755), 0);
  std::jthread slow([&] { EXPECT_EQ(::chmod(mounted->path("d").c_str(), 0700), 0); });
  EXPECT_TRUE(fs.wait_for(1));
  // Wherever the scheduler puts this thread, also on the CPU of the one that waits.
  for (int i = 0; i < 200; ++i) EXPECT_NE(::access(mounted->path("x" + std::to_string(i)).c_str(), F_OK), 0);
  fs.let_go();
}

// Asks the kernel to write out what it holds of a file, from inside a request: that takes WRITE requests.
class FlushingFs final : public MemoryFs {
 public:
  Result<std::uint64_t> lseek(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                              int whence) override {
    TRY(connection().notifier->inval_data(node, 0, 0));
    return MemoryFs::lseek(caller, node, handle, offset, whence);
  }
};

TEST_F(UringTest, ANotificationInsideARequestMayNeedOtherRequests) {
  FlushingFs fs;
  const auto mounted = mount(fs, {.wishes = {.writeback_cache = true}});
  ASSERT_TRUE(fs.connection().writeback_cache);
  const int fd = ::open(mounted->path("f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  const std::string content = pattern(3 << 20);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(::pwrite(fd, content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
    EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE), static_cast<off_t>(content.size()));
  }
  ::close(fd);
}

TEST_F(UringTest, NotificationsAndForgetsTakeTheDevice) {
  fs_.set_timeout(1000);
  const auto mounted = mount(fs_);
  std::ofstream(mounted->path("f")) << "x";
  ASSERT_TRUE(fs_.unlink({}, NodeId::kRoot, "f"));
  EXPECT_EQ(::access(mounted->path("f").c_str(), F_OK), 0);
  EXPECT_TRUE(mounted->session().inval_entry(NodeId::kRoot, "f"));
  EXPECT_NE(::access(mounted->path("f").c_str(), F_OK), 0);
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (fs_.counted_lookups() > 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(5ms);
  EXPECT_EQ(fs_.counted_lookups(), 0U);
}

TEST_F(UringTest, UnmountingWhileBusyEndsIt) {
  const auto mounted = mount(fs_);
  std::atomic<bool> over{false};
  std::vector<std::jthread> users;
  for (int t = 0; t < 4; ++t)
    users.emplace_back([&, t] {
      const int fd = ::open(mounted->path(std::to_string(t)).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
      while (!over) {
        char bytes[100];
        if (::fchmod(fd, 0600) != 0 || ::pread(fd, bytes, sizeof bytes, 0) < 0) break;
      }
      ::close(fd);
    });
  std::this_thread::sleep_for(50ms);
  ASSERT_EQ(::umount2(mounted->root().c_str(), MNT_DETACH), 0);
  over = true;
  users.clear();
  EXPECT_TRUE(mounted->wait_for_end());
  EXPECT_TRUE(fs_.destroyed());
}

TEST_F(UringTest, StopSendsTheReplyThatIsBeingMade) {
  SlowFs fs;
  const auto mounted = mount(fs);
  ASSERT_EQ(::mkdir(mounted->path("d").c_str(), 0755), 0);
  std::atomic<int> result{-1};
  std::jthread user([&] { result = ::chmod(mounted->path("d").c_str(), 0700) == 0 ? 0 : errno; });
  ASSERT_TRUE(fs.wait_for(1));
  std::jthread stopper([&] { mounted->session().stop(); });
  std::this_thread::sleep_for(20ms);
  fs.let_go();
  stopper.join();
  EXPECT_TRUE(mounted->wait_for_end());
  user.join();
  EXPECT_EQ(result, 0);
  // Nobody serves it any more, and the kernel knows.
  EXPECT_EQ(::mkdir(mounted->path("e").c_str(), 0755), -1);
}

TEST_F(UringTest, UsersOfAKilledServerGetAnError) {
  char name[] = "/tmp/vellum-fuse-test-XXXXXX";
  const std::string directory = ::mkdtemp(name);
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  pid_t server = 0;
  {
    const UringSwitch io_uring(true);
    server = ::fork();
    if (server == 0) {
      SlowFs fs;
      auto made = fuse::mount({.mountpoint = directory});
      if (!made) ::_exit(1);
      std::optional<Session> session;
      session.emplace(fs, SessionOptions{.on_ready = [&](unsigned) {
                        const char how = session->over_io_uring() ? 'r' : 'd';
                        if (::write(ready[1], &how, 1) != 1) ::_exit(2);
                      }});
      ignore(session->run(std::make_unique<DeviceChannel>(made->take_device()), 4));
      ::_exit(0);
    }
    char how = 0;
    ASSERT_EQ(::read(ready[0], &how, 1), 1);
    EXPECT_EQ(how, 'r');
  }
  ASSERT_EQ(::mkdir((directory + "/d").c_str(), 0755), 0);
  std::atomic<int> result{-1};
  std::jthread user([&] { result = ::chmod((directory + "/d").c_str(), 0700) == 0 ? 0 : errno; });
  std::this_thread::sleep_for(50ms);  // by now the request waits in the server
  ASSERT_EQ(::kill(server, SIGKILL), 0);
  ASSERT_EQ(::waitpid(server, nullptr, 0), server);
  user.join();
  EXPECT_TRUE(result == ECONNABORTED || result == ENOTCONN) << result;
  // The rings go with a worker of the kernel's, a moment after the process.
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  struct stat st {};
  while (::stat((directory + "/none").c_str(), &st) != -1 || errno != ENOTCONN) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(::umount2(directory.c_str(), MNT_DETACH), 0);
  ::rmdir(directory.c_str());
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(UringTest, StaysOnTheDeviceWhereItMust) {
  struct Case {
    const char* why;
    bool kernel;
    bool wished;
    unsigned threads, ring_threads;
    const char* transport;
  };
  for (const Case& one : {Case{"possible and wished", true, true, 4, 0, "io_uring"},
                          Case{"the kernel does not offer it", false, true, 4, 0, "device"},
                          Case{"not wished", true, false, 4, 0, "device"},
                          Case{"a single thread serves alone", true, true, 1, 0, "device"},
                          Case{"one thread cannot serve every queue twice", true, true, 2, 1, "device"}}) {
    MemoryFs fs;
    const auto mounted =
        mount(fs, {.wishes = {.io_uring = one.wished}, .ring_threads = one.ring_threads}, one.threads, one.kernel);
    EXPECT_EQ(::mkdir(mounted->path("d").c_str(), 0755), 0);
    EXPECT_STREQ(mounted->session().stats().transport, one.transport) << one.why;
    EXPECT_EQ(mounted->session().over_io_uring(), std::string_view(one.transport) == "io_uring") << one.why;
  }
}

// What another mount's io_uring=1 does to this one: it turns the switch on for a moment, and that moment ends between
// the kernel's offer and our answer.
class SwitchedOffFs final : public MemoryFs {
 public:
  Status init(Connection& connection) override {
    std::ofstream(sys::UringPermit::kSwitch) << 'N';
    return MemoryFs::init(connection);
  }
};

TEST_F(UringTest, AnOfferThatEndsBeforeTheAnswerIsNone) {
  SwitchedOffFs fs;
  ::testing::internal::CaptureStderr();
  const auto mounted = mount(fs);
  EXPECT_EQ(::mkdir(mounted->path("d").c_str(), 0755), 0);
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (std::string_view(mounted->session().stats().transport) != "device" &&
         std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(1ms);
  EXPECT_STREQ(mounted->session().stats().transport, "device");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST_F(UringTest, WithoutRoomForRingsTheDeviceServes) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int free_fd = ::dup(0);
  ::close(free_fd);
  // Enough to mount, too few for a ring per thread.
  const rlimit tight{.rlim_cur = static_cast<rlim_t>(free_fd) + 8, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const auto mounted = mount(fs_, {.ring_threads = 200}, 2);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_STREQ(mounted->session().stats().transport, "device");
  EXPECT_EQ(::mkdir(mounted->path("d").c_str(), 0755), 0);
}

TEST(RingThreads, TwoForEachQueueOrMore) {
  EXPECT_EQ(ring_threads_per_queue(1, 1, 0), 2U);
  EXPECT_EQ(ring_threads_per_queue(8, 8, 0), 2U);
  EXPECT_EQ(ring_threads_per_queue(8, 2, 0), 2U);
  EXPECT_EQ(ring_threads_per_queue(96, 96, 0), 2U);
  EXPECT_EQ(ring_threads_per_queue(2, 2, 9), 4U);
}

TEST(RingThreads, NoneWhereTheyAreTooFewOrTooMany) {
  EXPECT_EQ(ring_threads_per_queue(2, 2, 3), 0U);
  EXPECT_EQ(ring_threads_per_queue(1, 1, 1), 0U);
  EXPECT_EQ(ring_threads_per_queue(240, 2, 0), 0U);
}

TEST_F(UringTest, OtherChannelsHaveNoRings) {
  class NoChannel final : public Channel {
    Result<RequestBytes> receive(std::span<std::byte>) override { return fail(ENODEV); }
    Status send(std::span<const iovec>) override { return fail(ENODEV); }
    Result<std::unique_ptr<Channel>> clone() override { return fail(EOPNOTSUPP); }
    const char* name() const override { return "none"; }
  };
  EXPECT_EQ(make_ring_channels(std::make_shared<NoChannel>(), {.payload = 8192}).error(), EOPNOTSUPP);
}

}  // namespace
}  // namespace vellum::fuse
