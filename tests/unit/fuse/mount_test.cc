// The same layer under a real kernel. Each test mounts in this process's own mount namespace.
#include "fuse/mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "support/caches_lock.h"
#include "unit/fuse/memory_fs.h"
#include "unit/fuse/mounted.h"

namespace vellum::fuse {
namespace {

using testing::MemoryFs;
using testing::Mounted;

class MountTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::mounts_available()) GTEST_FAIL() << "needs root and /dev/fuse";
  }
  MemoryFs fs_;
};

void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  EXPECT_TRUE(file.good()) << path;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string mounts() { return read_file("/proc/self/mounts"); }

TEST_F(MountTest, AgreesOnTheKernelsOwnProtocol) {
  Mounted mounted(fs_, {.wishes = {.io_uring = false}});
  ASSERT_EQ(mounted.error(), "");
  EXPECT_GE(fs_.connection().minor, abi::kOldestMinor);
  EXPECT_EQ(fs_.connection().max_write, 512U << 10);
  EXPECT_TRUE(fs_.connection().parallel_dirops);
  EXPECT_EQ(mounted.session().connection().minor, fs_.connection().minor);
  EXPECT_STREQ(mounted.session().stats().transport, "device");
}

TEST_F(MountTest, ShowsTypeSourceAndFlags) {
  MountOptions options;
  options.source = "a,b\\c";
  options.subtype = "vellumtest";
  options.flags.nosuid = options.flags.nodev = options.flags.noatime = true;
  options.allow_other = true;
  Mounted mounted(fs_, {}, 1, options);
  ASSERT_EQ(mounted.error(), "");
  const std::string table = mounts();
  const auto at = table.find("a,b\\134c " + mounted.root() + " fuse.vellumtest ");
  ASSERT_NE(at, std::string::npos) << table;
  const std::string line = table.substr(at, table.find('\n', at) - at);
  for (const char* word : {"nosuid", "nodev", "noatime", "allow_other", "default_permissions"})
    EXPECT_NE(line.find(word), std::string::npos) << line;
}

TEST_F(MountTest, FilesLinksAndDirectories) {
  Mounted mounted(fs_);
  ASSERT_EQ(mounted.error(), "");
  write_file(mounted.path("f"), "hello");
  EXPECT_EQ(read_file(mounted.path("f")), "hello");
  std::filesystem::create_directories(mounted.path("a/b/c"));
  std::filesystem::create_symlink("../f", mounted.path("a/s"));
  EXPECT_EQ(read_file(mounted.path("a/s")), "hello");
  std::filesystem::create_hard_link(mounted.path("f"), mounted.path("a/g"));
  EXPECT_EQ(std::filesystem::hard_link_count(mounted.path("f")), 2U);
  std::filesystem::rename(mounted.path("a/b"), mounted.path("b"));
  EXPECT_TRUE(std::filesystem::exists(mounted.path("b/c")));
  std::filesystem::resize_file(mounted.path("f"), 2);
  EXPECT_EQ(read_file(mounted.path("a/g")), "he");
  EXPECT_EQ(std::filesystem::remove_all(mounted.path("a")), 3U);
  EXPECT_EQ(mounted.session().stats().malformed, 0U);
}

TEST_F(MountTest, LargeFileSurvivesTheTrip) {
  Mounted mounted(fs_);
  ASSERT_EQ(mounted.error(), "");
  std::string content(5 * 1024 * 1024 + 123, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 2654435761U >> 13);
  write_file(mounted.path("big"), content);
  // Drop what the kernel has, so that READ is asked.
  const int fd = ::open(mounted.path("big").c_str(), O_RDONLY | O_CLOEXEC);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
  EXPECT_EQ(read_file(mounted.path("big")), content);
  EXPECT_GE(mounted.session().stats().bytes_written, content.size());
}

TEST_F(MountTest, ManyEntriesAreListedOnce) {
  Mounted mounted(fs_);
  ASSERT_EQ(mounted.error(), "");
  for (int i = 0; i < 1000; ++i)
    ASSERT_TRUE(fs_.mknod({}, NodeId::kRoot, "entry-" + std::to_string(i), S_IFREG | 0644, 0, 0));
  std::set<std::string> names;
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(mounted.root())) {
    names.insert(entry.path().filename());
    ++count;
  }
  EXPECT_EQ(count, 1000U);
  EXPECT_EQ(names.size(), 1000U);
}

