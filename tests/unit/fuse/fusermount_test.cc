// Mounting without privileges: as a plain user with fusermount3, and as root of a user namespace. Each case runs in a
// process of its own with a usable /dev/fuse of its own; the machine's stays as it is.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "unit/fuse/memory_fs.h"
#include "unit/fuse/mounted.h"

namespace vellum::fuse {
namespace {

constexpr unsigned kNobody = 65534;

#define REQUIRE(condition)                                                         \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition, strerror(errno)); \
      return 1;                                                                    \
    }                                                                              \
  } while (false)

// Gives this process a world-usable /dev/fuse and makes it that plain user.
int become_plain_user(const std::string& place) {
  REQUIRE(sys::enter_private_mount_namespace());
  const std::string device = place + "/fuse";
  const mode_t mask = ::umask(0);
  REQUIRE(::mknod(device.c_str(), S_IFCHR | 0666, makedev(10, 229)) == 0);
  REQUIRE(::mount(device.c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr) == 0);
  ::umask(mask);
  REQUIRE(::setresgid(kNobody, kNobody, kNobody) == 0);
  REQUIRE(::setresuid(kNobody, kNobody, kNobody) == 0);
  REQUIRE(::prctl(PR_SET_DUMPABLE, 1) == 0);  // so that /proc/self is this user's own
  return 0;
}

// Mounts, sees a file system there, and unmounts.
int mount_and_use(const char* expected_user) {
  testing::MemoryFs fs;
  testing::Mounted mounted(fs);
  if (!mounted.error().empty()) {
    std::fprintf(stderr, "%s\n", mounted.error().c_str());
    return 1;
  }
  std::ifstream table("/proc/self/mounts");
  const std::string text{std::istreambuf_iterator<char>(table), {}};
  const auto at = text.find(mounted.root() + " fuse.vellumtest ");
  REQUIRE(at != std::string::npos);
  REQUIRE(text.substr(at, text.find('\n', at) - at).find(expected_user) != std::string::npos);
  struct stat st {};
  REQUIRE(::stat(mounted.root().c_str(), &st) == 0 && st.st_ino == 1);
  REQUIRE(!mounted.session().connection().passthrough);
  REQUIRE(mounted.finish());
  REQUIRE(::stat(mounted.root().c_str(), &st) == 0 && st.st_ino != 1);
  return 0;
}

int in_process(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

class Unprivileged : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::mounts_available()) GTEST_FAIL() << "needs root and /dev/fuse to set the stage";
    char name[] = "/tmp/vellum-fuse-stage-XXXXXX";
    place_ = ::mkdtemp(name);
    ::chmod(place_.c_str(), 0755);
  }
  void TearDown() override {
    if (!place_.empty()) std::filesystem::remove_all(place_);
  }
  std::string place_;
};

TEST_F(Unprivileged, PlainUserMountsThroughFusermount) {
  if (::access("/usr/bin/fusermount3", X_OK) != 0 && ::access("/bin/fusermount3", X_OK) != 0)
    GTEST_FAIL() << "needs fusermount3";
  EXPECT_EQ(in_process([this] {
              if (const int failed = become_plain_user(place_)) return failed;
              return mount_and_use("user_id=65534");
            }),
            0);
}

TEST_F(Unprivileged, ItsRefusalReachesTheUser) {
  if (::access("/usr/bin/fusermount3", X_OK) != 0 && ::access("/bin/fusermount3", X_OK) != 0)
    GTEST_FAIL() << "needs fusermount3";
  EXPECT_EQ(in_process([this] {
              if (const int failed = become_plain_user(place_)) return failed;
              const auto made = mount({.mountpoint = "/usr"});
              REQUIRE(!made);
              REQUIRE(made.error().message.find("cannot mount /usr: fusermount3: ") == 0);
              return 0;
            }),
            0);
}

TEST_F(Unprivileged, MissingFusermountIsNamed) {
  EXPECT_EQ(in_process([this] {
              if (const int failed = become_plain_user(place_)) return failed;
              ::setenv("PATH", "/nowhere", 1);
              const auto made = mount({.mountpoint = place_});
              REQUIRE(!made);
              REQUIRE(made.error().message.find("cannot run fusermount3") != std::string::npos);
              REQUIRE(made.error().message.find("fuse3") != std::string::npos);
              return 0;
            }),
            0);
}

TEST_F(Unprivileged, RootOfAUserNamespaceMountsDirectly) {
  constexpr int kNoNamespace = 77;
  const int status = in_process([this] {
    if (const int failed = become_plain_user(place_)) return failed;
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kNoNamespace;
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << "0 65534 1";
    std::ofstream("/proc/self/gid_map") << "0 65534 1";
    REQUIRE(::getuid() == 0);
    ::setenv("PATH", "/nowhere", 1);
    return mount_and_use("user_id=0");
  });
  // With a thread of its own in the process (ThreadSanitizer) or by the administrator's will.
  if (status == kNoNamespace) GTEST_SKIP() << "user namespaces cannot be made here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace vellum::fuse
