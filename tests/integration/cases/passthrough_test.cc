// Files that the kernel reads and writes without us, across copy-up, which changes what is behind them.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

constexpr std::size_t kLarge = 200'000;  // too large to go through the cache

std::string block(char fill) { return std::string(kLarge, fill); }

// "200000*l 2*n": short enough for a failure's message.
std::string runs_of(std::string_view text) {
  std::string runs;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_not_of(text[at], at), text.size());
    runs += (runs.empty() ? "" : " ") + std::to_string(end - at) + "*" + text[at];
    at = end;
  }
  return runs;
}

std::int64_t registered(const OverlayFixture& fs) {
  const auto stats = nlohmann::json::parse(get_xattr(fs.root(), "system.vellum.stats"), nullptr, false);
  return stats.is_discarded() ? -1 : stats.value("open_backing", std::int64_t{-1});
}

#define NEEDS_PASSTHROUGH() NOT_ON(kUnprivileged | kAnyKernel | kPeer, "passthrough takes our mount and root's rights")

class Mapping {
 public:
  Mapping(int fd, std::size_t size, int protection)
      : size_(size), at_(::mmap(nullptr, size, protection, MAP_SHARED, fd, 0)) {
    EXPECT_NE(at_, MAP_FAILED);
  }
  ~Mapping() { ::munmap(at_, size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  char* data() { return static_cast<char*>(at_); }

 private:
  std::size_t size_;
  void* at_;
};

TEST(Passthrough, IsUsedForLargeLowerFilesAndForUpperFiles) {
  NEEDS_PASSTHROUGH();
  OverlayFixture fs({.lower = {{"large", File{block('l')}}, {"small", File{"s"}}}, .upper = {{"up", File{"u"}}}});
  {
    Fd large(fs / "large", O_RDONLY), again(fs / "large", O_RDONLY), small(fs / "small", O_RDONLY);
    Fd up(fs / "up", O_RDWR), made(fs / "new", O_RDWR | O_CREAT);
    EXPECT_EQ(registered(fs), 3);
    EXPECT_EQ(runs_of(read_fd(large)), runs_of(block('l')));
    EXPECT_EQ(::pwrite(up, "U", 1, 0), 1);
    EXPECT_EQ(read_file(fs.upper("up")), "U");
  }
  // RELEASE comes after close.
  for (int i = 0; i < 200 && registered(fs) > 0; ++i) ::usleep(10'000);
  EXPECT_EQ(registered(fs), 0);
}

TEST(Passthrough, CanBeSwitchedOff) {
  NEEDS_PASSTHROUGH();
  for (const char* option : {"passthrough=0", "passthrough=upper"}) {
    OverlayFixture fs({.lower = {{"large", File{block('l')}}}, .upper = {{"up", File{"u"}}}, .vellum_options = option});
    Fd large(fs / "large", O_RDONLY), up(fs / "up", O_RDONLY);
    EXPECT_EQ(registered(fs), std::string(option) == "passthrough=0" ? 0 : 1) << option;
    // Where the lower file goes through the cache its reader sees what is written later.
    EXPECT_OK(append_file(fs / "large", "more"));
    EXPECT_EQ(runs_of(read_fd(large)), runs_of(block('l') + "more")) << option;
    EXPECT_EQ(link_target("/proc/self/fd/" + std::to_string(static_cast<int>(large))), fs / "large");
  }
}

TEST(Passthrough, AReaderKeepsTheLowerFileAcrossCopyUp) {
  NEEDS_PASSTHROUGH();
  OverlayFixture fs({.lower = {{"f", File{block('l')}}}});
  const ino_t ino = ino_of(fs / "f");
  Fd reader(fs / "f", O_RDONLY);
  Mapping mapped(reader, kLarge, PROT_READ);
  {
    Fd writer(fs / "f", O_RDWR);
    EXPECT_EQ(::pwrite(writer, "new", 3, 0), 3);
    EXPECT_EQ(fstat_of(writer).st_ino, ino);
    EXPECT_EQ(read_fd(writer).substr(0, 4), "newl");
  }
  EXPECT_EQ(runs_of(read_fd(reader)), runs_of(block('l'))) << "what was open goes on with what it was";
  EXPECT_EQ(mapped.data()[0], 'l');
  EXPECT_EQ(read_file(fs / "f").substr(0, 4), "newl");
  EXPECT_EQ(ino_of(fs / "f"), ino);
  EXPECT_EQ(runs_of(read_file(fs.lower("f"))), runs_of(block('l')));
  // Attributes are the file's, through whichever descriptor.
  EXPECT_OK(::fchmod(reader, 0600));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0600");
  EXPECT_OK(::truncate((fs / "f").c_str(), 5));
  EXPECT_EQ(fstat_of(reader).st_size, 5);
  EXPECT_EQ(fstat_of(reader).st_ino, ino);
  EXPECT_EQ(fstat_of(reader).st_nlink, 1U);
}

TEST(Passthrough, ChangesOfAnOpenLowerFile) {
  NEEDS_PASSTHROUGH();
  OverlayFixture fs({.lower = {{"chmod", File{block('l')}},
                               {"cut", File{block('l')}},
                               {"move", File{block('l')}},
                               {"link", File{block('l')}},
                               {"xattr", File{block('l')}},
                               {"gone", File{block('l')}}}});
  Fd a(fs / "chmod", O_RDONLY), b(fs / "cut", O_RDONLY), c(fs / "move", O_RDONLY), d(fs / "link", O_RDONLY),
      e(fs / "xattr", O_RDONLY), g(fs / "gone", O_RDONLY);
  EXPECT_OK(::chmod((fs / "chmod").c_str(), 0640));
  EXPECT_EQ(octal(mode_of(fs / "chmod")), "0640");
  EXPECT_EQ(octal(fstat_of(a).st_mode & 07777), "0640");
  EXPECT_OK(append_file(fs / "chmod", "x"));
  EXPECT_EQ(lstat_of(fs / "chmod").st_size, static_cast<off_t>(kLarge + 1));

  EXPECT_OK(::close(::open((fs / "cut").c_str(), O_WRONLY | O_TRUNC)));
  EXPECT_EQ(lstat_of(fs / "cut").st_size, 0);
  EXPECT_EQ(read_fd(b).size(), kLarge);

  EXPECT_OK(::rename((fs / "move").c_str(), (fs / "moved").c_str()));
  EXPECT_OK(append_file(fs / "moved", "x"));
  EXPECT_EQ(lstat_of(fs / "moved").st_size, static_cast<off_t>(kLarge + 1));
  EXPECT_FALSE(exists(fs / "move"));

  EXPECT_OK(::link((fs / "link").c_str(), (fs / "second").c_str()));
  EXPECT_OK(append_file(fs / "second", "x"));
  EXPECT_EQ(lstat_of(fs / "link").st_size, static_cast<off_t>(kLarge + 1));
  EXPECT_EQ(lstat_of(fs / "link").st_nlink, 2U);
  EXPECT_EQ(ino_of(fs / "link"), ino_of(fs / "second"));
  EXPECT_OK(append_file(fs / "link", "y"));
  EXPECT_EQ(read_file(fs / "second").substr(kLarge), "xy");

  EXPECT_OK(set_xattr(fs / "xattr", "user.a", "1"));
  EXPECT_EQ(get_xattr(fs / "xattr", "user.a"), "1");
  EXPECT_OK(append_file(fs / "xattr", "x"));
  EXPECT_EQ(get_xattr(fs / "xattr", "user.a"), "1");

  EXPECT_OK(::unlink((fs / "gone").c_str()));
  EXPECT_EQ(runs_of(read_fd(g)), runs_of(block('l')));
  EXPECT_OK(::fchmod(g, 0600));
  EXPECT_EQ(octal(fstat_of(g).st_mode & 07777), "0600");
  EXPECT_EQ(runs_of(read_fd(g)), runs_of(block('l')));
  for (int fd : {static_cast<int>(a), static_cast<int>(c), static_cast<int>(d), static_cast<int>(e)}) {
    EXPECT_EQ(runs_of(read_fd(fd)), runs_of(block('l')));
  }
}

TEST(Passthrough, AMappingsWritesShowInSizeAndTimes) {
  NEEDS_PASSTHROUGH();
  OverlayFixture fs({.lower = {{"d", Dir{}}}});
  EXPECT_OK(create_file(fs / "f", block('a')));
  EXPECT_OK(set_times(fs / "f", {.atime = 1000, .mtime = 1000}));
  {
    Fd fd(fs / "f", O_RDWR);
    Mapping mapped(fd, kLarge, PROT_READ | PROT_WRITE);
    EXPECT_EQ(fstat_of(fd).st_mtim.tv_sec, 1000);
    mapped.data()[0] = 'b';
    EXPECT_OK(::msync(mapped.data(), kLarge, MS_SYNC));
    EXPECT_GT(fstat_of(fd).st_mtim.tv_sec, 1000);
  }
  EXPECT_GT(lstat_of(fs / "f").st_mtim.tv_sec, 1000);
  EXPECT_EQ(read_file(fs / "f")[0], 'b');
}

// Writes by passthrough are done with the daemon's rights, which must not keep what the writer may not.
TEST(Passthrough, AWriteTakesSetuidAndSetgidBits) {
  NEEDS_PASSTHROUGH();
  OverlayFixture fs({.lower = {{"low", File{block('l'), 0777}}}, .upper = {{"up", File{"u", 0777}}}});
  for (const char* name : {"low", "up"}) {
    const std::string path = fs / name;
    // Bits that are there before the file is opened, and bits that come while it is.
    EXPECT_OK(::chmod(path.c_str(), 06777));
    EXPECT_EQ(as_ids(7, 7, [&] { return append_file(path, "x") < 0 ? errno : 0; }), 0);
    EXPECT_EQ(octal(mode_of(path)), "0777") << name;
    Fd fd(path, O_WRONLY);
    EXPECT_OK(::chmod(path.c_str(), 06777));
    EXPECT_EQ(as_ids(7, 7, [&] { return ::pwrite(fd, "x", 1, 0) == 1 ? 0 : errno; }), 0);
    EXPECT_EQ(octal(mode_of(path)), "0777") << name;
  }
}

// A reader reads what is one file from beginning to end, old or new, whatever a writer does meanwhile; what is opened
// after a write shows it.
TEST(Passthrough, ReadersAndACopyUpForThousandsOfRounds) {
  NEEDS_PASSTHROUGH();
  constexpr int kRounds = 2000, kAtOnce = 50;
  for (int first = 0; first < kRounds; first += kAtOnce) {
    Tree tree;
    for (int i = 0; i < kAtOnce; ++i) tree.push_back({"f" + std::to_string(i), File{block('l')}});
    OverlayFixture fs({.lower = tree});
    std::atomic<int> round{-1};
    std::thread writer([&] {
      for (int i = 0; i < kAtOnce; ++i) {
        while (round.load() < i) std::this_thread::yield();
        const std::string path = fs / ("f" + std::to_string(i));
        switch ((first + i) % 4) {
          case 0: {
            Fd fd(path, O_RDWR);
            EXPECT_EQ(::pwrite(fd, block('n').data(), kLarge, 0), static_cast<ssize_t>(kLarge));
            break;
          }
          case 1: {
            Fd fd(path, O_WRONLY | O_APPEND);
            EXPECT_EQ(::write(fd, "nn", 2), 2);
            break;
          }
          case 2: {
            Fd fd(path, O_WRONLY | O_TRUNC);
            EXPECT_EQ(::write(fd, "nnnn", 4), 4);
            break;
          }
          default: EXPECT_OK(::truncate(path.c_str(), 3)); break;
        }
      }
    });
    for (int i = 0; i < kAtOnce; ++i) {
      const std::string path = fs / ("f" + std::to_string(i));
      const ino_t ino = ino_of(path);
      Fd fd(path, O_RDONLY);
      Mapping mapped(fd, kLarge, PROT_READ);
      round.store(i);  // the writer begins
      for (int k = 0; k < 3; ++k) {
        EXPECT_EQ(runs_of(read_fd(fd)), runs_of(block('l')));
        EXPECT_EQ(mapped.data()[k * 4096], 'l');
        EXPECT_EQ(fstat_of(fd).st_ino, ino);
        Fd later(path, O_RDONLY);  // old or new
        char byte = 0;
        if (::pread(later, &byte, 1, 0) != 1) byte = 'n';  // cut to nothing
        EXPECT_TRUE(byte == 'l' || byte == 'n') << byte;
        EXPECT_EQ(fstat_of(later).st_ino, ino);
      }
    }
    round.store(kAtOnce);
    writer.join();
    for (int i = 0; i < kAtOnce; ++i) {
      const std::string path = fs / ("f" + std::to_string(i));
      const std::string expected[] = {block('n'), block('l') + "nn", "nnnn", "lll"};
      EXPECT_EQ(runs_of(read_file(path)), runs_of(expected[(first + i) % 4])) << i;
      EXPECT_EQ(lstat_of(path).st_size, static_cast<off_t>(expected[(first + i) % 4].size())) << i;
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace vellum::test