TEST_F(MountTest, XattrsTmpfileStatxAndStatfs) {
  Mounted mounted(fs_);
  ASSERT_EQ(mounted.error(), "");
  write_file(mounted.path("f"), "x");
  EXPECT_EQ(::setxattr(mounted.path("f").c_str(), "user.k", "value", 5, 0), 0);
  char value[16];
  EXPECT_EQ(::getxattr(mounted.path("f").c_str(), "user.k", value, sizeof value), 5);
  EXPECT_EQ(::listxattr(mounted.path("f").c_str(), value, sizeof value), 7);

  const int fd = ::open(mounted.root().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0) << strerror(errno);
  EXPECT_EQ(::write(fd, "abc", 3), 3);
  struct stat st {};
  EXPECT_EQ(::fstat(fd, &st), 0);
  EXPECT_EQ(st.st_nlink, 0U);
  EXPECT_EQ(st.st_size, 3);
  ::close(fd);

  struct statx sx {};
  ASSERT_EQ(::statx(AT_FDCWD, mounted.path("f").c_str(), 0, STATX_BTIME, &sx), 0);
  EXPECT_EQ(sx.stx_btime.tv_sec, 1'500'000'000);

  struct statfs sf {};
  ASSERT_EQ(::statfs(mounted.root().c_str(), &sf), 0);
  EXPECT_EQ(sf.f_blocks, 1000U);
  EXPECT_EQ(mounted.session().stats().malformed, 0U);
}

TEST_F(MountTest, CopyFileRangeFallocateLseekSyncfs) {
  Mounted mounted(fs_);
  ASSERT_EQ(mounted.error(), "");
  write_file(mounted.path("from"), "0123456789");
  const int in = ::open(mounted.path("from").c_str(), O_RDONLY | O_CLOEXEC);
  const int out = ::open(mounted.path("to").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  EXPECT_EQ(::copy_file_range(in, nullptr, out, nullptr, 10, 0), 10);
  EXPECT_EQ(::posix_fallocate(out, 0, 20), 0);
  EXPECT_EQ(::lseek(out, 5, SEEK_HOLE), 20);
  EXPECT_EQ(::syncfs(out), 0);
  ::close(in);
  ::close(out);
  EXPECT_EQ(read_file(mounted.path("to")).substr(0, 10), "0123456789");
  EXPECT_EQ(mounted.session().stats().malformed, 0U);
}

TEST_F(MountTest, ForgetsWhatItCounted) {
  {
    Mounted mounted(fs_);
    ASSERT_EQ(mounted.error(), "");
    for (int i = 0; i < 20; ++i) write_file(mounted.path("f" + std::to_string(i)), "x");
    std::filesystem::remove_all(mounted.path("f0"));
    const int lock = test::open_caches_lock();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    // Again and again: what somebody uses just then is not dropped.
    while ((fs_.counted_lookups() > 0 || fs_.open_handles() > 0) && std::chrono::steady_clock::now() < deadline) {
      ::flock(lock, LOCK_EX);
      std::ofstream("/proc/sys/vm/drop_caches") << "2";
      ::flock(lock, LOCK_UN);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::close(lock);
  }
  EXPECT_EQ(fs_.open_handles(), 0U);
  EXPECT_EQ(fs_.counted_lookups(), 0U);
}

TEST_F(MountTest, UnmountFromOutsideEndsRun) {
  Mounted mounted(fs_, {}, 4);
  ASSERT_EQ(mounted.error(), "");
  ASSERT_EQ(::umount2(mounted.root().c_str(), 0), 0);
  EXPECT_TRUE(mounted.wait_for_end());
  EXPECT_TRUE(fs_.destroyed());
  EXPECT_TRUE(mounted.mount().unmount());
}

TEST_F(MountTest, StopEndsABusyMount) {
  Mounted mounted(fs_, {}, 4);
  ASSERT_EQ(mounted.error(), "");
  write_file(mounted.path("f"), "x");
  const int fd = ::open(mounted.path("f").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_TRUE(mounted.mount().unmount());
  mounted.session().stop();
  EXPECT_TRUE(mounted.wait_for_end());
  // Nobody serves it any more: the kernel says so at once instead of waiting.
  char byte = 0;
  EXPECT_EQ(::pread(fd, &byte, 1, 4096), -1);
  ::close(fd);
}

TEST_F(MountTest, ParallelUsersOfOneMount) {
  Mounted mounted(fs_, {}, 4);
  ASSERT_EQ(mounted.error(), "");
  std::vector<std::jthread> users;
  for (int t = 0; t < 4; ++t)
    users.emplace_back([&mounted, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string path = mounted.path(std::to_string(t) + "-" + std::to_string(i));
        write_file(path, path);
        EXPECT_EQ(read_file(path), path);
        EXPECT_EQ(::unlink(path.c_str()), 0);
      }
    });
  users.clear();
  EXPECT_EQ(mounted.session().stats().lost_replies, 0U);
}

TEST_F(MountTest, NotificationsReachTheKernel) {
  fs_.set_timeout(1000);
  fs_.set_keep_cache(true);
  Mounted mounted(fs_);
  ASSERT_EQ(mounted.error(), "");
  write_file(mounted.path("f"), "before");
  EXPECT_EQ(read_file(mounted.path("f")), "before");
  const NodeId node = fs_.lookup({}, NodeId::kRoot, "f")->node;
  fs_.forget(node, 1);

  fs_.overwrite(node, "behind your back");
  EXPECT_EQ(read_file(mounted.path("f")), "before");
  EXPECT_TRUE(mounted.session().inval_data(node, 0, 0));
  EXPECT_EQ(read_file(mounted.path("f")), "behind your back");

  ASSERT_TRUE(fs_.unlink({}, NodeId::kRoot, "f"));
  EXPECT_EQ(::access(mounted.path("f").c_str(), F_OK), 0);
  EXPECT_TRUE(mounted.session().inval_entry(NodeId::kRoot, "f"));
  EXPECT_NE(::access(mounted.path("f").c_str(), F_OK), 0);

  EXPECT_TRUE(mounted.session().inval_attr(NodeId::kRoot));
  EXPECT_EQ(mounted.session().inval_attr(static_cast<NodeId>(12345)).error(), ENOENT);
  EXPECT_EQ(mounted.session().inval_entry(NodeId::kRoot, "never-seen").error(), ENOENT);
}

TEST_F(MountTest, DeleteNotificationRemovesTheName) {
  fs_.set_timeout(1000);
  Mounted mounted(fs_);
  ASSERT_EQ(mounted.error(), "");
  write_file(mounted.path("f"), "x");
  const NodeId node = fs_.lookup({}, NodeId::kRoot, "f")->node;
  fs_.forget(node, 1);
  ASSERT_TRUE(fs_.unlink({}, NodeId::kRoot, "f"));
  EXPECT_TRUE(mounted.session().delete_entry(NodeId::kRoot, node, "f"));
  EXPECT_NE(::access(mounted.path("f").c_str(), F_OK), 0);
}

// Serves one real file through the kernel, without READ ever reaching us.
class PassthroughFs final : public MemoryFs {
 public:
  explicit PassthroughFs(const std::string& backing) : backing_(::open(backing.c_str(), O_RDWR | O_CLOEXEC)) {}
  ~PassthroughFs() override { ::close(backing_); }
  Result<OpenReply> open(const Caller& caller, NodeId node, int flags, bool kill) override {
    auto reply = TRY(MemoryFs::open(caller, node, flags, kill));
    if (!connection().passthrough) return reply;
    if (backing_id_ == 0) backing_id_ = TRY(connection().notifier->open_backing(backing_));
    reply.backing_id = backing_id_;
    return reply;
  }
  Result<std::size_t> read(const Caller&, NodeId, HandleId, std::uint64_t, std::span<std::byte>) override {
    return fail(EIO);
  }
  std::int32_t backing_id_ = 0;

 private:
  int backing_;
};

TEST_F(MountTest, PassthroughReadsTheBackingFile) {
  const std::string backing = "/tmp/vellum-fuse-backing-" + std::to_string(::getpid());
  write_file(backing, "from the backing file");
  {
    PassthroughFs fs(backing);
    const auto made = fs.mknod({}, NodeId::kRoot, "f", S_IFREG | 0644, 0, 0);
    ASSERT_TRUE(fs.setattr({}, made->node, {.size = 21}));
    Mounted mounted(fs, {.wishes = {.passthrough = true}});
    ASSERT_EQ(mounted.error(), "");
    if (!fs.connection().passthrough) {
      std::filesystem::remove(backing);
      GTEST_SKIP() << "this kernel has no passthrough";
    }
    EXPECT_EQ(read_file(mounted.path("f")), "from the backing file");
    EXPECT_GT(fs.backing_id_, 0);
    EXPECT_EQ(mounted.session().stats().open_backing, 1U);
    EXPECT_TRUE(mounted.session().close_backing(fs.backing_id_));
  }
  std::filesystem::remove(backing);
}

TEST_F(MountTest, ErrorsNameThePlaceAndTheReason) {
  struct Case {
    std::string mountpoint;
    int error;
    const char* words;
  };
  const std::string file = "/tmp/vellum-fuse-file-" + std::to_string(::getpid());
  write_file(file, "");
  for (const Case& one : {Case{"/nowhere/at/all", ENOENT, "/nowhere/at/all"}, Case{file, ENOTDIR, "Not a directory"},
                          Case{"", ENOENT, "mountpoint"}}) {
    const auto made = mount({.mountpoint = one.mountpoint});
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().error, one.error);
    EXPECT_NE(made.error().message.find(one.words), std::string::npos) << made.error().message;
  }
  std::filesystem::remove(file);
}

TEST_F(MountTest, DestructorUnmounts) {
  char name[] = "/tmp/vellum-fuse-test-XXXXXX";
  const std::string directory = ::mkdtemp(name);
  {
    const auto made = mount({.mountpoint = directory, .subtype = "vellumtest"});
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_NE(mounts().find(directory), std::string::npos);
  }
  EXPECT_EQ(mounts().find(directory), std::string::npos);
  EXPECT_EQ(::rmdir(directory.c_str()), 0);
}

}  // namespace
}  // namespace vellum::fuse
