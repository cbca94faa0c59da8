// Requests no kernel sends, straight to the engine and over the wire: an errno each, and nothing outside the layers
// is touched. Then the lines Overlay::create answers with.
#include <gtest/gtest.h>

#include "unit/overlay/overlay_fixture.h"

namespace vellum::overlay::testing {
namespace {

using fuse::HandleId;
using fuse::NodeId;
using namespace std::string_literals;

class Hostile : public ::testing::TestWithParam<bool> {
 protected:
  OverlayFixture fs_{
      {.lower = {{"d/f", File{"text"}}, {"f", File{"text"}}}, .upper = {{"u", File{}}}, .through_wire = GetParam()}};
  fuse::Filesystem& it_ = fs_.fs();
  fuse::Caller me_ = fs_.caller;
};
INSTANTIATE_TEST_SUITE_P(All, Hostile, ::testing::Bool(),
                         [](const auto& given) { return given.param ? "wire" : "direct"; });

TEST_P(Hostile, StaleAndInventedNodes) {
  NodeId stale = fs_.node("d/f");
  fs_.forget_all();
  for (NodeId bad : {stale, NodeId{2}, NodeId{12345}, NodeId{~std::uint64_t{0}}, NodeId{(1ULL << 32) + 1}}) {
    EXPECT_EQ(it_.getattr(me_, bad, {}).error(), ESTALE);
    EXPECT_EQ(it_.setattr(me_, bad, {.mode = 0}).error(), ESTALE);
    EXPECT_EQ(it_.lookup(me_, bad, "x").error(), ESTALE);
    EXPECT_EQ(it_.open(me_, bad, O_RDWR, false).error(), ESTALE);
    EXPECT_EQ(it_.opendir(me_, bad, 0).error(), ESTALE);
    EXPECT_EQ(it_.readlink(me_, bad).error(), ESTALE);
    EXPECT_EQ(it_.mkdir(me_, bad, "x", 0755, 0).error(), ESTALE);
    EXPECT_EQ(it_.unlink(me_, bad, "x").error(), ESTALE);
    EXPECT_EQ(it_.rmdir(me_, bad, "x").error(), ESTALE);
    EXPECT_EQ(it_.rename(me_, bad, "x", NodeId::kRoot, "y", {}).error(), ESTALE);
    EXPECT_EQ(it_.rename(me_, NodeId::kRoot, "u", bad, "y", {}).error(), ESTALE);
    EXPECT_EQ(it_.link(me_, bad, NodeId::kRoot, "x").error(), ESTALE);
    EXPECT_EQ(it_.getxattr(me_, bad, "user.x").error(), ESTALE);
    EXPECT_EQ(it_.listxattr(me_, bad).error(), ESTALE);
    EXPECT_EQ(it_.setxattr(me_, bad, "user.x", {}, {}).error(), ESTALE);
    EXPECT_EQ(it_.removexattr(me_, bad, "user.x").error(), ESTALE);
    it_.forget(bad, 3);
  }
  EXPECT_EQ(fs_.read("d/f"), "text");
}

TEST_P(Hostile, AFileAsParent) {
  NodeId file = fs_.node("f");
  EXPECT_EQ(it_.lookup(me_, file, "x").error(), ENOTDIR);
  EXPECT_EQ(it_.mkdir(me_, file, "x", 0755, 0).error(), ENOTDIR);
  EXPECT_EQ(it_.create(me_, file, "x", O_RDWR, 0644, 0).error(), ENOTDIR);
  EXPECT_EQ(it_.symlink(me_, file, "x", "t").error(), ENOTDIR);
  EXPECT_EQ(it_.link(me_, file, file, "x").error(), ENOTDIR);
  EXPECT_EQ(it_.unlink(me_, file, "x").error(), ENOTDIR);
  EXPECT_EQ(it_.rmdir(me_, file, "x").error(), ENOTDIR);
  EXPECT_EQ(it_.rename(me_, NodeId::kRoot, "u", file, "x", {}).error(), ENOTDIR);
  EXPECT_EQ(it_.opendir(me_, file, 0).error(), ENOTDIR);
  EXPECT_FALSE(it_.tmpfile(me_, file, O_RDWR, 0600, 0));
  EXPECT_EQ(it_.open(me_, fs_.node("d"), O_RDONLY, false).error(), EISDIR);
  EXPECT_EQ(it_.readlink(me_, file).error(), EINVAL);
  EXPECT_EQ(it_.setattr(me_, fs_.node("d"), {.size = 0}).error(), EISDIR);
}

TEST_P(Hostile, WrongHandles) {
  NodeId file = fs_.node("f"), dir = fs_.node("d");
  HandleId open_dir = it_.opendir(me_, dir, 0)->handle, open_file = it_.open(me_, file, O_RDONLY, false)->handle;
  std::byte buffer[8];
  struct Sink final : fuse::DirSink {
    bool add(std::string_view, std::uint64_t, std::uint32_t, std::uint64_t) override { return true; }
  } sink;
  for (HandleId bad : {HandleId{0}, HandleId{999}, HandleId{~std::uint64_t{0}}, open_dir}) {
    EXPECT_EQ(it_.read(me_, file, bad, 0, buffer).error(), EBADF);
    EXPECT_EQ(it_.write(me_, file, bad, 0, buffer, false).error(), EBADF);
    EXPECT_EQ(it_.fallocate(me_, file, bad, 0, 0, 10).error(), EBADF);
    EXPECT_EQ(it_.lseek(me_, file, bad, 0, SEEK_END).error(), EBADF);
    EXPECT_EQ(it_.copy_file_range(me_, file, bad, 0, file, bad, 0, 4).error(), EBADF);
    EXPECT_EQ(it_.fsync(me_, file, bad, false).error(), EBADF);
  }
  // Directories are read without a handle as well: then kNone is a right one.
  for (HandleId bad : {HandleId{999}, HandleId{~std::uint64_t{0}}}) {
    EXPECT_EQ(it_.readdir(me_, dir, bad, 0, sink).error(), EBADF);
    it_.release(file, bad);
    it_.releasedir(dir, bad);
  }
  EXPECT_EQ(it_.readdir(me_, dir, open_file, 0, sink).error(), ENOTDIR);
  EXPECT_EQ(it_.write(me_, file, open_file, 0, buffer, false).error(), EBADF);
  it_.release(file, open_dir);  // either kind of release closes a handle, once
  it_.releasedir(dir, open_dir);
  it_.release(file, open_file);
  it_.release(file, open_file);
  EXPECT_EQ(it_.read(me_, file, open_file, 0, buffer).error(), EBADF);
  EXPECT_EQ(fs_.engine().stats().open_handles, 0U);
}

TEST_P(Hostile, NamesThatAreNone) {
  NodeId dir = fs_.node("d");
  const std::string before = fs_.whole_tree();
  // Beside the layers there are "upper", "work" and "lower0": no name may lead there. Every name stays within the
  // fixture's own directory even if the engine follows it: these run as root.
  for (const std::string& name : {""s, "f/"s, "./f"s, "../u"s, "../../upper"s, "../f"s, fs_.upper("u"), "."s, ".."s,
                                  std::string(256, 'x'), std::string(5000, 'y')}) {
    SCOPED_TRACE(name.substr(0, 20));
    EXPECT_FALSE(it_.mkdir(me_, dir, name, 0755, 0));
    EXPECT_FALSE(it_.create(me_, dir, name, O_RDWR, 0644, 0));
    EXPECT_FALSE(it_.mknod(me_, dir, name, S_IFREG | 0644, 0, 0));
    EXPECT_FALSE(it_.symlink(me_, dir, name, "t"));
    EXPECT_FALSE(it_.link(me_, fs_.node("u"), dir, name));
    EXPECT_FALSE(it_.unlink(me_, dir, name));
    EXPECT_FALSE(it_.rmdir(me_, dir, name));
    EXPECT_FALSE(it_.rename(me_, dir, name, NodeId::kRoot, "stolen", {}));
    EXPECT_FALSE(it_.rename(me_, NodeId::kRoot, "u", dir, name, {}));
    EXPECT_FALSE(it_.rename(me_, NodeId::kRoot, "u", dir, name, {.exchange = true}));
    if (name == "." || name == "..") continue;  // a lookup of these is NFS export's
    auto found = it_.lookup(me_, dir, name);
    EXPECT_TRUE(!found || found->node == NodeId::kNone);
  }
  EXPECT_EQ(fs_.whole_tree(), before);
  EXPECT_TRUE(exists(fs_.upper()));
}

TEST_P(Hostile, WhiteoutsCannotBeForged) {
  for (const char* name : {".wh.f", ".wh..wh..opq", ".wh."}) {
    EXPECT_EQ(fs_.create(name).error(), EPERM) << name;
    EXPECT_EQ(fs_.mkdir(name).error(), EPERM) << name;
    EXPECT_EQ(fs_.symlink("t", name).error(), EPERM) << name;
    EXPECT_EQ(fs_.link("u", name).error(), EPERM) << name;
    EXPECT_EQ(fs_.rename("u", name).error(), EPERM) << name;
    EXPECT_EQ(fs_.unlink(name).error(), ENOENT) << name;
    EXPECT_EQ(fs_.rmdir(name).error(), ENOENT) << name;
  }
  EXPECT_EQ(it_.mknod(me_, NodeId::kRoot, "dev", S_IFCHR | 0600, 0, 0).error(), EPERM);
  EXPECT_FALSE(it_.mknod(me_, NodeId::kRoot, "dir", S_IFDIR | 0700, 0, 0));
  EXPECT_FALSE(it_.mknod(me_, NodeId::kRoot, "lnk", S_IFLNK | 0700, 0, 0));
  EXPECT_EQ(fs_.names(), (std::set<std::string>{"d", "f", "u"}));
}

TEST_P(Hostile, HugeOffsetsAndSizes) {
  NodeId file = fs_.node("u");
  HandleId handle = it_.open(me_, file, O_RDWR, false)->handle;
  std::byte buffer[8]{};
  for (std::uint64_t offset :
       {std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{0} - 7, (std::uint64_t{1} << 63) - 1}) {
    auto got = it_.read(me_, file, handle, offset, buffer);
    EXPECT_TRUE(!got || *got == 0) << offset;
    EXPECT_FALSE(it_.write(me_, file, handle, offset, buffer, false)) << offset;
    EXPECT_FALSE(it_.fallocate(me_, file, handle, 0, offset, ~std::uint64_t{0})) << offset;
    EXPECT_FALSE(it_.lseek(me_, file, handle, offset, SEEK_DATA)) << offset;
    EXPECT_FALSE(it_.setattr(me_, file, {.size = offset})) << offset;
    auto copied = it_.copy_file_range(me_, file, handle, offset, file, handle, 0, ~std::size_t{0});
    EXPECT_TRUE(!copied || *copied == 0) << offset;
  }
  EXPECT_EQ(fs_.attr("u").size, 0U);
  EXPECT_FALSE(it_.lseek(me_, file, handle, 0, 77));
  it_.release(file, handle);
}

TEST_P(Hostile, ReaddirFromNowhere) {
  NodeId dir = fs_.node("d");
  HandleId handle = it_.opendir(me_, dir, 0)->handle;
  struct Sink final : fuse::DirSink {
    bool add(std::string_view, std::uint64_t, std::uint32_t, std::uint64_t) override { return ++count < 100; }
    int count = 0;
  };
  for (std::uint64_t offset : {std::uint64_t{3}, std::uint64_t{1000}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    Sink sink;
    EXPECT_TRUE(it_.readdir(me_, dir, handle, offset, sink)) << offset;
    EXPECT_EQ(sink.count, 0) << offset;
  }
  it_.releasedir(dir, handle);
}

TEST_P(Hostile, ForgetTooMuch) {
  NodeId dir = fs_.node("d"), file = fs_.node("d/f");
  HandleId handle = it_.open(me_, file, O_RDONLY, false)->handle;
  it_.forget(NodeId::kRoot, 1000);
  it_.forget(file, 1000000);
  it_.forget(dir, ~std::uint64_t{0});
  EXPECT_EQ(fs_.read_handle(file, handle), "text") << "an open handle keeps its node";
  EXPECT_TRUE(it_.getattr(me_, NodeId::kRoot, {}));
  it_.release(file, handle);
  ignore(it_.statfs(me_, NodeId::kRoot));
  EXPECT_EQ(fs_.read("d/f"), "text");
}

TEST_P(Hostile, XattrNamesThatAreNone) {
  NodeId file = fs_.node("u");
  const std::string huge(300, 'x');
  for (const std::string& name : {""s, "user."s, "nonsense"s, "user." + huge, huge}) {
    EXPECT_FALSE(it_.setxattr(me_, file, name, {}, {})) << name;
    EXPECT_FALSE(it_.getxattr(me_, file, name)) << name;
    EXPECT_FALSE(it_.removexattr(me_, file, name)) << name;
  }
}

// --- Overlay::create

class Create : public ::testing::Test {
 protected:
  Create() {
    for (const char* name : {"low", "low/in", "up", "up/in", "work"}) std::filesystem::create_directory(dir_ / name);
    write_file(dir_ / "file", "");
    options_.lower_dirs = {dir_ / "low"};
    options_.upper_dir = dir_ / "up";
    options_.work_dir = dir_ / "work";
  }
  std::string error() const {
    auto made = Overlay::create(options_);
    return made ? "" : made.error().why;
  }
  void expect_error(const std::string& option, const std::string& path, const std::string& part) {
    const std::string got = error();
    EXPECT_TRUE(got.starts_with(option + "=" + path + ":")) << got;
    EXPECT_NE(got.find(part), std::string::npos) << got;
    EXPECT_EQ(got.find('\n'), std::string::npos) << got;
  }

  TempDir dir_;
  Options options_;
};

TEST_F(Create, Works) { EXPECT_EQ(error(), ""); }

TEST_F(Create, NoLower) {
  options_.lower_dirs.clear();
  EXPECT_EQ(error(), "lowerdir= is missing: name at least one lower layer");
}

TEST_F(Create, TooManyLowers) {
  options_.lower_dirs.assign(501, dir_ / "low");
  EXPECT_NE(error().find("501"), std::string::npos);
}

TEST_F(Create, WhatDoesNotExist) {
  options_.lower_dirs.push_back(dir_ / "none");
  expect_error("lowerdir", dir_ / "none", "ENOENT");
  options_.lower_dirs.pop_back();
  options_.upper_dir = dir_ / "none";
  expect_error("upperdir", dir_ / "none", "ENOENT");
  options_.upper_dir = dir_ / "up";
  options_.work_dir = dir_ / "none";
  expect_error("workdir", dir_ / "none", "ENOENT");
}

TEST_F(Create, WhatIsNoDirectory) {
  options_.lower_dirs.push_back(dir_ / "file");
  expect_error("lowerdir", dir_ / "file", "ENOTDIR");
  options_.lower_dirs.pop_back();
  options_.upper_dir = dir_ / "file";
  expect_error("upperdir", dir_ / "file", "ENOTDIR");
}

TEST_F(Create, UpperNeedsWork) {
  options_.work_dir.clear();
  EXPECT_TRUE(error().starts_with("workdir= is missing")) << error();
}

TEST_F(Create, WorkOnAnotherDevice) {
  if (!exists("/dev/shm")) GTEST_SKIP();
  TempDir other("/dev/shm");
  options_.work_dir = other.path();
  expect_error("workdir", other.path(), "is not on the file system of upperdir=" + dir_ / "up");
}

TEST_F(Create, WorkAndUpperWithinEachOther) {
  options_.work_dir = dir_ / "up";
  expect_error("workdir", dir_ / "up", "separate");
  options_.work_dir = dir_ / "up/in";
  expect_error("workdir", dir_ / "up/in", "separate");
  options_.upper_dir = dir_ / "low/in";
  options_.work_dir = dir_ / "low";
  options_.lower_dirs = {dir_ / "up"};
  expect_error("workdir", dir_ / "low", "separate");
}

TEST_F(Create, UpperInsideLower) {
  options_.upper_dir = dir_ / "low/in";
  expect_error("upperdir", dir_ / "low/in", "lies inside lowerdir=" + dir_ / "low");
  options_.upper_dir = dir_ / "low";
  expect_error("upperdir", dir_ / "low", "lies inside");
}

TEST_F(Create, AVolatileMountThatDied) {
  options_.is_volatile = true;
  {
    auto made = Overlay::create(options_);
    ASSERT_TRUE(made);
    EXPECT_TRUE(exists(dir_ / "work/work/incompat/volatile"));
  }  // no destroy(): as if killed
  expect_error("workdir", dir_ / "work", "volatile");
  std::filesystem::remove_all(dir_ / "work/work/incompat");
  auto made = Overlay::create(options_);
  ASSERT_TRUE(made);
  (*made)->destroy();
  EXPECT_FALSE(exists(dir_ / "work/work/incompat"));
}

TEST_F(Create, CleansWhatAKilledMountLeft) {
  std::filesystem::create_directories(dir_ / "work/work/#rm1/deep/er");
  write_file(dir_ / "work/work/#copy2", "half");
  EXPECT_EQ(error(), "");
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "work/work"));
}

}  // namespace
}  // namespace vellum::overlay::testing
