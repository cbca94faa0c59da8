// Reading, writing, mapping, locking.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <stdexcept>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

// FALLOC_FL_* of <linux/falloc.h>, which <fcntl.h> has under _GNU_SOURCE.
enum class From { kLower, kUpper };
class EveryLayerIo : public ::testing::TestWithParam<From> {
 protected:
  static OverlaySpec with(Tree tree) {
    if (GetParam() == From::kLower) return {.lower = std::move(tree)};
    return {.lower = {{"other", File{}}}, .upper = std::move(tree)};
  }
};
INSTANTIATE_TEST_SUITE_P(FileIo, EveryLayerIo, ::testing::Values(From::kLower, From::kUpper),
                         [](const auto& param) { return param.param == From::kLower ? "Lower" : "Upper"; });

std::string pattern(std::size_t size) {
  std::string text;
  for (int i = 0; text.size() < size; ++i) text += std::to_string(i) + ",";
  text.resize(size);
  return text;
}

TEST_P(EveryLayerIo, ReadsAtEveryOffset) {
  std::string content = pattern(300'000);
  OverlayFixture fs(with({{"f", File{content}}}));
  Fd fd(fs / "f", O_RDONLY);
  for (off_t offset : {0, 1, 4095, 4096, 4097, 131'071, 131'072, 299'999}) {
    std::string got(5000, '\0');
    ssize_t size = ::pread(fd, got.data(), got.size(), offset);
    ASSERT_GE(size, 0);
    got.resize(static_cast<std::size_t>(size));
    EXPECT_EQ(got == content.substr(static_cast<std::size_t>(offset), 5000), true) << offset;
  }
  char byte = 0;
  EXPECT_EQ(::pread(fd, &byte, 1, 300'000), 0);
}

TEST_P(EveryLayerIo, OverwritesInTheMiddle) {
  std::string content = pattern(300'000);
  OverlayFixture fs(with({{"f", File{content}}}));
  {
    Fd fd(fs / "f", O_RDWR);
    EXPECT_EQ(::pwrite(fd, "XYZ", 3, 131'071), 3);
    EXPECT_EQ(::pwrite(fd, "END", 3, 400'000), 3);
  }
  content.replace(131'071, 3, "XYZ");
  content.resize(400'000);
  content += "END";
  EXPECT_EQ(read_file(fs / "f") == content, true);
  EXPECT_EQ(read_file(fs.upper("f")) == content, true);
}

TEST_P(EveryLayerIo, OffsetsBeyond4GiB) {
  OverlayFixture fs(with({{"f", File{"start"}}}));
  constexpr off_t kFar = (off_t{5} << 30) + 7;
  Fd fd(fs / "f", O_RDWR);
  EXPECT_EQ(::pwrite(fd, "far", 3, kFar), 3);
  EXPECT_EQ(fstat_of(fd).st_size, kFar + 3);
  std::string got(3, '\0');
  EXPECT_EQ(::pread(fd, got.data(), 3, kFar), 3);
  EXPECT_EQ(got, "far");
}

TEST_P(EveryLayerIo, AppendsFromTwoProcessesLoseNothing) {
  OverlayFixture fs(with({{"log", File{""}}}));
  constexpr int kRecords = 300, kSize = 4096;
  std::vector<pid_t> writers;
  for (char letter : {'a', 'b'}) {
    pid_t child = ::fork();
    if (child == 0) {
      std::string record(kSize, letter);
      int fd = ::open((fs / "log").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
      for (int i = 0; i < kRecords; ++i) {
        if (::write(fd, record.data(), record.size()) != kSize) std::_Exit(1);
      }
      std::_Exit(0);
    }
    writers.push_back(child);
  }
  for (pid_t writer : writers) EXPECT_EQ(wait_for_end(writer), 0);
  std::string all = read_file(fs / "log");
  ASSERT_EQ(all.size(), 2u * kRecords * kSize);
  int records_of_a = 0;
  for (std::size_t at = 0; at < all.size(); at += kSize) {
    ASSERT_EQ(all.compare(at, kSize, std::string(kSize, all[at])), 0) << "torn record at " << at;
    records_of_a += all[at] == 'a' ? 1 : 0;
  }
  EXPECT_EQ(records_of_a, kRecords);
}

TEST_P(EveryLayerIo, FallocateGrowsAndKeepsSize) {
  OverlayFixture fs(with({{"f", File{"abc"}}}));
  Fd fd(fs / "f", O_RDWR);
  EXPECT_OK(::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 16));
  EXPECT_EQ(fstat_of(fd).st_size, 3);
  EXPECT_GE(fstat_of(fd).st_blocks * 512, 1 << 16);
  EXPECT_OK(::fallocate(fd, 0, 0, 1 << 17));
  EXPECT_EQ(fstat_of(fd).st_size, 1 << 17);
  EXPECT_EQ(read_fd(fd).substr(0, 4), std::string("abc\0", 4));
}

TEST_P(EveryLayerIo, FallocatePunchesHoles) {
  OverlayFixture fs(with({{"f", File{pattern(1 << 16)}}}));
  Fd fd(fs / "f", O_RDWR);
  EXPECT_EQ(read_fd(fd).substr(4096, 1) == std::string(1, '\0'), false);  // in the cache before
  EXPECT_OK(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
  EXPECT_EQ(read_fd(fd).substr(4096, 8192) == std::string(8192, '\0'), true);
  EXPECT_EQ(fstat_of(fd).st_size, 1 << 16);
}

TEST(FileIo, FallocateZeroesARange) {
  OverlayFixture fs({.lower = {{"f", File{pattern(1 << 16)}}}, .upper_on = Store::kExt4});
  Fd fd(fs / "f", O_RDWR);
  EXPECT_OK(::fallocate(fd, FALLOC_FL_ZERO_RANGE, 100, 5000));
  EXPECT_EQ(read_fd(fd).substr(100, 5000) == std::string(5000, '\0'), true);
}

TEST(FileIo, FallocateCollapsesAndInserts) {
  OverlayFixture fs({.lower = {{"f", File{pattern(1 << 16)}}}, .upper_on = Store::kExt4});
  Fd fd(fs / "f", O_RDWR);
  NOT_ON(kAnyVellum | kPeer, "the kernel's FUSE refuses FALLOC_FL_COLLAPSE_RANGE and _INSERT_RANGE (EOPNOTSUPP)");
  EXPECT_OK(::fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 4096, 4096));
  EXPECT_EQ(fstat_of(fd).st_size, (1 << 16) - 4096);
  EXPECT_OK(::fallocate(fd, FALLOC_FL_INSERT_RANGE, 4096, 4096));
  EXPECT_EQ(fstat_of(fd).st_size, 1 << 16);
}

TEST(FileIo, FallocateModeThatTheUpperLacksIsEopnotsupp) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}, .upper_on = Store::kTmpfs});
  Fd fd(fs / "f", O_RDWR);
  EXPECT_ERRNO(::fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
}

TEST_P(EveryLayerIo, SeekDataAndHole) {
  OverlayFixture fs(with({{"f", File{""}}}));
  fs.unmount();
  std::string real = GetParam() == From::kLower ? fs.lower("f") : fs.upper("f");
  {
    Fd fd(real, O_WRONLY);
    EXPECT_EQ(::pwrite(fd, "data", 4, 1 << 22), 4);
    EXPECT_OK(::ftruncate(fd, 1 << 23));
  }
  off_t data = 0, hole = 0;
  {
    Fd fd(real, O_RDONLY);
    data = ::lseek(fd, 0, SEEK_DATA);
    hole = ::lseek(fd, data, SEEK_HOLE);
  }
  fs.mount();
  Fd fd(fs / "f", O_RDONLY);
  EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE), 0);
  EXPECT_EQ(::lseek(fd, 0, SEEK_DATA), data);
  EXPECT_EQ(::lseek(fd, data, SEEK_HOLE), hole);
  EXPECT_ERRNO(::lseek(fd, hole, SEEK_DATA), ENXIO);
  for (const off_t outside : {off_t{1} << 23, off_t{-1}}) {
    EXPECT_ERRNO(::lseek(fd, outside, SEEK_HOLE), ENXIO);
    EXPECT_ERRNO(::lseek(fd, outside, SEEK_DATA), ENXIO);
  }
  EXPECT_EQ(::lseek(fd, -10, SEEK_END), (1 << 23) - 10);
}

TEST(FileIo, CopyFileRangeFromLowerToUpper) {
  std::string content = pattern(100'000);
  if (default_upper_store() != Store::kTmpfs)
    NOT_ON(kAnyKernel, "kernel overlayfs gives EXDEV between layers' devices");
  OverlayFixture fs({.lower = {{"src", File{content}}}});
  Fd src(fs / "src", O_RDONLY);
  Fd dst(fs / "dst", O_RDWR | O_CREAT, 0644);
  off_t in = 10, out = 5;
  std::size_t left = 90'000;
  while (left > 0) {
    ssize_t copied = ::copy_file_range(src, &in, dst, &out, left, 0);
    ASSERT_GT(copied, 0) << errno_name(errno);
    left -= static_cast<std::size_t>(copied);
  }
  EXPECT_EQ(read_fd(dst).substr(5) == content.substr(10, 90'000), true);
  EXPECT_EQ(fstat_of(dst).st_size, 90'005);
  EXPECT_FALSE(exists(fs.upper("src")));
}

TEST(FileIo, CopyFileRangeWithinAFileThatWasJustWritten) {
  OverlayFixture fs({.lower = {{"f", File{pattern(8192)}}}});
  Fd fd(fs / "f", O_RDWR);
  EXPECT_EQ(::pwrite(fd, "fresh", 5, 0), 5);
  off_t in = 0, out = 20'000;
  EXPECT_EQ(::copy_file_range(fd, &in, fd, &out, 5, 0), 5);
  EXPECT_EQ(read_fd(fd).substr(20'000), "fresh");
}

TEST(FileIo, SendfileAndSplice) {
  std::string content = pattern(200'000);
  OverlayFixture fs({.lower = {{"src", File{content}}}});
  {
    Fd src(fs / "src", O_RDONLY);
    Fd dst(fs / "dst", O_WRONLY | O_CREAT, 0644);
    off_t at = 0;
    while (at < 200'000) ASSERT_GT(::sendfile(dst, src, &at, 200'000), 0);
  }
  EXPECT_EQ(read_file(fs / "dst") == content, true);
}

TEST(FileIo, FsyncOfFilesDirectoriesAndTheFileSystem) {
  OverlayFixture fs({.lower = {{"d/f", File{"x"}}, {"g", File{"x"}}}});
  Fd file(fs / "d/f", O_RDWR);
  EXPECT_EQ(::write(file, "y", 1), 1);
  EXPECT_OK(::fsync(file));
  EXPECT_OK(::fdatasync(file));
  EXPECT_OK(::syncfs(file));
  Fd lower(fs / "g", O_RDONLY);
  EXPECT_OK(::fsync(lower));
  Fd dir(fs / "d", O_RDONLY | O_DIRECTORY);
  EXPECT_OK(::fsync(dir));
  Fd root(fs.root(), O_RDONLY | O_DIRECTORY);
  EXPECT_OK(::syncfs(root));
}

TEST_P(EveryLayerIo, FlockExcludesAnotherOpen) {
  OverlayFixture fs(with({{"f", File{"x"}}}));
  Fd one(fs / "f", O_RDONLY), two(fs / "f", O_RDONLY);
  EXPECT_OK(::flock(one, LOCK_EX | LOCK_NB));
  EXPECT_ERRNO(::flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  EXPECT_ERRNO(::flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
  EXPECT_OK(::flock(one, LOCK_UN));
  EXPECT_OK(::flock(two, LOCK_EX | LOCK_NB));
}

TEST_P(EveryLayerIo, FcntlLocksExcludeAnotherProcess) {
  OverlayFixture fs(with({{"f", File{"0123456789"}}}));
  Fd fd(fs / "f", O_RDWR);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 2;
  lock.l_len = 3;
  EXPECT_OK(::fcntl(fd, F_SETLK, &lock));
  pid_t child = ::fork();
  if (child == 0) {
    int other = ::open((fs / "f").c_str(), O_RDWR | O_CLOEXEC);
    struct flock want {};
    want.l_type = F_WRLCK;
    want.l_whence = SEEK_SET;
    want.l_start = 4;
    want.l_len = 1;
    if (::fcntl(other, F_SETLK, &want) == 0) std::_Exit(1);
    if (errno != EAGAIN && errno != EACCES) std::_Exit(2);
    want.l_start = 5;
    if (::fcntl(other, F_SETLK, &want) != 0) std::_Exit(3);
    want.l_start = 3;
    if (::fcntl(other, F_GETLK, &want) != 0 || want.l_type != F_WRLCK || want.l_start != 2) std::_Exit(4);
    std::_Exit(0);
  }
  EXPECT_EQ(wait_for_end(child), 0);
}

TEST_P(EveryLayerIo, OfdLocksExcludeAnotherOpen) {
  OverlayFixture fs(with({{"f", File{"0123456789"}}}));
  Fd one(fs / "f", O_RDWR), two(fs / "f", O_RDWR);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  EXPECT_OK(::fcntl(one, F_OFD_SETLK, &lock));
  EXPECT_ERRNO(::fcntl(two, F_OFD_SETLK, &lock), EAGAIN);
}

class Mapping {
 public:
  Mapping(int fd, std::size_t size, int protection, int flags)
      : size_(size), address_(::mmap(nullptr, size, protection, flags, fd, 0)) {
    if (address_ == MAP_FAILED) throw std::runtime_error("mmap: " + errno_name(errno));
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(address_, size_); }
  char* bytes() { return static_cast<char*>(address_); }
  void* address() { return address_; }

 private:
  std::size_t size_;
  void* address_;
};

TEST_P(EveryLayerIo, PrivateMappingReadsTheFile) {
  std::string content = pattern(100'000);
  OverlayFixture fs(with({{"f", File{content}}}));
  Fd fd(fs / "f", O_RDONLY);
  Mapping map(fd, content.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE);
  EXPECT_EQ(std::memcmp(map.bytes(), content.data(), content.size()), 0);
  map.bytes()[0] = 'P';
  EXPECT_EQ(read_file(fs / "f") == content, true);
}

TEST_P(EveryLayerIo, SharedMappingWritesTheFile) {
  std::string content = pattern(100'000);
  OverlayFixture fs(with({{"f", File{content}}}));
  {
    Fd fd(fs / "f", O_RDWR);
    Mapping map(fd, content.size(), PROT_READ | PROT_WRITE, MAP_SHARED);
    map.bytes()[50'000] = '#';
    EXPECT_OK(::msync(map.address(), content.size(), MS_SYNC));
  }
  content[50'000] = '#';
  EXPECT_EQ(read_file(fs / "f") == content, true);
  EXPECT_EQ(read_file(fs.upper("f")) == content, true);
}

TEST_P(EveryLayerIo, SharedMappingsOfTwoProcessesAreCoherent) {
  OverlayFixture fs(with({{"f", File{std::string(8192, '0')}}}));
  Fd fd(fs / "f", O_RDWR);
  Mapping map(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
  pid_t child = ::fork();
  if (child == 0) {
    int other = ::open((fs / "f").c_str(), O_RDWR | O_CLOEXEC);
    void* mine = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
    if (mine == MAP_FAILED) std::_Exit(1);
    std::memset(static_cast<char*>(mine) + 4000, 'c', 200);
    std::_Exit(0);
  }
  EXPECT_EQ(wait_for_end(child), 0);
  EXPECT_EQ(std::string(map.bytes() + 4000, 200), std::string(200, 'c'));
  std::string got(200, '\0');
  EXPECT_EQ(::pread(fd, got.data(), 200, 4000), 200);
  EXPECT_EQ(got, std::string(200, 'c'));
}

TEST_P(EveryLayerIo, WritesShowInAMapping) {
  OverlayFixture fs(with({{"f", File{std::string(8192, '0')}}}));
  Fd fd(fs / "f", O_RDWR);
  Mapping map(fd, 8192, PROT_READ, MAP_SHARED);
  EXPECT_EQ(map.bytes()[100], '0');
  EXPECT_EQ(::pwrite(fd, "w", 1, 100), 1);
  EXPECT_EQ(map.bytes()[100], 'w');
}

TEST(FileIo, PrivateMappingOfALowerFileOutlivesItsCopyUp) {
  std::string content = pattern(100'000);
  OverlayFixture fs({.lower = {{"f", File{content}}}});
  Fd fd(fs / "f", O_RDONLY);
  Mapping map(fd, content.size(), PROT_READ, MAP_PRIVATE);
  EXPECT_EQ(map.bytes()[0], content[0]);
  EXPECT_OK(write_file(fs / "f", std::string(100'000, 'n')));
  // Old or new bytes, but bytes.
  char late = map.bytes()[90'000];
  EXPECT_TRUE(late == content[90'000] || late == 'n');
  EXPECT_EQ(read_file(fs / "f") == std::string(100'000, 'n'), true);
}

TEST_P(EveryLayerIo, DirectIo) {
  OverlayFixture fs(with({{"f", File{pattern(65'536)}}}));
  std::string content = pattern(65'536);
  std::unique_ptr<void, void (*)(void*)> block(std::aligned_alloc(4096, 8192), std::free);
  Fd fd(fs / "f", O_RDWR | O_DIRECT);
  EXPECT_EQ(::pread(fd, block.get(), 8192, 4096), 8192);
  EXPECT_EQ(std::memcmp(block.get(), content.data() + 4096, 8192), 0);
  std::memset(block.get(), 'd', 8192);
  EXPECT_EQ(::pwrite(fd, block.get(), 8192, 8192), 8192);
  EXPECT_EQ(read_file(fs / "f").substr(8192, 8192) == std::string(8192, 'd'), true);
  EXPECT_EQ(read_file(fs.upper("f")).substr(8192, 8192) == std::string(8192, 'd'), true);
}

TEST_P(EveryLayerIo, CachedAndDirectReadersAgree) {
  OverlayFixture fs(with({{"f", File{pattern(65'536)}}}));
  Fd cached(fs / "f", O_RDWR), direct(fs / "f", O_RDONLY | O_DIRECT);
  EXPECT_EQ(::pwrite(cached, "cached", 6, 4096), 6);
  std::unique_ptr<void, void (*)(void*)> block(std::aligned_alloc(4096, 4096), std::free);
  EXPECT_EQ(::pread(direct, block.get(), 4096, 4096), 4096);
  EXPECT_EQ(std::memcmp(block.get(), "cached", 6), 0);
}

TEST_P(EveryLayerIo, StatxKnowsBirthTime) {
  OverlayFixture fs(with({{"f", File{"x"}}}));
  struct statx merged {};
  struct statx real {};
  std::string path = GetParam() == From::kLower ? fs.lower("f") : fs.upper("f");
  ASSERT_OK(::statx(AT_FDCWD, path.c_str(), 0, STATX_BTIME | STATX_BASIC_STATS, &real));
  ASSERT_OK(::statx(AT_FDCWD, (fs / "f").c_str(), 0, STATX_BTIME | STATX_BASIC_STATS, &merged));
  ASSERT_NE(real.stx_mask & STATX_BTIME, 0u);
  NOT_ON(kPeer, "the peer's libfuse knows no statx");
  EXPECT_NE(merged.stx_mask & STATX_BTIME, 0u);
  EXPECT_EQ(merged.stx_btime.tv_sec, real.stx_btime.tv_sec);
  EXPECT_EQ(merged.stx_btime.tv_nsec, real.stx_btime.tv_nsec);
}

TEST_P(EveryLayerIo, InodeFlagsAndGenerationAreThoseOfTheRealFile) {
  OverlaySpec spec = with({{"f", File{"x"}}});
  spec.lower_on = spec.upper_on = Store::kExt4;
  OverlayFixture fs(spec);
  std::string path = GetParam() == From::kLower ? fs.lower("f") : fs.upper("f");
  Fd merged(fs / "f", O_RDONLY), real(path, O_RDONLY);
  int merged_flags = -1, real_flags = -2;
  EXPECT_OK(::ioctl(merged, FS_IOC_GETFLAGS, &merged_flags));
  EXPECT_OK(::ioctl(real, FS_IOC_GETFLAGS, &real_flags));
  EXPECT_EQ(merged_flags, real_flags);
  NOT_ON(kAnyKernel, "kernel overlayfs passes no FS_IOC_GETVERSION");
  long merged_version = -1, real_version = -2;
  EXPECT_OK(::ioctl(real, FS_IOC_GETVERSION, &real_version));
  EXPECT_OK(::ioctl(merged, FS_IOC_GETVERSION, &merged_version));
  EXPECT_EQ(static_cast<int>(merged_version), static_cast<int>(real_version));
}

TEST(FileIo, UnknownIoctlIsEnotty) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  Fd fd(fs / "f", O_RDONLY);
  long argument = 0;
  EXPECT_ERRNO(::ioctl(fd, _IOR('v', 99, long), &argument), ENOTTY);
}

TEST_P(EveryLayerIo, ProgramsAndScriptsRun) {
  OverlayFixture fs(with({{"script", File{"#!/bin/sh\necho ran\n", 0755}}}));
  EXPECT_EQ(run("'" + (fs / "script") + "'").output, "ran\n");
  EXPECT_EQ(run("cp /bin/true '" + (fs / "true") + "' && '" + (fs / "true") + "'").status, 0);
}

TEST_P(EveryLayerIo, WritingARunningProgramIsEtxtbsyOrHarmless) {
  OverlayFixture fs(with({{"d", Dir{}}}));
  fs.unmount();
  std::string real = GetParam() == From::kLower ? fs.lower("d/sleep") : fs.upper("d/sleep");
  ASSERT_EQ(run("cp /bin/sleep '" + real + "'").status, 0);
  fs.mount();
  std::string program = fs / "d/sleep";
  pid_t child = ::fork();
  if (child == 0) {
    ::execl(program.c_str(), "sleep", "1000", nullptr);
    std::_Exit(127);
  }
  // It runs when its /proc/PID/exe is the program.
  std::string exe = "/proc/" + std::to_string(child) + "/exe";
  while (!link_target(exe).ends_with("d/sleep")) ::usleep(1000);
  int error = open_errno(program, O_WRONLY);
  EXPECT_TRUE(error == ETXTBSY || error == 0) << errno_name(error);
  if (error == 0) {
    EXPECT_OK(append_file(program, "more"));
  }
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), 0) << "the program ended by itself";
  ::kill(child, SIGTERM);
  EXPECT_EQ(wait_for_end(child), 128 + SIGTERM);
}

TEST_P(EveryLayerIo, ReopenedThroughProcForWriting) {
  OverlayFixture fs(with({{"f", File{"old"}}}));
  Fd path(fs / "f", O_PATH);
  std::string through = "/proc/self/fd/" + std::to_string(static_cast<int>(path));
  EXPECT_OK(append_file(through, "+new"));
  EXPECT_EQ(read_file(fs / "f"), "old+new");
  EXPECT_EQ(read_file(through), "old+new");
}

TEST_P(EveryLayerIo, AccessTellsWhatOpenWouldDo) {
  OverlayFixture fs(with({{"r", File{"x", 0444}}, {"x", File{"x", 0755}}, {"n", File{"x", 0644}}}));
  EXPECT_OK(::access((fs / "r").c_str(), R_OK));
  EXPECT_OK(::access((fs / "x").c_str(), X_OK));
  EXPECT_ERRNO(::access((fs / "n").c_str(), X_OK), EACCES);
  EXPECT_ERRNO(::access((fs / "none").c_str(), F_OK), ENOENT);
  if (on(kVellumUser)) {
    EXPECT_ERRNO(::access((fs / "r").c_str(), W_OK), EACCES);
  }
}

TEST(FileIo, ManyDescriptorsOfOneFileShareItsContent) {
  OverlayFixture fs({.lower = {{"f", File{"0"}}}});
  std::vector<Fd> readers;
  for (int i = 0; i < 100; ++i) readers.emplace_back(fs / "f", O_RDONLY);
  Fd writer(fs / "f", O_RDWR | O_APPEND);
  EXPECT_EQ(::write(writer, "1", 1), 1);
  Fd late(fs / "f", O_RDONLY);
  EXPECT_EQ(read_fd(late), "01");
  EXPECT_EQ(read_fd(writer), "01");
}

}  // namespace
}  // namespace vellum::test
