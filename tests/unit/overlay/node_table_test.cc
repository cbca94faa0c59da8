#include "overlay/node_table.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <vector>

namespace vellum::overlay {
namespace {

using fuse::NodeId;
using fuse::raw;

NodeRef child(NodeTable& table, Node& parent, std::string_view name, bool dir = false) {
  NodeRef node = table.make();
  if (dir)
    node->dir = std::make_unique<DirState>();
  else
    node->file = std::make_unique<FileState>();
  return table.insert(std::move(node), parent, name);
}

TEST(NodeTable, TheRootIsNodeOneAndStays) {
  NodeTable table;
  EXPECT_EQ(table.root().node_id(), NodeId::kRoot);
  EXPECT_TRUE(table.root().is_dir());
  table.forget(NodeId::kRoot, 1000);
  EXPECT_TRUE(table.get(NodeId::kRoot));
  EXPECT_EQ(table.live(), 1U);
}

TEST(NodeTable, InventedIdsAreStale) {
  NodeTable table;
  for (std::uint64_t id :
       {std::uint64_t{0}, std::uint64_t{2}, std::uint64_t{1023}, std::uint64_t{1024}, std::uint64_t{1} << 32,
        (std::uint64_t{1} << 32) + 1, std::uint64_t{0xffffffff}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    EXPECT_EQ(table.get(NodeId{id}).error(), ESTALE) << id;
    table.forget(NodeId{id}, 1);
  }
}

TEST(NodeTable, FoundByParentAndNameWhileSomebodyHoldsIt) {
  NodeTable table;
  NodeRef a = child(table, table.root(), "a");
  EXPECT_EQ(table.find(table.root(), "a").get(), a.get());
  EXPECT_FALSE(table.find(table.root(), "b"));
  EXPECT_FALSE(table.find(*a, "a"));
  a = NodeRef();
  EXPECT_FALSE(table.find(table.root(), "a"));
  EXPECT_EQ(table.live(), 1U);
}

TEST(NodeTable, TheFirstInsertWins) {
  NodeTable table;
  NodeRef first = child(table, table.root(), "a");
  NodeRef second = child(table, table.root(), "a");
  EXPECT_EQ(first.get(), second.get());
  EXPECT_EQ(table.live(), 2U);
}

TEST(NodeTable, AnIdIsStaleOnceTheSlotIsReused) {
  NodeTable table;
  NodeId old;
  {
    NodeRef a = child(table, table.root(), "a");
    old = a->node_id();
  }
  EXPECT_EQ(table.get(old).error(), ESTALE);
  NodeRef b = child(table, table.root(), "b");
  ASSERT_EQ(raw(b->node_id()) & 0xfffffffU, raw(old) & 0xfffffffU) << "the slot was to be used again";
  EXPECT_NE(b->node_id(), old);
  EXPECT_EQ(table.get(old).error(), ESTALE);
  EXPECT_EQ(table.get(b->node_id())->get(), b.get());
  table.forget(old, 5);  // a late forget of the old one takes nothing from the new one
  EXPECT_TRUE(table.get(b->node_id()));
}

TEST(NodeTable, LookupsKeepANodeAndForgetGivesBack) {
  NodeTable table;
  NodeId id;
  {
    NodeRef a = child(table, table.root(), "a");
    id = a->node_id();
    table.add_lookup(*a);
    table.add_lookup(*a);
  }
  table.forget(id, 1);
  EXPECT_TRUE(table.get(id));
  table.forget(id, 1);
  EXPECT_FALSE(table.get(id));
}

TEST(NodeTable, ForgetBeyondTheCountTakesNobodyElsesRef) {
  NodeTable table;
  NodeRef a = child(table, table.root(), "a", true);
  NodeRef b = child(table, *a, "b");
  table.add_lookup(*a);
  table.forget(a->node_id(), ~std::uint64_t{0});
  table.forget(a->node_id(), 17);
  EXPECT_EQ(a->refs.load(), 2U);  // ours and b's
  EXPECT_EQ(a->lookups.load(), 0U);
  EXPECT_EQ(table.find(table.root(), "a").get(), a.get());
}

TEST(NodeTable, AChildKeepsItsParents) {
  NodeTable table;
  NodeRef leaf;
  NodeId top;
  {
    NodeRef a = child(table, table.root(), "a", true);
    top = a->node_id();
    NodeRef b = child(table, *a, "b", true);
    leaf = child(table, *b, "c");
  }
  EXPECT_EQ(table.live(), 4U);
  EXPECT_TRUE(table.get(top));
  leaf = NodeRef();
  EXPECT_EQ(table.live(), 1U);
  EXPECT_FALSE(table.get(top));
}

TEST(NodeTable, AVeryDeepChainIsFreedWithoutRecursion) {
  NodeTable table;
  NodeRef at = child(table, table.root(), "d", true);
  for (int depth = 0; depth < 200000; ++depth) at = child(table, *at, "d", true);
  at = NodeRef();
  EXPECT_EQ(table.live(), 1U);
}

TEST(NodeTable, MoveChangesPlaceAndParentsPins) {
  NodeTable table;
  NodeRef a = child(table, table.root(), "a", true);
  NodeRef b = child(table, table.root(), "b", true);
  NodeRef file = child(table, *a, "f");
  table.move(*file, *a, "f", *b, "g");
  EXPECT_FALSE(table.find(*a, "f"));
  EXPECT_EQ(table.find(*b, "g").get(), file.get());
  EXPECT_EQ(file->parent, b.get());
  EXPECT_EQ(a->refs.load(), 1U);
  EXPECT_EQ(b->refs.load(), 2U);
}

TEST(NodeTable, EraseLeavesItNameless) {
  NodeTable table;
  NodeRef a = child(table, table.root(), "a");
  table.erase(*a, table.root(), "a");
  EXPECT_TRUE(a->nameless.load());
  EXPECT_EQ(a->parent, nullptr);
  EXPECT_FALSE(table.find(table.root(), "a"));
  EXPECT_TRUE(table.get(a->node_id()));
  NodeRef next = child(table, table.root(), "a");
  EXPECT_NE(next.get(), a.get());
  table.name_again(*a, table.root(), "again");
  EXPECT_FALSE(a->nameless.load());
  EXPECT_EQ(table.find(table.root(), "again").get(), a.get());
}

TEST(NodeTable, AliasesLeadToTheNodeAndTakeOver) {
  NodeTable table;
  NodeRef dir = child(table, table.root(), "d", true);
  NodeRef a = child(table, table.root(), "a");
  table.add_alias(*a, *dir, "b");
  table.add_alias(*a, *dir, "b");  // twice is once
  EXPECT_EQ(table.find(*dir, "b").get(), a.get());
  EXPECT_EQ(dir->refs.load(), 2U);
  table.erase(*a, table.root(), "a");
  EXPECT_FALSE(a->nameless.load());
  EXPECT_EQ(a->parent, dir.get());
  EXPECT_EQ(a->name.view(), "b");
  EXPECT_EQ(table.find(*dir, "b").get(), a.get());
  EXPECT_EQ(dir->refs.load(), 2U);
  table.erase(*a, *dir, "b");
  EXPECT_TRUE(a->nameless.load());
  EXPECT_EQ(dir->refs.load(), 1U);
}

TEST(NodeTable, MoveAndEraseOfAnAlias) {
  NodeTable table;
  NodeRef a = child(table, table.root(), "a");
  table.add_alias(*a, table.root(), "b");
  table.move(*a, table.root(), "b", table.root(), "c");
  EXPECT_FALSE(table.find(table.root(), "b"));
  EXPECT_EQ(table.find(table.root(), "c").get(), a.get());
  EXPECT_EQ(a->name.view(), "a");
  table.erase(*a, table.root(), "c");
  EXPECT_FALSE(table.find(table.root(), "c"));
  EXPECT_EQ(table.find(table.root(), "a").get(), a.get());
  table.erase(*a, table.root(), "never");  // no such binding: nothing happens
  EXPECT_FALSE(a->nameless.load());
}

TEST(NodeTable, ANodeWithAliasesIsFreedWhole) {
  NodeTable table;
  {
    NodeRef dir = child(table, table.root(), "d", true);
    NodeRef a = child(table, table.root(), "a");
    table.add_alias(*a, *dir, "b");
    table.register_inode(*a, {.device = 1, .ino = 99, .layer = 2});
    table.register_inode(*a, {.device = 1, .ino = 100, .layer = 2});
    EXPECT_EQ(table.find_inode({.device = 1, .ino = 99, .layer = 2}).get(), a.get());
    EXPECT_FALSE(table.find_inode({.device = 2, .ino = 99, .layer = 2}));
    EXPECT_FALSE(table.find_inode({.device = 1, .ino = 99, .layer = 1}));
  }
  EXPECT_FALSE(table.find_inode({.device = 1, .ino = 99, .layer = 2}));
  EXPECT_EQ(table.live(), 1U);
}

TEST(NodeTable, FindInsertAndForgetFromManyThreads) {
  NodeTable table;
  constexpr int kNames = 20;
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    threads.emplace_back([&table, seed] {
      std::minstd_rand random(seed);
      std::vector<NodeId> counted;
      for (int i = 0; i < 20000; ++i) {
        const std::string name = std::to_string(random() % kNames);
        if (random() % 3 != 0 || counted.empty()) {
          NodeRef node = table.find(table.root(), name);
          if (!node) node = child(table, table.root(), name);
          table.add_lookup(*node);
          counted.push_back(node->node_id());
        } else {
          auto known = table.get(counted.back());
          ASSERT_TRUE(known) << "a counted node is there";
          ASSERT_EQ((*known)->node_id(), counted.back());
          table.forget(counted.back(), 1);
          counted.pop_back();
        }
      }
      for (NodeId id : counted) table.forget(id, 1);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(table.live(), 1U);
  EXPECT_EQ(table.root().refs.load(), 1U);
}

}  // namespace
}  // namespace vellum::overlay
