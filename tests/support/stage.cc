#include "support/stage.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>

#include "support/backend.h"
#include "support/caches_lock.h"

namespace vellum::test {
namespace {

std::string vellum_binary;  // as given; copied to /mnt/bin before rights are dropped

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "test stage: %s: %s\n", what.c_str(), std::strerror(errno));
  std::_Exit(3);
}

void must(long result, const std::string& what) {
  if (result < 0) die(what);
}

void must_run(const std::string& command) {
  if (std::system(command.c_str()) != 0) {
    std::fprintf(stderr, "test stage: failed: %s\n", command.c_str());
    std::_Exit(3);
  }
}

void write_all(const std::string& path, const std::string& text) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  must(fd, path);
  must(::write(fd, text.data(), text.size()), path);
  ::close(fd);
}

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

// Host ids that own the stores: the namespace's root is host id 100000.
constexpr uid_t kUsernsFirstHostId = 100000;

uid_t store_owner() {
  if (on(kAnyUserns)) return kUsernsFirstHostId;
  return on(kVellumUser) ? kPlainUid : 0;
}

void make_disk(const std::string& name, const std::string& mkfs, const char* size, const std::string& mount_options) {
  std::string image = "/mnt/img/" + name, place = "/mnt/" + name;
  must_run("truncate -s " + std::string(size) + " " + image);
  must_run(mkfs + " " + image + " >/dev/null 2>&1");
  must(::mkdir(place.c_str(), 0755), place);
  must_run("mount -o loop" + mount_options + " " + image + " " + place);
  must(::chown(place.c_str(), store_owner(), store_owner()), place);
}

