// Several callers at the same time. Each case has one outcome that every order of events must lead to.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <latch>
#include <thread>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

// Runs `act(i)` in `count` threads that start together.
void together(int count, const std::function<void(int)>& act) {
  std::latch start(count);
  std::vector<std::jthread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      act(i);
    });
  }
}

TEST(Concurrency, OpensForWritingOfOneLowerFileLoseNoWrite) {
  constexpr int kThreads = 8, kRounds = 20, kBlock = 5000;
  Tree tree;
  for (int r = 0; r < kRounds; ++r)
    tree.emplace_back("d" + std::to_string(r) + "/f", File{std::string(kThreads * kBlock, '-')});
  OverlayFixture fs({.lower = tree});
  for (int r = 0; r < kRounds; ++r) {
    std::string path = fs / ("d" + std::to_string(r) + "/f");
    together(kThreads, [&](int i) {
      Fd fd(path, O_RDWR);
      std::string block(kBlock, static_cast<char>('a' + i));
      EXPECT_EQ(::pwrite(fd, block.data(), block.size(), i * kBlock), kBlock);
    });
    std::string all = read_file(path);
    for (int i = 0; i < kThreads; ++i) {
      ASSERT_EQ(
          all.compare(static_cast<std::size_t>(i * kBlock), kBlock, std::string(kBlock, static_cast<char>('a' + i))), 0)
          << "round " << r << " block " << i;
    }
  }
}

TEST(Concurrency, ChangesOfEveryKindToOneLowerFileAllHold) {
  constexpr int kRounds = 30;
  Tree tree;
  for (int r = 0; r < kRounds; ++r) tree.emplace_back("f" + std::to_string(r), File{"0123456789"});
  OverlayFixture fs({.lower = tree});
  for (int r = 0; r < kRounds; ++r) {
    std::string path = fs / ("f" + std::to_string(r));
    together(4, [&](int i) {
      switch (i) {
        case 0: EXPECT_OK(append_file(path, "+")); break;
        case 1: EXPECT_OK(::chmod(path.c_str(), 0601)); break;
        case 2: EXPECT_OK(set_xattr(path, "user.a", "1")); break;
        default: EXPECT_OK(::link(path.c_str(), (path + ".link").c_str())); break;
      }
    });
    EXPECT_EQ(read_file(path), "0123456789+");
    EXPECT_EQ(octal(mode_of(path)), "0601");
    EXPECT_EQ(get_xattr(path, "user.a"), "1");
    EXPECT_EQ(read_file(path + ".link"), "0123456789+");
    if (on(kKernelUserns)) continue;  // copy-up changes inode numbers there
    EXPECT_EQ(ino_of(path), ino_of(path + ".link"));
  }
}

TEST(Concurrency, ExclusiveCreateHasOneWinner) {
  OverlayFixture fs({.lower = {{"d/gone", File{}}}});
  for (int round = 0; round < 50; ++round) {
    std::string path = fs / "d/gone";
    EXPECT_OK(::unlink(path.c_str()));
    std::atomic<int> winners = 0;
    together(6, [&](int) {
      if (create_file(path, "mine") == 0) {
        ++winners;
      } else {
        EXPECT_EQ(errno, EEXIST);
      }
    });
    EXPECT_EQ(winners, 1);
    EXPECT_EQ(names_in(fs / "d"), (Names{"gone"}));
  }
}

TEST(Concurrency, UnlinkHasOneWinner) {
  Tree tree;
  for (int i = 0; i < 50; ++i) tree.emplace_back("d/f" + std::to_string(i), File{});
  OverlayFixture fs({.lower = tree});
  for (int i = 0; i < 50; ++i) {
    std::string path = fs / ("d/f" + std::to_string(i));
    std::atomic<int> winners = 0;
    together(6, [&](int) {
      if (::unlink(path.c_str()) == 0) {
        ++winners;
      } else {
        EXPECT_EQ(errno, ENOENT);
      }
    });
    EXPECT_EQ(winners, 1);
  }
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
}

