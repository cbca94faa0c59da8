// setattr of everything, owners and id maps, extended attributes and ACLs, readdir while entries come and go.
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "unit/overlay/overlay_fixture.h"

namespace vellum::overlay::testing {
namespace {

using fuse::HandleId;
using fuse::NodeId;
using Names = std::set<std::string>;

class Attributes : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(All, Attributes, ::testing::Bool(),
                         [](const auto& given) { return given.param ? "wire" : "direct"; });

TEST_P(Attributes, SetEachOfThem) {
  OverlayFixture fs({.lower = {{"f", File{"12345"}}, {"d/x", File{}}}, .through_wire = GetParam()});
  for (const char* name : {"f", "d"}) {
    EXPECT_TRUE(fs.set(name, {.mode = 0741}));
    EXPECT_EQ(fs.attr(name).mode & 07777, 0741U);
    EXPECT_TRUE(fs.set(name, {.atime = fuse::Timestamp{.sec = -5, .nsec = 7}}));
    EXPECT_EQ(fs.attr(name).atime, (fuse::Timestamp{.sec = -5, .nsec = 7}));
    auto atime = fs.attr(name).atime;
    EXPECT_TRUE(fs.set(name, {.mtime = fuse::Timestamp{.sec = 1LL << 32, .nsec = 999999999}}));
    EXPECT_EQ(fs.attr(name).mtime, (fuse::Timestamp{.sec = 1LL << 32, .nsec = 999999999}));
    EXPECT_EQ(fs.attr(name).atime, atime);
    EXPECT_TRUE(fs.set(name, {.mtime_now = true}));
    EXPECT_LT(fs.attr(name).mtime.sec, 1LL << 32);
  }
  EXPECT_TRUE(fs.set("f", {.mode = 0600, .size = 2, .mtime = fuse::Timestamp{.sec = 9, .nsec = 0}}));
  auto attr = fs.attr("f");
  EXPECT_EQ(attr.size, 2U);
  EXPECT_EQ(attr.mode, S_IFREG | 0600U);
  EXPECT_EQ(attr.mtime.sec, 9);
  EXPECT_TRUE(fs.set("f", {})) << "nothing to change is no error";
}

TEST_P(Attributes, OwnersAndWhatTheyTake) {
  if (!is_root()) GTEST_SKIP() << "needs root";
  OverlayFixture fs(
      {.lower = {{"f", File{"x", 06755}}, {"g", File{"x", 06755}}, {"l", Symlink{"f"}}}, .through_wire = GetParam()});
  EXPECT_TRUE(fs.set("f", {.uid = 12}));
  EXPECT_EQ(fs.attr("f").uid, 12U);
  EXPECT_EQ(fs.attr("f").gid, 0U);
  EXPECT_TRUE(fs.set("f", {.gid = 34}));
  EXPECT_EQ(fs.attr("f").uid, 12U);
  EXPECT_EQ(fs.attr("f").gid, 34U);
  EXPECT_TRUE(fs.set("g", {.kill_suidgid = true}));
  EXPECT_EQ(fs.attr("g").mode & 07777, 0755U);
  EXPECT_TRUE(fs.set("l", {.uid = 56}));
  EXPECT_EQ(fs.attr("l").uid, 56U);
  EXPECT_EQ(fs.attr("f").uid, 12U);
  fs.caller = {.uid = 1001, .gid = 1002, .pid = 1};
  EXPECT_TRUE(fs.create("new"));
  EXPECT_EQ(fs.attr("new").uid, 1001U);
  EXPECT_EQ(fs.attr("new").gid, 1002U);
}

TEST_P(Attributes, MappedOwners) {
  if (!is_root()) GTEST_SKIP() << "needs root";
  Spec spec{.lower = {{"f", File{"x"}}, {"stranger", File{}}}, .through_wire = GetParam()};
  spec.options.uid_map = {{.on_disk = 100000, .presented = 0, .length = 1000}};
  spec.options.gid_map = {{.on_disk = 200000, .presented = 0, .length = 1000}};
  OverlayFixture fs(spec);
  ASSERT_EQ(::chown(fs.lower("f").c_str(), 100007, 200008), 0);
  EXPECT_EQ(fs.attr("f").uid, 7U);
  EXPECT_EQ(fs.attr("f").gid, 8U);
  EXPECT_EQ(fs.attr("stranger").uid, IdMap::kOverflow);
  EXPECT_TRUE(fs.set("f", {.uid = 999}));
  EXPECT_EQ(lstat_of(fs.upper("f")).st_uid, 100999U);
  EXPECT_EQ(lstat_of(fs.upper("f")).st_gid, 200008U);
  EXPECT_EQ(fs.set("f", {.uid = 1000}).error(), EINVAL);
  fs.caller = {.uid = 5, .gid = 6, .pid = 1};
  EXPECT_TRUE(fs.create("new"));
  EXPECT_EQ(lstat_of(fs.upper("new")).st_uid, 100005U);
  fs.caller = {.uid = 5000, .gid = 6, .pid = 1};
  EXPECT_EQ(fs.create("other").error(), EOVERFLOW);
  EXPECT_FALSE(fs.has("other"));
}

TEST_P(Attributes, SquashedOwners) {
  if (!is_root()) GTEST_SKIP() << "needs root";
  Spec spec{.lower = {{"f", File{"x"}}}, .through_wire = GetParam()};
  spec.options.squash_to_uid = 77;
  spec.options.squash_to_gid = 88;
  OverlayFixture fs(spec);
  EXPECT_EQ(fs.attr("f").uid, 77U);
  EXPECT_EQ(fs.attr("f").gid, 88U);
  EXPECT_TRUE(fs.set("f", {.uid = 5})) << "asking for another owner is no error";
  EXPECT_EQ(fs.attr("f").uid, 77U);
}

TEST_P(Attributes, OwnersKeptInXattrs) {
  if (!is_root()) GTEST_SKIP() << "needs root";
  Spec spec{.lower = {{"f", File{"x", 0640}}, {"d/x", File{}}, {"l", Symlink{"to"}}}, .through_wire = GetParam()};
  spec.options.xattr_permissions = XattrPermissions::kContainers;
  OverlayFixture fs(spec);
  fs.caller = {.uid = 1234, .gid = 5678, .pid = 1};
  EXPECT_TRUE(fs.create("new", "n", 0604));
  EXPECT_TRUE(fs.mkdir("d/sub", 0711));
  EXPECT_TRUE(fs.symlink("target", "link"));
  EXPECT_TRUE(fs.fs().mknod(fs.caller, NodeId::kRoot, "null", S_IFCHR | 0666, makedev(1, 3), 0));
  EXPECT_TRUE(fs.set("f", {.mode = 0600, .uid = 4321}));
  EXPECT_TRUE(fs.set("l", {.uid = 9}));
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(fs.attr("new").uid, 1234U);
    EXPECT_EQ(fs.attr("new").mode, S_IFREG | 0604U);
    EXPECT_EQ(fs.attr("d/sub").mode, S_IFDIR | 0711U);
    EXPECT_EQ(fs.attr("null").mode, S_IFCHR | 0666U);
    EXPECT_EQ(fs.attr("null").rdev, makedev(1, 3));
    EXPECT_EQ(fs.attr("link").mode & S_IFMT, static_cast<mode_t>(S_IFLNK));
    EXPECT_EQ(fs.fs().readlink(fs.caller, fs.node("link")), "target");
    EXPECT_EQ(fs.fs().readlink(fs.caller, fs.node("l")), "to");
    EXPECT_EQ(fs.attr("l").uid, 9U);
    EXPECT_EQ(fs.attr("f").uid, 4321U);
    EXPECT_EQ(fs.attr("f").mode, S_IFREG | 0600U);
    EXPECT_EQ(fs.list().at("null").type, 2U) << "DT_CHR";
    EXPECT_EQ(lstat_of(fs.upper("new")).st_uid, 0U);
    EXPECT_TRUE(xattr_of(fs.upper("new"), kOverrideContainers));
    EXPECT_EQ(fs.fs().listxattr(fs.caller, fs.node("new"))->find("override"), std::string::npos);
    fs.remount();
  }
}

// --- Extended attributes

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST_P(Attributes, XattrsComeAndGo) {
  OverlayFixture fs({.lower = {{"f", File{"x", 0644, {{"user.low", "1"}}}}}, .through_wire = GetParam()});
  auto& it = fs.fs();
  NodeId id = fs.node("f");
  EXPECT_EQ(it.getxattr(fs.caller, id, "user.low"), "1");
  EXPECT_EQ(it.removexattr(fs.caller, id, "user.none").error(), ENODATA);
  EXPECT_FALSE(exists(fs.upper("f"))) << "nothing to remove is no reason to copy";
  EXPECT_EQ(it.setxattr(fs.caller, id, "user.a", bytes("2"), {.replace = true}).error(), ENODATA);
  EXPECT_TRUE(it.setxattr(fs.caller, id, "user.a", bytes("2"), {.create = true}));
  EXPECT_EQ(it.setxattr(fs.caller, id, "user.a", bytes("3"), {.create = true}).error(), EEXIST);
  EXPECT_TRUE(it.removexattr(fs.caller, id, "user.low"));
  EXPECT_EQ(it.getxattr(fs.caller, id, "user.low").error(), ENODATA);
  EXPECT_EQ(it.getxattr(fs.caller, id, "user.a"), "2");
  EXPECT_EQ(xattr_of(fs.lower("f"), "user.low"), "1");
}

TEST_P(Attributes, ACallersMarkIsEscapedAndOursHidden) {
  OverlayFixture fs({.lower = {{"d/low", File{}}, {"gone", File{}}}, .through_wire = GetParam()});
  auto& it = fs.fs();
  ASSERT_TRUE(fs.create("d/up"));
  NodeId id = fs.node("d");
  EXPECT_TRUE(it.setxattr(fs.caller, id, "user.overlay.opaque", bytes("y"), {}));
  EXPECT_EQ(it.getxattr(fs.caller, id, "user.overlay.opaque"), "y");
  EXPECT_EQ(it.listxattr(fs.caller, id), std::string("user.overlay.opaque\0", 20));
  EXPECT_EQ(xattr_of(fs.upper("d"), "user.overlay.overlay.opaque"), "y");
  fs.remount();
  EXPECT_EQ(fs.names("d"), (Names{"low", "up"})) << "it was no opaque mark";
  id = fs.node("d");
  EXPECT_TRUE(fs.fs().removexattr(fs.caller, id, "user.overlay.opaque"));
  EXPECT_EQ(fs.fs().setxattr(fs.caller, id, "user.fuseoverlayfs.opaque", bytes("y"), {}).error(), EPERM);
  EXPECT_EQ(fs.fs().setxattr(fs.caller, id, "user.containers.override_stat", bytes("0:0:777"), {}).error(), EPERM);
  EXPECT_EQ(fs.fs().listxattr(fs.caller, id), "");
}

TEST(Xattrs, SwitchedOff) {
  Spec spec{.lower = {{"f", File{"x", 0644, {{"user.a", "1"}}}}}};
  spec.options.no_xattrs = true;
  OverlayFixture fs(spec);
  NodeId id = fs.node("f");
  EXPECT_EQ(fs.fs().getxattr(fs.caller, id, "user.a").error(), EOPNOTSUPP);
  EXPECT_EQ(fs.fs().listxattr(fs.caller, id).error(), EOPNOTSUPP);
  EXPECT_EQ(fs.fs().setxattr(fs.caller, id, "user.a", {}, {}).error(), EOPNOTSUPP);
  EXPECT_EQ(fs.fs().removexattr(fs.caller, id, "user.a").error(), EOPNOTSUPP);
}

TEST(Xattrs, TrustedNamesAreRootsOnly) {
  if (!is_root()) GTEST_SKIP() << "needs root";
  OverlayFixture fs({.lower = {{"f", File{"x", 0644, {{"trusted.t", "1"}, {"user.u", "2"}}}}}});
  fuse::Caller user{.uid = 1000, .gid = 1000, .pid = 1};
  EXPECT_EQ(fs.fs().listxattr(user, fs.node("f")), std::string("user.u\0", 7));
  EXPECT_NE(fs.fs().listxattr(fs.caller, fs.node("f"))->find("trusted.t"), std::string::npos);
}

// --- readdir

struct Some final : fuse::DirSink {
  explicit Some(std::size_t most) : limit(most) {}
  bool add(std::string_view name, std::uint64_t, std::uint32_t, std::uint64_t next) override {
    if (taken >= limit) return false;
    ++taken;
    last = next;
    if (name != "." && name != "..") seen.emplace_back(name);
    return true;
  }
  std::size_t limit, taken = 0;
  std::uint64_t last = 0;
  std::vector<std::string> seen;
};

TEST_P(Attributes, ReaddirGoesOnWhileEntriesComeAndGo) {
  Spec spec{.through_wire = GetParam()};
  for (int i = 0; i < 50; ++i) {
    spec.lower.emplace_back("d/low" + std::to_string(i), File{});
    spec.upper.emplace_back("d/up" + std::to_string(i), File{});
  }
  OverlayFixture fs(spec);
  NodeId dir = fs.node("d");
  HandleId handle = fs.fs().opendir(fs.caller, dir, 0)->handle;
  std::map<std::string, int> seen;
  std::uint64_t offset = 0;
  for (int round = 0;; ++round) {
    Some some(7);
    ASSERT_TRUE(fs.fs().readdir(fs.caller, dir, handle, offset, some));
    if (some.taken == 0) break;
    offset = some.last;
    for (const auto& name : some.seen) ++seen[name];
    ASSERT_TRUE(fs.create("d/new" + std::to_string(round)));
    if (round < 10) {
      ASSERT_TRUE(fs.unlink("d/low" + std::to_string(49 - round)));
      ASSERT_TRUE(fs.rename("d/up" + std::to_string(49 - round), "d/moved" + std::to_string(round)));
    }
    ASSERT_LT(round, 100);
  }
  for (int i = 0; i < 40; ++i) {  // what stayed is seen exactly once
    EXPECT_EQ(seen["low" + std::to_string(i)], 1) << i;
    EXPECT_EQ(seen["up" + std::to_string(i)], 1) << i;
  }
  for (const auto& [name, times] : seen) EXPECT_EQ(times, 1) << name;
  // rewinddir() takes a fresh look.
  Some all(1000);
  ASSERT_TRUE(fs.fs().readdir(fs.caller, dir, handle, 0, all));
  Names now(all.seen.begin(), all.seen.end());
  EXPECT_TRUE(now.contains("new0") && now.contains("moved9") && !now.contains("low49"));
  fs.fs().releasedir(dir, handle);
}

struct Plus final : fuse::DirPlusSink {
  bool fits(std::size_t) const override { return entries.size() < 1000; }
  bool add(std::string_view name, const fuse::Entry& entry, std::uint64_t) override {
    if (entries.size() >= limit) return false;
    entries[std::string(name)] = entry;
    return true;
  }
  std::size_t limit = 1000;
  std::map<std::string, fuse::Entry> entries;
};

TEST_P(Attributes, ReaddirplusCountsWhatItGives) {
  OverlayFixture fs({.lower = {{"a", File{"123"}}, {"b/x", File{}}, {"gone", File{}}},
                     .upper = {{"c", File{}}, {"gone", whiteout()}},
                     .through_wire = GetParam()});
  HandleId handle = fs.fs().opendir(fs.caller, NodeId::kRoot, 0)->handle;
  Plus plus;
  ASSERT_TRUE(fs.fs().readdirplus(fs.caller, NodeId::kRoot, handle, 0, plus));
  EXPECT_EQ(plus.entries.size(), 5U);
  EXPECT_EQ(plus.entries.at(".").node, NodeId::kNone);
  EXPECT_EQ(plus.entries.at("..").node, NodeId::kNone);
  EXPECT_EQ(plus.entries.at("a").attr.size, 3U);
  EXPECT_EQ(plus.entries.at("a").node, fs.node("a"));
  for (const auto& [name, entry] : plus.entries) {
    EXPECT_NE(entry.attr.ino, 0U) << name;
    if (entry.node != NodeId::kNone) fs.count(entry.node);
  }
  fs.fs().releasedir(NodeId::kRoot, handle);
  fs.forget_all();
  EXPECT_EQ(fs.engine().stats().nodes, 1U);
}

TEST(Readdir, WhatASinkRefusesIsNotCounted) {
  OverlayFixture fs({.lower = {{"a", File{}}, {"b", File{}}, {"c", File{}}}});
  HandleId handle = fs.fs().opendir(fs.caller, NodeId::kRoot, 0)->handle;
  Plus plus;
  plus.limit = 3;
  ASSERT_TRUE(fs.fs().readdirplus(fs.caller, NodeId::kRoot, handle, 0, plus));
  EXPECT_EQ(fs.engine().stats().nodes, 2U) << "the root and the one that was taken";
  for (const auto& [name, entry] : plus.entries) {
    if (entry.node != NodeId::kNone) fs.fs().forget(entry.node, 1);
  }
  EXPECT_EQ(fs.engine().stats().nodes, 1U);
  fs.fs().releasedir(NodeId::kRoot, handle);
}

TEST(Readdir, ARemovedDirectoryIsEmpty) {
  OverlayFixture fs({.lower = {{"d", Dir{}}}});
  NodeId dir = fs.node("d");
  HandleId handle = fs.fs().opendir(fs.caller, dir, 0)->handle;
  ASSERT_TRUE(fs.rmdir("d"));
  Some some(100);
  auto status = fs.fs().readdir(fs.caller, dir, handle, 0, some);
  EXPECT_TRUE(status || status.error() == ENOENT);
  EXPECT_EQ(some.seen, std::vector<std::string>{});
  fs.fs().releasedir(dir, handle);
}

// --- Files

TEST_P(Attributes, FileCallsReachTheFile) {
  OverlayFixture fs({.lower = {{"f", File{"0123456789"}}}, .through_wire = GetParam()});
  auto& it = fs.fs();
  NodeId id = fs.node("f");
  HandleId handle = fs.open("f", O_RDWR).value();
  EXPECT_TRUE(it.fallocate(fs.caller, id, handle, 0, 0, 8192));
  EXPECT_EQ(fs.attr("f").size, 8192U);
  EXPECT_TRUE(it.setattr(fs.caller, id, {.size = 10, .handle = handle}));
  EXPECT_EQ(it.lseek(fs.caller, id, handle, 0, SEEK_HOLE), 10U);
  EXPECT_EQ(it.copy_file_range(fs.caller, id, handle, 0, id, handle, 10, 5), 5U);
  EXPECT_EQ(fs.read_handle(id, handle), "012345678901234");
  EXPECT_TRUE(it.fsync(fs.caller, id, handle, false));
  it.release(id, handle);
  auto space = it.statfs(fs.caller, NodeId::kRoot);
  ASSERT_TRUE(space);
  EXPECT_GT(space->blocks, 0U);
  EXPECT_EQ(space->namelen, 255U);
}

TEST_P(Attributes, CreateOfWhatIsThereMakesTheKernelLookAgain) {
  OverlayFixture fs({.lower = {{"f", File{"text"}}}, .through_wire = GetParam()});
  // Opening it here would pass by the check of its mode, which the kernel makes after a lookup.
  EXPECT_EQ(fs.fs().create(fs.caller, NodeId::kRoot, "f", O_RDWR | O_CREAT, 0644, 0).error(), ESTALE);
  EXPECT_EQ(fs.fs().create(fs.caller, NodeId::kRoot, "f", O_RDWR | O_CREAT | O_EXCL, 0644, 0).error(), EEXIST);
}

TEST_P(Attributes, TheUmaskIsTheCallers) {
  OverlayFixture fs({.through_wire = GetParam()});
  EXPECT_TRUE(fs.fs().mkdir(fs.caller, NodeId::kRoot, "d", 0777, 027));
  EXPECT_TRUE(fs.fs().mknod(fs.caller, NodeId::kRoot, "f", S_IFREG | 0666, 0, 077));
  EXPECT_EQ(fs.attr("d").mode & 07777, 0750U);
  EXPECT_EQ(fs.attr("f").mode & 07777, 0600U);
}

}  // namespace
}  // namespace vellum::overlay::testing
