#include "overlay/dir_fds.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "unit/temp_dir.h"

namespace vellum::overlay {
namespace {

DirFd open_somewhere() {
  static const testing::TempDir dir;
  return std::make_shared<const sys::UniqueFd>(sys::open(dir.path().c_str(), O_PATH | O_DIRECTORY).value());
}

TEST(DirFdCache, GivesBackWhatWasPut) {
  DirFdPool pool(64);
  DirFdCache cache(pool);
  DirFd fd = open_somewhere();
  cache.put(5, 1, fd);
  EXPECT_EQ(cache.find(5, 1), fd);
  EXPECT_EQ(cache.find(5, 0), nullptr);
  EXPECT_EQ(cache.find(6, 1), nullptr);
  EXPECT_EQ(cache.hits(), 1U);
  EXPECT_EQ(cache.misses(), 2U);
}

TEST(DirFdCache, ASecondPutReplaces) {
  DirFdPool pool(64);
  DirFdCache cache(pool);
  DirFd first = open_somewhere(), second = open_somewhere();
  cache.put(5, 1, first);
  cache.put(5, 1, second);
  EXPECT_EQ(cache.find(5, 1), second);
  EXPECT_EQ(cache.size(), 1U);
}

TEST(DirFdCache, IsBounded) {
  DirFdPool pool(64);
  DirFdCache cache(pool);
  DirFd fd = open_somewhere();
  for (std::uint64_t node = 0; node < 10000; ++node) cache.put(node, static_cast<LayerIndex>(node % 7), fd);
  EXPECT_LE(cache.size(), 64U);
  EXPECT_GT(cache.size(), 32U);
}

TEST(DirFdCache, EvictsTheLeastRecentlyUsed) {
  DirFdPool pool(64);
  DirFdCache cache(pool);
  DirFd fd = open_somewhere();
  cache.put(1, 0, fd);
  for (std::uint64_t node = 100; node < 5000; ++node) {
    ASSERT_NE(cache.find(1, 0), nullptr) << node;  // in use all the time, so it stays
    cache.put(node, 0, fd);
  }
  EXPECT_EQ(cache.find(100, 0), nullptr);
}

TEST(DirFdCache, WhatIsHandedOutOutlivesEviction) {
  DirFdPool pool(1);
  DirFdCache cache(pool);
  cache.put(1, 0, open_somewhere());
  DirFd held = cache.find(1, 0);
  cache.clear();
  EXPECT_EQ(cache.size(), 0U);
  EXPECT_EQ(cache.find(1, 0), nullptr);
  EXPECT_TRUE(sys::statx(*held, ""));
}

TEST(DirFdCache, SeveralShareAPool) {
  DirFdPool pool(64);
  DirFdCache one(pool);
  const DirFd fd = open_somewhere();
  one.put(1, 0, fd);
  {
    DirFdCache other(pool);
    EXPECT_EQ(other.find(1, 0), nullptr);
    for (std::uint64_t node = 0; node < 1000; ++node) other.put(node, 0, fd);
    EXPECT_LE(pool.size(), 64U);
    EXPECT_EQ(one.find(1, 0), nullptr);  // the least recently used of them all
    one.put(1, 0, fd);
  }
  EXPECT_EQ(pool.size(), 1U);
  EXPECT_EQ(one.find(1, 0), fd);
}

TEST(DirFdCache, DropForgetsOne) {
  DirFdPool pool(64);
  DirFdCache cache(pool);
  DirFd fd = open_somewhere();
  cache.put(1, 0, fd);
  cache.put(1, 1, fd);
  cache.drop(1, 0);
  cache.drop(1, 0);
  EXPECT_EQ(cache.find(1, 0), nullptr);
  EXPECT_EQ(cache.find(1, 1), fd);
  EXPECT_EQ(fd.use_count(), 2);
}

TEST(DirFdCache, Threads) {
  DirFdPool pool(32);
  DirFdCache cache(pool);
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&cache, seed] {
      DirFd fd = open_somewhere();
      for (std::uint64_t i = 0; i < 5000; ++i) {
        std::uint64_t node = (i * 7 + seed) % 100;
        if (i % 5 == 0)
          cache.drop(node, 0);
        else if (i % 997 == 0)
          cache.clear();
        else if (!cache.find(node, 0))
          cache.put(node, 0, fd);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LE(cache.size(), 32U);
}

}  // namespace
}  // namespace vellum::overlay