void make_places() {
  must(::mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755,size=6g,nr_inodes=2m"), "mount tmpfs on /mnt");
  for (const char* dir : {"/mnt/bin", "/mnt/dev", "/mnt/img", "/mnt/tmpfs"}) must(::mkdir(dir, 0755), dir);
  must(::chown("/mnt/tmpfs", store_owner(), store_owner()), "chown /mnt/tmpfs");

  // The machine's node is for root only; in here anyone may mount.
  must(::mknod("/mnt/dev/fuse", S_IFCHR | 0666, makedev(10, 229)), "mknod /mnt/dev/fuse");
  must(::chmod("/mnt/dev/fuse", 0666), "chmod /mnt/dev/fuse");
  must(::mount("/mnt/dev/fuse", "/dev/fuse", nullptr, MS_BIND, nullptr), "bind /dev/fuse");

  // fusermount3 wants a name for the plain user.
  must_run("{ cat /etc/passwd; echo 'vellum-test:x:" + std::to_string(kPlainUid) + ":" + std::to_string(kPlainGid) +
           "::/:/bin/false'; } >/mnt/dev/passwd");
  must(::mount("/mnt/dev/passwd", "/etc/passwd", nullptr, MS_BIND, nullptr), "bind /etc/passwd");

  must(::mkdir("/mnt/ramfs", 0755), "/mnt/ramfs");
  must(::mount("ramfs", "/mnt/ramfs", "ramfs", 0, "mode=0755"), "mount ramfs");
  must(::chown("/mnt/ramfs", store_owner(), store_owner()), "chown /mnt/ramfs");
  make_disk("ext4", "mkfs.ext4 -q -I 256 -E lazy_itable_init=1,root_owner=0:0", "2G", "");
  make_disk("xfs", "mkfs.xfs -q -m reflink=1", "512M", "");
  make_disk("btrfs", "mkfs.btrfs -q", "512M", ",user_subvol_rm_allowed");

  if (on(kAnyVellum)) {
    must_run("cp '" + vellum_binary + "' /mnt/bin/vellum");
    must(::chmod("/mnt/bin/vellum", 0755), "chmod vellum");
    must(::symlink("vellum", "/mnt/bin/fuse-overlayfs"), "symlink fuse-overlayfs");
  } else {
    must(::symlink("/usr/bin/fuse-overlayfs", "/mnt/bin/fuse-overlayfs"), "symlink fuse-overlayfs");
  }
}

// A thread that keeps root's rights while the others run as a plain user: credentials are per thread in Linux.
class RootThread {
 public:
  RootThread() : thread_([this](std::stop_token stop) { serve(stop); }) {}

  void run(const std::function<void()>& act) {
    std::unique_lock lock(mutex_);
    act_ = &act;
    changed_.notify_all();
    changed_.wait(lock, [this] { return act_ == nullptr; });
  }

 private:
  void serve(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [this] { return act_ != nullptr; })) {
      (*act_)();
      act_ = nullptr;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  const std::function<void()>* act_ = nullptr;
  std::jthread thread_;
};

std::unique_ptr<RootThread> root_thread;

void become_plain_user() {
  root_thread = std::make_unique<RootThread>();
  // Raw calls: glibc's would change every thread.
  must(::syscall(SYS_setgroups, 0, nullptr), "setgroups");
  must(::syscall(SYS_setresgid, kPlainGid, kPlainGid, kPlainGid), "setresgid");
  must(::syscall(SYS_setresuid, kPlainUid, kPlainUid, kPlainUid), "setresuid");
  must(::prctl(PR_SET_DUMPABLE, 1), "PR_SET_DUMPABLE");
}

// A process that keeps the machine's rights and drops its caches for each byte it gets.
int cache_dropper_socket = -1;

// Nobody drops the caches while a test counts requests.
class CachesKept final : public ::testing::EmptyTestEventListener {
 public:
  explicit CachesKept(int lock) : lock_(lock) {}
  void OnTestStart(const ::testing::TestInfo& test) override {
    if (std::string_view(test.test_suite_name()).find("Requests") != std::string_view::npos)
      must(::flock(lock_, LOCK_SH), "lock");
  }
  void OnTestEnd(const ::testing::TestInfo&) override { ::flock(lock_, LOCK_UN); }

 private:
  int lock_;
};

int must_open_caches_lock() {
  const int lock = open_caches_lock();
  must(lock, "open the lock of the caches");
  return lock;
}

[[noreturn]] void serve_cache_drops(int socket) {
  must(::prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
  const int lock = must_open_caches_lock();
  for (char byte = 0; ::read(socket, &byte, 1) == 1;) {
    must(::flock(lock, LOCK_EX), "lock");
    ::sync();
    write_all("/proc/sys/vm/drop_caches", "2");
    ::flock(lock, LOCK_UN);
    must(::write(socket, &byte, 1), "answer");
  }
  std::_Exit(0);
}

int worker(int go_read, int unshared_write) {
  must(::prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
  must(::prctl(PR_SET_CHILD_SUBREAPER, 1), "PR_SET_CHILD_SUBREAPER");  // daemons become our children
  const int caches_lock = must_open_caches_lock();                     // while these are still root's rights
  if (on(kAnyUserns)) {
    must(::unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare user namespace");
    must(::write(unshared_write, "u", 1), "tell the parent");
    char go = 0;
    if (::read(go_read, &go, 1) != 1) die("wait for the id map");
    must(::setgroups(0, nullptr), "setgroups");
    must(::setresgid(0, 0, 0), "setresgid");
    must(::setresuid(0, 0, 0), "setresuid");
  } else if (on(kVellumUser)) {
    become_plain_user();
  }
  ::umask(022);
  ::testing::UnitTest::GetInstance()->listeners().Append(new CachesKept(caches_lock));
  int status = RUN_ALL_TESTS();
  print_not_on();
  std::fflush(nullptr);
  return status;
}

// First process of the pid namespace: builds the place, starts the tests, reaps, and takes all with it at its end.
int stage_init() {
  must(::prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
  must(::mount("proc", "/proc", "proc", 0, nullptr), "mount /proc");
  make_places();
  std::array<int, 2> unshared{}, go{};
  must(::pipe2(unshared.data(), O_CLOEXEC), "pipe");
  must(::pipe2(go.data(), O_CLOEXEC), "pipe");
  std::array<int, 2> sockets{};
  must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()), "socketpair");
  pid_t dropper = ::fork();
  must(dropper, "fork");
  if (dropper == 0) serve_cache_drops(sockets[1]);
  cache_dropper_socket = sockets[0];
  pid_t child = ::fork();
  must(child, "fork");
  if (child == 0) std::_Exit(worker(go[0], unshared[1]));
  if (on(kAnyUserns)) {
    char ready = 0;
    ::close(unshared[1]);
    if (::read(unshared[0], &ready, 1) == 1) {
      std::string map = "0 " + std::to_string(kUsernsFirstHostId) + " 65536";
      write_all("/proc/" + std::to_string(child) + "/uid_map", map);
      write_all("/proc/" + std::to_string(child) + "/gid_map", map);
      must(::write(go[1], "g", 1), "tell the child");
    }
  }
  for (;;) {
    int status = 0;
    pid_t ended = ::waitpid(-1, &status, 0);
    if (ended < 0 && errno != EINTR) die("waitpid");
    if (ended == child) return exit_code(status);
  }
}

std::string take_argument(int& argc, char** argv, const std::string& name, const std::string& otherwise) {
  std::string value = otherwise, prefix = "--" + name + "=";
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with(prefix)) {
      value = std::string(argv[i]).substr(prefix.size());
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  argv[argc] = nullptr;
  return value;
}

std::string from_environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

}  // namespace

int run_on_stage(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  choose_backend(take_argument(argc, argv, "backend", from_environment("VELLUM_TEST_BACKEND", "kernel")));
#ifdef VELLUM_BINARY
  vellum_binary = VELLUM_BINARY;
#endif
  vellum_binary = take_argument(argc, argv, "vellum", from_environment("VELLUM_BIN", vellum_binary));
  if (argc > 1) {
    std::fprintf(stderr, "unknown argument: %s\n", argv[1]);
    return 2;
  }
  if (::testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  if (::geteuid() != 0) {
    std::fprintf(stderr, "these tests mount file systems in namespaces of their own and must be started as root\n");
    return 3;
  }
  must(::unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare");
  must(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make mounts private");
  std::fflush(nullptr);
  pid_t child = ::fork();
  must(child, "fork");
  if (child == 0) std::_Exit(stage_init());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) die("waitpid");
  }
  return exit_code(status);
}

Store default_upper_store() {
  static const Store store = [] {
    std::string name = from_environment("VELLUM_TEST_UPPER", "tmpfs");
    if (name == "tmpfs") return Store::kTmpfs;
    if (name == "ext4") return Store::kExt4;
    if (name == "xfs") return Store::kXfs;
    if (name == "btrfs") return Store::kBtrfs;
    std::fprintf(stderr, "VELLUM_TEST_UPPER=%s is none of tmpfs, ext4, xfs, btrfs\n", name.c_str());
    std::_Exit(2);
  }();
  return store;
}

std::string store_path(Store store) {
  switch (store) {
    case Store::kExt4: return "/mnt/ext4";
    case Store::kXfs: return "/mnt/xfs";
    case Store::kBtrfs: return "/mnt/btrfs";
    case Store::kRamfs: return "/mnt/ramfs";
    case Store::kDefault:
    case Store::kTmpfs: break;
  }
  return "/mnt/tmpfs";
}

void as_root(const std::function<void()>& act) {
  if (root_thread != nullptr) {
    root_thread->run(act);
  } else {
    act();
  }
}

void drop_machine_caches() {
  char byte = 'd';
  EXPECT_EQ(::write(cache_dropper_socket, &byte, 1), 1);
  EXPECT_EQ(::read(cache_dropper_socket, &byte, 1), 1);
}

int as_ids(uid_t uid, gid_t gid, const std::function<int()>& act) {
  pid_t child = ::fork();
  if (child < 0) return errno;
  if (child == 0) {
    if (::setgroups(0, nullptr) < 0 || ::setresgid(gid, gid, gid) < 0 || ::setresuid(uid, uid, uid) < 0) {
      std::_Exit(255);
    }
    std::_Exit(act());
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 255) return WEXITSTATUS(status);
  ADD_FAILURE() << "the child with uid " << uid << " ended with status " << status;
  return EINVAL;
}

}  // namespace vellum::test