TEST(Concurrency, RenameOverNeverShowsAMissingName) {
  OverlayFixture fs({.lower = {{"d/f", File{"0"}}}});
  std::atomic<bool> done = false;
  std::atomic<int> misses = 0;
  std::jthread watcher([&] {
    while (!done) misses += read_file(fs / "d/f").empty() || !exists(fs / "d/f") ? 1 : 0;
  });
  for (int i = 0; i < 300; ++i) {
    EXPECT_OK(create_file(fs / "d/tmp", "content"));
    EXPECT_OK(::rename((fs / "d/tmp").c_str(), (fs / "d/f").c_str()));
  }
  done = true;
  watcher.join();
  EXPECT_EQ(misses, 0);
}

TEST(Concurrency, ManyDirectoriesCopiedUpAtOnce) {
  Tree tree;
  for (int i = 0; i < 8; ++i) tree.emplace_back("a/b/c/d" + std::to_string(i) + "/f", File{"x"});
  OverlayFixture fs({.lower = tree});
  together(8, [&](int i) { EXPECT_OK(append_file(fs / ("a/b/c/d" + std::to_string(i) + "/f"), "y")); });
  for (int i = 0; i < 8; ++i) EXPECT_EQ(read_file(fs.upper("a/b/c/d" + std::to_string(i) + "/f")), "xy");
}

TEST(Concurrency, RenamesAcrossDirectoriesBothWaysEnd) {
  OverlayFixture fs(
      {.lower = {{"a/x", File{"x"}}, {"b/y", File{"y"}}}, .upper = {{"p/q/f", File{}}, {"r/s/f", File{}}}});
  together(4, [&](int i) {
    for (int round = 0; round < 100; ++round) {
      switch (i) {
        case 0: ::rename((fs / "a/x").c_str(), (fs / "b/x").c_str()); break;
        case 1: ::rename((fs / "b/x").c_str(), (fs / "a/x").c_str()); break;
        case 2: ::rename((fs / "p/q").c_str(), (fs / "r/q").c_str()); break;
        default: ::rename((fs / "r/q").c_str(), (fs / "p/q").c_str()); break;
      }
    }
  });
  EXPECT_EQ(names_in(fs / "a").size() + names_in(fs / "b").size(), 2u);
  EXPECT_EQ(names_in(fs / "p").size() + names_in(fs / "r").size(), 2u);
  EXPECT_TRUE(exists(fs / "p/q/f") != exists(fs / "r/q/f"));
}

TEST(Concurrency, TreesMadeAndRemovedSideBySide) {
  OverlayFixture fs({.lower = {{"w/keep", File{}}}});
  together(4, [&](int i) {
    std::string mine = fs / ("w/t" + std::to_string(i));
    for (int round = 0; round < 15; ++round) {
      EXPECT_OK(::mkdir(mine.c_str(), 0755));
      for (int f = 0; f < 10; ++f) EXPECT_OK(create_file(mine + "/f" + std::to_string(f), "x"));
      EXPECT_EQ(names_in(mine).size(), 10u);
      for (int f = 0; f < 10; ++f) EXPECT_OK(::unlink((mine + "/f" + std::to_string(f)).c_str()));
      EXPECT_OK(::rmdir(mine.c_str()));
    }
  });
  EXPECT_EQ(names_in(fs.upper("w")), (Names{}));
  EXPECT_EQ(names_in(fs / "w"), (Names{"keep"}));
}

TEST(Concurrency, SyncAndStatsWhileWriting) {
  OverlayFixture fs({.lower = {{"f", File{""}}}});
  together(3, [&](int i) {
    Fd fd(fs / "f", O_RDWR);
    for (int round = 0; round < 100; ++round) {
      if (i == 0) {
        EXPECT_EQ(::pwrite(fd, "block", 5, round * 4096), 5);
      } else if (i == 1) {
        EXPECT_OK(::fsync(fd));
      } else {
        EXPECT_GE(fstat_of(fd).st_size, 0);
      }
    }
  });
  EXPECT_EQ(lstat_of(fs / "f").st_size, 99 * 4096 + 5);
}

}  // namespace
}  // namespace vellum::test
