#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ground.h"
#include "mounts.h"
#include "parameters.h"
#include "tree.h"

namespace vellum::random_test {
namespace {

constexpr std::size_t kLargest = 256 * 1024;
constexpr std::size_t kPage = 4096;

// One file of the mount, and what it must hold. Every step changes both and compares what it touched.
class FileUnderTest {
 public:
  FileUnderTest(Backend backend, Random& random) : backend_(backend), random_(random) {
    Tree lower;
    lower["file"].data = content(200'000);
    lower["source"].data = content(100'000);
    // A hole in the lower file, so that copy-up meets one.
    std::fill_n(lower["file"].data.begin() + 40'960, 81'920, '\0');
    model_ = lower["file"].data;
    source_ = lower["source"].data;
    const std::vector<Tree> trees = {lower};
    layers_ = write_layers({.trees = trees}, ground_);
    mount();
  }
  FileUnderTest(const FileUnderTest&) = delete;
  FileUnderTest& operator=(const FileUnderTest&) = delete;
  ~FileUnderTest() { close_all(); }

  const std::string& failure() const { return failure_; }
  std::string story() const { return fmt::format("    {}", fmt::join(story_, "\n    ")); }

  void step() {
    static constexpr std::array kSteps = {
        &FileUnderTest::read,          &FileUnderTest::read,         &FileUnderTest::write,
        &FileUnderTest::write,         &FileUnderTest::write,        &FileUnderTest::append,
        &FileUnderTest::mapped_read,   &FileUnderTest::mapped_write, &FileUnderTest::truncate,
        &FileUnderTest::truncate_path, &FileUnderTest::allocate,     &FileUnderTest::punch,
        &FileUnderTest::copy_range,    &FileUnderTest::seek_data,    &FileUnderTest::reopen,
        &FileUnderTest::sync,          &FileUnderTest::check_all,
    };
    if (chance(random_, 1)) return remount();
    (this->*pick(random_, kSteps))();
  }

  void check_all() {
    say("check all");
    const int fd = ::open(path().c_str(), O_RDONLY | O_CLOEXEC);
    std::string data(kLargest * 2, '\0');
    const ssize_t got = ::pread(fd, data.data(), data.size(), 0);
    ::close(fd);
    data.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    compare("the whole file", model_, data);
    struct stat st;
    if (::stat(path().c_str(), &st) != 0 || static_cast<std::size_t>(st.st_size) != model_.size())
      fail(fmt::format("stat says size {}, expected {}", st.st_size, model_.size()));
  }

 private:
  std::string path() const { return ground_.mountpoint() + "/file"; }

  std::string content(std::size_t size) {
    std::string data(size, '\0');
    for (std::size_t at = 0; at < size; at += 8) {
      const std::uint64_t word = random_();
      std::memcpy(data.data() + at, &word, std::min<std::size_t>(8, size - at));
    }
    return data;
  }

  void say(const std::string& text) { story_.push_back(text); }
  void fail(const std::string& text) {
    if (failure_.empty()) failure_ = text;
  }
  void fail_errno(const std::string& what) { fail(fmt::format("{}: {}", what, std::strerror(errno))); }

  void compare(const std::string& what, std::string_view expected, std::string_view got) {
    if (expected == got) return;
    const auto at = std::mismatch(expected.begin(), expected.end(), got.begin(), got.end()).first - expected.begin();
    fail(fmt::format("{}: {} bytes, expected {}; first difference at {}", what, got.size(), expected.size(), at));
  }

  void mount() {
    mount_ = std::make_unique<Mount>(backend_, layers_, ground_.mountpoint());
    if (!mount_->failure().empty()) return fail(mount_->failure());
    open();
  }

  void open() {
    for (int& fd : fds_) {
      // Not O_RDONLY alone: kernel overlayfs keeps such a file on the lower layer after copy-up.
      fd = ::open(path().c_str(), O_RDWR | O_CLOEXEC);
      if (fd < 0) fail_errno("open");
    }
  }

  void close_all() {
    for (int& fd : fds_) ::close(std::exchange(fd, -1));
  }

  int fd() { return fds_[below(random_, fds_.size())]; }

  struct Range {
    std::size_t offset, length;
  };
  // Within the largest size; mostly unaligned, sometimes whole pages.
  Range range(std::size_t end) {
    Range r{below(random_, end), 1 + below(random_, 20'000)};
    if (chance(random_, 30)) r = {r.offset / kPage * kPage, (r.length / kPage + 1) * kPage};
    r.length = std::min(r.length, end - r.offset);
    return r;
  }

  void read() {
    const Range r = range(kLargest);
    say(fmt::format("read {}+{}", r.offset, r.length));
    std::string data(r.length, '\0');
    const ssize_t got = ::pread(fd(), data.data(), r.length, static_cast<off_t>(r.offset));
    if (got < 0) return fail_errno("pread");
    data.resize(static_cast<std::size_t>(got));
    compare("read", std::string_view(model_).substr(std::min(r.offset, model_.size()), r.length), data);
  }

  void write_at(int target, std::size_t offset, const std::string& data) {
    const ssize_t wrote = ::pwrite(target, data.data(), data.size(), static_cast<off_t>(offset));
    if (wrote != static_cast<ssize_t>(data.size())) return fail_errno(fmt::format("pwrite gave {}", wrote));
    if (model_.size() < offset + data.size()) model_.resize(offset + data.size(), '\0');
    model_.replace(offset, data.size(), data);
  }

  void write() {
    const Range r = range(kLargest);
    say(fmt::format("write {}+{}", r.offset, r.length));
    write_at(fd(), r.offset, content(r.length));
  }

  void append() {
    if (model_.size() + 5'000 > kLargest) return;
    const std::string data = content(1 + below(random_, 5'000));
    say(fmt::format("append {}", data.size()));
    const int appending = ::open(path().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (appending < 0) return fail_errno("open for append");
    if (::write(appending, data.data(), data.size()) != static_cast<ssize_t>(data.size())) fail_errno("append");
    model_ += data;
    ::close(appending);
  }

  template <class Action>
  void with_mapping(int protection, const Action& action) {
    if (model_.empty()) return;
    void* memory = ::mmap(nullptr, model_.size(), protection, MAP_SHARED, fd(), 0);
    if (memory == MAP_FAILED) return fail_errno("mmap");
    action(static_cast<char*>(memory));
    ::munmap(memory, model_.size());
  }

  void mapped_read() {
    say("mmap read");
    with_mapping(PROT_READ, [&](const char* memory) {
      const Range r = range(model_.size());
      compare("mapped read", std::string_view(model_).substr(r.offset, r.length), {memory + r.offset, r.length});
    });
  }

  void mapped_write() {
    with_mapping(PROT_READ | PROT_WRITE, [&](char* memory) {
      const Range r = range(model_.size());
      say(fmt::format("mmap write {}+{}", r.offset, r.length));
      const std::string data = content(r.length);
      std::memcpy(memory + r.offset, data.data(), data.size());
      model_.replace(r.offset, r.length, data);
      if (chance(random_, 30) && ::msync(memory, model_.size(), MS_SYNC) != 0) fail_errno("msync");
    });
  }

  void truncate() {
    const std::size_t size = below(random_, kLargest);
    say(fmt::format("ftruncate {}", size));
    if (::ftruncate(fd(), static_cast<off_t>(size)) != 0) return fail_errno("ftruncate");
    model_.resize(size, '\0');
  }

  void truncate_path() {
    const std::size_t size = chance(random_, 20) ? 0 : below(random_, kLargest);
    say(fmt::format("truncate {}", size));
    if (::truncate(path().c_str(), static_cast<off_t>(size)) != 0) return fail_errno("truncate");
    model_.resize(size, '\0');
  }

  void allocate() {
    const Range r = range(kLargest);
    const bool keep_size = chance(random_, 50);
    say(fmt::format("fallocate {}+{} keep_size={}", r.offset, r.length, keep_size));
    if (::fallocate(fd(), keep_size ? FALLOC_FL_KEEP_SIZE : 0, static_cast<off_t>(r.offset),
                    static_cast<off_t>(r.length)) != 0)
      return fail_errno("fallocate");
    if (!keep_size) model_.resize(std::max(model_.size(), r.offset + r.length), '\0');
  }

  void punch() {
    const Range r = range(kLargest);
    say(fmt::format("punch hole {}+{}", r.offset, r.length));
    if (::fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(r.offset),
                    static_cast<off_t>(r.length)) != 0)
      return fail_errno("punch hole");
    for (std::size_t at = r.offset; at < std::min(model_.size(), r.offset + r.length); ++at) model_[at] = '\0';
  }

  void copy_range() {
    const Range from = range(source_.size());
    const std::size_t to = below(random_, kLargest - from.length);
    say(fmt::format("copy_file_range {}+{} of source to {}", from.offset, from.length, to));
    const int source = ::open((ground_.mountpoint() + "/source").c_str(), O_RDONLY | O_CLOEXEC);
    auto at = static_cast<off_t>(from.offset);
    auto target = static_cast<off_t>(to);
    std::size_t copied = 0;
    const int into = fd();
    while (copied < from.length) {
      const ssize_t got = ::copy_file_range(source, &at, into, &target, from.length - copied, 0);
      if (got <= 0) {
        fail_errno(fmt::format("copy_file_range gave {}", got));
        break;
      }
      copied += static_cast<std::size_t>(got);
    }
    ::close(source);
    if (model_.size() < to + from.length) model_.resize(to + from.length, '\0');
    model_.replace(to, from.length, source_, from.offset, from.length);
  }

  // SEEK_DATA may name more than there is, but what it skips must be zeros.
  void seek_data() {
    if (model_.empty()) return;
    const std::size_t from = below(random_, model_.size());
    say(fmt::format("seek data from {}", from));
    const off_t found = ::lseek(fd(), static_cast<off_t>(from), SEEK_DATA);
    if (found < 0 && errno != ENXIO) return fail_errno("SEEK_DATA");
    const std::size_t until = found < 0 ? model_.size() : std::min(static_cast<std::size_t>(found), model_.size());
    if (until > from && model_.find_first_not_of('\0', from) < until) fail("SEEK_DATA skips data");
  }

  void reopen() {
    const bool cut = chance(random_, 10);
    say(cut ? "reopen with O_TRUNC" : "reopen");
    close_all();
    if (cut) {
      ::close(::open(path().c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
      model_.clear();
    }
    open();
  }

  void sync() {
    say("fsync");
    if (::fsync(fd()) != 0) fail_errno("fsync");
  }

  void remount() {
    say("remount");
    close_all();
    if (!mount_->unmount()) return fail(mount_->failure());
    mount();
    check_all();
  }

  Backend backend_;
  Random& random_;
  Ground ground_;
  Layers layers_;
  std::unique_ptr<Mount> mount_;
  std::array<int, 2> fds_ = {-1, -1};
  std::string model_, source_;
  std::vector<std::string> story_;
  std::string failure_;
};

TEST(FileIo, RandomReadsAndWritesMatchAModel) {
  const Backend backend = tested_backend();
  if (!available(backend)) GTEST_FAIL() << name_of(backend) << " is not available (VELLUM_BIN unset?)";
  const Parameters& run = parameters();
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  std::uint64_t done = 0;
  std::uint64_t steps = 0;
  for (; run.sequences == 0 ? seconds() < run.seconds : done < run.sequences; ++done) {
    Random random(run.seed + done);
    FileUnderTest file(backend, random);
    for (std::uint64_t i = 0; i < run.ops * 10 && file.failure().empty(); ++i, ++steps) file.step();
    if (file.failure().empty()) file.check_all();
    if (!file.failure().empty())
      GTEST_FAIL() << "replay with --backend " << name_of(backend) << " --seed " << run.seed + done
                   << " --sequences 1 --ops " << run.ops << "\n"
                   << file.story() << "\n  " << file.failure();
  }
  fmt::print("{} steps in {} runs on {} from seed {} in {:.1f} s\n", steps, done, name_of(backend), run.seed,
             seconds());
}

}  // namespace
}  // namespace vellum::random_test
