// Long reads and writes that take the way through a pipe, on a real mount.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "sys/file.h"
#include "unit/fuse/memory_fs.h"
#include "unit/fuse/mounted.h"

namespace vellum::fuse {
namespace {

using testing::MemoryFs;
using testing::Mounted;
using testing::mounts_available;

// A MemoryFs that hands out files: copies of its own contents.
class FileFs final : public MemoryFs {
 public:
  enum class Mode { kMove, kRefuse, kWrongFile };
  std::atomic<Mode> mode{Mode::kMove};
  std::atomic<std::size_t> moved_out{0}, moved_in{0}, read_calls{0}, written{0};
  std::atomic<std::size_t> capacity{SIZE_MAX};  // no file takes bytes from there on

  Result<std::size_t> read(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                           std::span<std::byte> out) override {
    ++read_calls;
    return MemoryFs::read(caller, node, handle, offset, out);
  }
  Result<std::size_t> write(const Caller& caller, NodeId node, HandleId handle, std::uint64_t offset,
                            std::span<const std::byte> bytes, bool kill) override {
    const std::size_t room = room_at(offset);
    if (room == 0) return fail(ENOSPC);
    bytes = bytes.first(std::min(bytes.size(), room));
    written += bytes.size();
    return MemoryFs::write(caller, node, handle, offset, bytes, kill);
  }
  Result<std::size_t> move_out(NodeId node, HandleId, std::uint64_t offset, FileMover& mover) override {
    if (mode == Mode::kRefuse) return fail(EOPNOTSUPP);
    if (mode == Mode::kWrongFile) return mover.move(sys::UniqueFd(::open("/", O_RDONLY | O_CLOEXEC)), offset);
    const sys::UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
    const std::string bytes = content(node);
    TRY(sys::pwrite(file, std::as_bytes(std::span(bytes)), 0));
    const std::size_t moved = TRY(mover.move(file, offset));
    moved_out += moved;
    return moved;
  }
  Result<std::size_t> move_in(NodeId node, HandleId handle, std::uint64_t offset, FileMover& mover) override {
    if (mode == Mode::kRefuse) return fail(EOPNOTSUPP);
    if (mode == Mode::kWrongFile) return mover.move(sys::UniqueFd(::open("/", O_RDONLY | O_CLOEXEC)), offset);
    const sys::UniqueFd file(::memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (capacity != SIZE_MAX) {
      TRY(sys::truncate(file, room_at(offset)));
      if (::fcntl(file.raw(), F_ADD_SEALS, F_SEAL_GROW) != 0) return fail(EIO);
    }
    const std::size_t moved = TRY(mover.move(file, 0));
    std::string bytes(moved, '\0');
    TRY(sys::pread(file, std::as_writable_bytes(std::span(bytes)), 0));
    moved_in += moved;
    return MemoryFs::write({}, node, handle, offset, std::as_bytes(std::span(bytes)), false);
  }

 private:
  std::size_t room_at(std::uint64_t offset) const { return capacity > offset ? capacity - offset : 0; }
};

class SpliceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!mounts_available()) GTEST_SKIP() << "needs root and /dev/fuse";
    content_.resize((3 << 20) + 12345);
    std::uint32_t state = 1;
    std::ranges::generate(content_, [&] { return static_cast<char>((state = state * 1664525 + 1013904223) >> 24); });
  }
  // One thread: the same pipe takes everything.
  void mount(bool splice = true, bool writeback = false) {
    Wishes wishes;
    wishes.splice = splice;
    wishes.io_uring = false;
    wishes.writeback_cache = writeback;
    if (writeback) wishes.passthrough = false;
    mounted_.emplace(fs_, SessionOptions{.wishes = wishes}, 1);
    ASSERT_EQ(mounted_->error(), "");
  }
  void put(const std::string& name, std::string_view content) {
    const sys::UniqueFd file(::open(mounted_->path(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    ASSERT_TRUE(file);
    for (std::size_t at = 0; at < content.size();) {
      const ssize_t n = ::write(file.raw(), content.data() + at, content.size() - at);
      ASSERT_GT(n, 0);
      at += static_cast<std::size_t>(n);
    }
  }
  std::string get(const std::string& name) {
    const sys::UniqueFd file(::open(mounted_->path(name).c_str(), O_RDONLY | O_CLOEXEC));
    std::string bytes(content_.size() + 1, '\0');
    bytes.resize(sys::pread(file, std::as_writable_bytes(std::span(bytes)), 0).value_or(0));
    return bytes;
  }
  // Not EXPECT_EQ, which would print megabytes.
  void expect_round_trip() {
    put("f", content_);
    EXPECT_TRUE(get("f") == content_);
  }

  std::string content_;
  FileFs fs_;
  std::optional<Mounted> mounted_;
};

TEST_F(SpliceTest, LongReadsAndWritesGoThroughThePipe) {
  mount();
  expect_round_trip();
  // The first long WRITE comes the usual way and announces the others.
  EXPECT_GT(fs_.moved_in, content_.size() / 2);
  EXPECT_GT(fs_.moved_out, content_.size() / 2);
  const SessionStats stats = mounted_->session().stats();
  EXPECT_EQ(stats.bytes_written, content_.size());
  EXPECT_EQ(stats.bytes_read, content_.size());
  EXPECT_EQ(stats.malformed, 0U);
}

TEST_F(SpliceTest, SwitchedOffNothingDoes) {
  mount(false);
  expect_round_trip();
  EXPECT_EQ(fs_.moved_in + fs_.moved_out, 0U);
}

TEST_F(SpliceTest, FileSystemThatHasNoFilesIsServedAsUsual) {
  mount();
  fs_.mode = FileFs::Mode::kRefuse;
  expect_round_trip();
  EXPECT_EQ(fs_.written, content_.size());
}

TEST_F(SpliceTest, FileThatCannotBeSplicedIsReadAndWritten) {
  mount();
  fs_.mode = FileFs::Mode::kWrongFile;
  expect_round_trip();
  EXPECT_EQ(fs_.written, content_.size());
  EXPECT_GT(fs_.read_calls, 0U);
}

// What the kernel's cache holds nobody writes a second time: a part of it taken is an error.
TEST_F(SpliceTest, FullDiskIsToldToWhoeverWroteThroughTheCache) {
  for (const bool splice : {true, false}) {
    mount(splice, true);
    sys::UniqueFd file(::open(mounted_->path("f").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    // The last message is a long one, of which all but the end finds room.
    content_.resize((3 << 20) + (300 << 10));
    fs_.capacity = content_.size() - 50'000;
    ASSERT_EQ(sys::pwrite(file, std::as_bytes(std::span(content_)), 0).value_or(0), content_.size());
    EXPECT_EQ(::fsync(file.raw()), -1) << splice;
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_EQ(fs_.moved_in > 0, splice);
    fs_.moved_in = 0;
    file.reset();
    EXPECT_TRUE(mounted_->finish());
    mounted_.reset();
    fs_.capacity = SIZE_MAX;
  }
}

TEST_F(SpliceTest, EveryLengthComesBack) {
  mount();
  for (const std::size_t size : {1U, 4096U, 65535U, 65536U, 65537U, 131072U, 131073U, 524288U, 524289U, 1048576U}) {
    put("f", std::string_view(content_).substr(0, size));
    EXPECT_TRUE(get("f") == content_.substr(0, size)) << size;
    const sys::UniqueFd direct(::open(mounted_->path("f").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    std::string bytes(size + 100, '\0');
    bytes.resize(sys::pread(direct, std::as_writable_bytes(std::span(bytes)), 0).value_or(0));
    EXPECT_TRUE(bytes == content_.substr(0, size)) << size;
  }
}

TEST_F(SpliceTest, UnalignedDirectWritesComeBack) {
  mount();
  put("f", content_);
  const sys::UniqueFd direct(::open(mounted_->path("f").c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
  for (const std::size_t at : {std::size_t{1}, std::size_t{700'000}, std::size_t{1'000'003}}) {
    std::string piece(1'200'001, static_cast<char>('A' + at % 20));
    const auto bytes = std::as_bytes(std::span(piece)).subspan(3);  // not on a page either
    ASSERT_EQ(sys::pwrite(direct, bytes, at).value_or(0), bytes.size());
    content_.replace(at, bytes.size(), piece, 3);
  }
  EXPECT_TRUE(get("f") == content_);
}

TEST_F(SpliceTest, OtherRequestsBetweenLongWrites) {
  mount();
  const std::string value(60'000, 'x'), target(3000, 't');
  for (int round = 0; round < 5; ++round) {
    const std::string name = "f" + std::to_string(round), dir = mounted_->path("d" + std::to_string(round));
    put(name, content_);
    EXPECT_EQ(::mkdir(dir.c_str(), 0755), 0);
    put(name, content_);
    EXPECT_EQ(::setxattr(mounted_->path(name).c_str(), "user.long", value.data(), value.size(), 0), 0);
    put(name, content_);
    EXPECT_EQ(::symlink(target.c_str(), mounted_->path("l" + std::to_string(round)).c_str()), 0);
    put(name, "short");
    EXPECT_EQ(get(name), "short");
    std::string got(value.size() + 1, '\0');
    const ssize_t length = ::getxattr(mounted_->path(name).c_str(), "user.long", got.data(), got.size());
    ASSERT_EQ(length, static_cast<ssize_t>(value.size()));
    got.resize(value.size());
    EXPECT_TRUE(got == value);
  }
  EXPECT_EQ(mounted_->session().stats().malformed, 0U);
}

TEST_F(SpliceTest, StopsWhileItWaitsForData) {
  mount();
  put("f", content_);
  mounted_->session().stop();
  EXPECT_TRUE(mounted_->finish());
}

}  // namespace
}  // namespace vellum::fuse
