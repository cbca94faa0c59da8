// Each operation once around: Client encodes, Session decodes, MemoryFs acts, Session encodes, Client decodes.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#include "fuse/decode.h"
#include "fuse/loopback.h"
#include "unit/fuse/memory_fs.h"

namespace vellum::fuse {
namespace {

using testing::MemoryFs;

constexpr Caller kCaller{.uid = 1000, .gid = 1001, .pid = 77};

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

class Operations : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(loopback_.started()); }

  // Every path leaves the books balanced: what was counted can be given back, what was opened is closed.
  Created make_file(std::string_view name, std::string_view content = {}) {
    const auto made = client_.create(kCaller, NodeId::kRoot, name, O_RDWR, 0644, 0);
    EXPECT_TRUE(made);
    if (!content.empty()) {
      EXPECT_EQ(client_.write(kCaller, made->entry.node, made->open.handle, 0, bytes(content), false), content.size());
    }
    return *made;
  }

  MemoryFs fs_;
  Loopback loopback_{fs_};
  Client& client_ = loopback_.client();
};

TEST_F(Operations, LookupCountsAndForgetGivesBack) {
  const auto made = client_.mkdir(kCaller, NodeId::kRoot, "d", 0755, 0);
  ASSERT_TRUE(made);
  EXPECT_EQ(client_.lookup(kCaller, NodeId::kRoot, "d")->node, made->node);
  EXPECT_EQ(fs_.lookups(made->node), 2U);
  client_.forget(made->node, 2);
  // FORGET has no reply; one worker answers in order.
  EXPECT_EQ(client_.lookup(kCaller, NodeId::kRoot, "nothing").error(), ENOENT);
  EXPECT_EQ(fs_.lookups(made->node), 0U);
}

TEST_F(Operations, BatchForgetGivesBackEach) {
  const NodeId a = client_.mkdir(kCaller, NodeId::kRoot, "a", 0755, 0)->node;
  const NodeId b = client_.mkdir(kCaller, NodeId::kRoot, "b", 0755, 0)->node;
  const abi::ForgetOne items[] = {{raw(a), 1}, {raw(b), 1}, {999, 5}, {0, 1}};
  EXPECT_TRUE(client_.forget_batch(items));
  EXPECT_TRUE(client_.statfs(kCaller, NodeId::kRoot));
  EXPECT_EQ(fs_.counted_lookups(), 0U);
}

TEST_F(Operations, CallerTravels) {
  EXPECT_FALSE(client_.lookup(kCaller, NodeId::kRoot, "x"));
  EXPECT_EQ(fs_.last_caller().uid, kCaller.uid);
  EXPECT_EQ(fs_.last_caller().gid, kCaller.gid);
  EXPECT_EQ(fs_.last_caller().pid, kCaller.pid);
}

TEST_F(Operations, NamesAreBytes) {
  const std::string name = "\xff\x01 \n\"" + std::string(250, 'x');
  ASSERT_EQ(name.size(), 255U);
  EXPECT_TRUE(client_.mkdir(kCaller, NodeId::kRoot, name, 0755, 0));
  EXPECT_TRUE(client_.lookup(kCaller, NodeId::kRoot, name));
}

TEST_F(Operations, AttributesOfEveryKind) {
  const auto device = client_.mknod(kCaller, NodeId::kRoot, "tty", S_IFCHR | 0620, makedev(4095, 0xfffff), 022);
  ASSERT_TRUE(device);
  const auto attr = client_.getattr(kCaller, device->node, std::nullopt);
  ASSERT_TRUE(attr);
  EXPECT_EQ(attr->attr.mode, static_cast<std::uint32_t>(S_IFCHR | 0600));
  EXPECT_EQ(attr->attr.rdev, makedev(4095, 0xfffff));
  EXPECT_EQ(attr->attr.uid, kCaller.uid);
  EXPECT_EQ(attr->attr.ino, raw(device->node));
  EXPECT_EQ(attr->attr.mtime, (Timestamp{1'700'000'000, 123'456'789}));
  EXPECT_FALSE(attr->attr.btime);
}

TEST_F(Operations, StatxBringsTheBirthTime) {
  const auto made = make_file("f", "four");
  const auto attr = client_.statx(kCaller, made.entry.node, made.open.handle);
  ASSERT_TRUE(attr);
  EXPECT_EQ(attr->attr.btime, (Timestamp{1'500'000'000, 7}));
  EXPECT_EQ(attr->attr.size, 4U);
  EXPECT_EQ(attr->attr.mode, static_cast<std::uint32_t>(S_IFREG | 0644));
}

TEST_F(Operations, SetattrInAllParts) {
  const auto made = make_file("f", "content");
  SetAttr change;
  change.mode = 04711;
  change.uid = 5;
  change.gid = 0xfffffffe;
  change.size = 3;
  change.atime = Timestamp{-5, 999'999'999};
  change.mtime_now = true;
  change.handle = made.open.handle;
  const auto attr = client_.setattr(kCaller, made.entry.node, change);
  ASSERT_TRUE(attr);
  EXPECT_EQ(attr->attr.mode, static_cast<std::uint32_t>(S_IFREG | 04711));
  EXPECT_EQ(attr->attr.uid, 5U);
  EXPECT_EQ(attr->attr.gid, 0xfffffffeU);
  EXPECT_EQ(attr->attr.size, 3U);
  EXPECT_EQ(attr->attr.atime, (Timestamp{-5, 999'999'999}));
  EXPECT_EQ(attr->attr.mtime, (Timestamp{1'700'000'000, 123'456'789}));
  EXPECT_EQ(fs_.content(made.entry.node), "con");
}

TEST_F(Operations, SetattrKillsPrivileges) {
  const auto made = make_file("f");
  ASSERT_TRUE(client_.setattr(kCaller, made.entry.node, {.mode = 06755}));
  SetAttr change;
  change.size = 0;
  change.kill_suidgid = true;
  EXPECT_EQ(client_.setattr(kCaller, made.entry.node, change)->attr.mode & 07777U, 0755U);
}

TEST_F(Operations, SymlinkAndReadlink) {
  const std::string target(4095, 't');
  const auto made = client_.symlink(kCaller, NodeId::kRoot, "s", target);
  ASSERT_TRUE(made);
  EXPECT_EQ(client_.readlink(kCaller, made->node), target);
  EXPECT_EQ(client_.readlink(kCaller, NodeId::kRoot).error(), EINVAL);
}

TEST_F(Operations, UnlinkAndRmdir) {
  make_file("f");
  EXPECT_TRUE(client_.mkdir(kCaller, NodeId::kRoot, "d", 0755, 0));
  EXPECT_EQ(client_.unlink(kCaller, NodeId::kRoot, "d").error(), EISDIR);
  EXPECT_EQ(client_.rmdir(kCaller, NodeId::kRoot, "f").error(), ENOTDIR);
  EXPECT_TRUE(client_.unlink(kCaller, NodeId::kRoot, "f"));
  EXPECT_TRUE(client_.rmdir(kCaller, NodeId::kRoot, "d"));
  EXPECT_EQ(client_.lookup(kCaller, NodeId::kRoot, "f").error(), ENOENT);
}

TEST_F(Operations, RenameWithEachFlag) {
  const auto a = make_file("a", "A");
  const auto b = make_file("b", "B");
  EXPECT_EQ(client_.rename(kCaller, NodeId::kRoot, "a", NodeId::kRoot, "b", {.noreplace = true}).error(), EEXIST);
  EXPECT_TRUE(client_.rename(kCaller, NodeId::kRoot, "a", NodeId::kRoot, "b", {.exchange = true}));
  EXPECT_EQ(client_.lookup(kCaller, NodeId::kRoot, "a")->node, b.entry.node);
  EXPECT_TRUE(client_.rename(kCaller, NodeId::kRoot, "a", NodeId::kRoot, "b", {}));
  EXPECT_EQ(client_.lookup(kCaller, NodeId::kRoot, "b")->node, b.entry.node);
  EXPECT_EQ(client_.lookup(kCaller, NodeId::kRoot, "a").error(), ENOENT);
  EXPECT_EQ(client_.rename(kCaller, NodeId::kRoot, "b", NodeId::kRoot, "c", {.whiteout = true}).error(), EINVAL);
  EXPECT_EQ(fs_.content(a.entry.node), "A");
}

TEST_F(Operations, LinkIsTheSameNode) {
  const auto made = make_file("f");
  const auto linked = client_.link(kCaller, made.entry.node, NodeId::kRoot, "g");
  ASSERT_TRUE(linked);
  EXPECT_EQ(linked->node, made.entry.node);
  EXPECT_EQ(linked->attr.nlink, 2U);
}

TEST_F(Operations, OpenReadWriteRelease) {
  const auto made = make_file("f", "hello");
  const auto opened = client_.open(kCaller, made.entry.node, O_RDONLY, false);
  ASSERT_TRUE(opened);
  EXPECT_EQ(fs_.open_handles(), 2U);
  std::string buffer(10, '.');
  const auto got = client_.read(kCaller, made.entry.node, opened->handle, 1, std::as_writable_bytes(std::span(buffer)));
  EXPECT_EQ(got, 4U);
  EXPECT_EQ(buffer, "ello......");
  EXPECT_TRUE(client_.flush(kCaller, made.entry.node, opened->handle));
  EXPECT_TRUE(client_.fsync(kCaller, made.entry.node, opened->handle, true));
  client_.release(made.entry.node, opened->handle);
  client_.release(made.entry.node, made.open.handle);
  EXPECT_EQ(fs_.open_handles(), 0U);
  EXPECT_EQ(client_.flush(kCaller, made.entry.node, opened->handle).error(), EBADF);
}

TEST_F(Operations, OpenTruncatesAndKillsPrivileges) {
  const auto made = make_file("f", "hello");
  ASSERT_TRUE(client_.setattr(kCaller, made.entry.node, {.mode = 04755}));
  ASSERT_TRUE(client_.open(kCaller, made.entry.node, O_WRONLY | O_TRUNC, true));
  const auto attr = client_.getattr(kCaller, made.entry.node, std::nullopt);
  EXPECT_EQ(attr->attr.size, 0U);
  EXPECT_EQ(attr->attr.mode & 07777U, 0755U);
}

TEST_F(Operations, WritesUpToTheLimitAndReadsBack) {
  const auto made = make_file("f");
  const std::size_t most = fs_.connection().max_write;
  ASSERT_GE(most, 65536U);
  std::string big(most, 'x');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 31 % 251);
  EXPECT_EQ(client_.write(kCaller, made.entry.node, made.open.handle, 4096, bytes(big), false), most);
  std::string back(most, '.');
  EXPECT_EQ(client_.read(kCaller, made.entry.node, made.open.handle, 4096, std::as_writable_bytes(std::span(back))),
            most);
  EXPECT_EQ(back, big);
}

TEST_F(Operations, ReadBeyondTheLimitIsRefusedNotShortened) {
  const auto made = make_file("f");
  std::string buffer(std::size_t{2} << 20, '.');
  EXPECT_EQ(
      client_.read(kCaller, made.entry.node, made.open.handle, 0, std::as_writable_bytes(std::span(buffer))).error(),
      EINVAL);
}

TEST_F(Operations, WriteKillsPrivileges) {
  const auto made = make_file("f");
  ASSERT_TRUE(client_.setattr(kCaller, made.entry.node, {.mode = 06755}));
  ASSERT_TRUE(client_.write(kCaller, made.entry.node, made.open.handle, 0, bytes("x"), true));
  EXPECT_EQ(client_.getattr(kCaller, made.entry.node, std::nullopt)->attr.mode & 07777U, 0755U);
}

TEST_F(Operations, CreateAppliesTheMaskOnce) {
  const auto made = client_.create(kCaller, NodeId::kRoot, "f", O_RDWR, 06777, 027);
  EXPECT_EQ(made->entry.attr.mode, static_cast<std::uint32_t>(S_IFREG | 06750));
}

TEST_F(Operations, TmpfileHasNoName) {
  const auto made = client_.tmpfile(kCaller, NodeId::kRoot, O_RDWR, 0600, 0);
  ASSERT_TRUE(made);
  EXPECT_EQ(made->entry.attr.nlink, 0U);
  EXPECT_EQ(client_.write(kCaller, made->entry.node, made->open.handle, 0, bytes("x"), false), 1U);
  const auto linked = client_.link(kCaller, made->entry.node, NodeId::kRoot, "born");
  EXPECT_EQ(linked->attr.nlink, 1U);
}

TEST_F(Operations, Statfs) {
  const auto statfs = client_.statfs(kCaller, NodeId::kRoot);
  ASSERT_TRUE(statfs);
  EXPECT_EQ(statfs->blocks, 1000U);
  EXPECT_EQ(statfs->bavail, 400U);
  EXPECT_EQ(statfs->ffree, 77U);
  EXPECT_EQ(statfs->namelen, 255U);
}

TEST_F(Operations, Syncfs) {
  EXPECT_TRUE(client_.syncfs(kCaller, NodeId::kRoot));
  EXPECT_EQ(fs_.syncfs_calls(), 1);
}

TEST_F(Operations, Access) {
  const auto made = make_file("f");
  EXPECT_TRUE(client_.access(kCaller, made.entry.node, R_OK));
  EXPECT_EQ(client_.access(kCaller, made.entry.node, X_OK).error(), EACCES);
}

TEST_F(Operations, XattrsWithTheirRules) {
  const NodeId node = make_file("f").entry.node;
  EXPECT_EQ(client_.getxattr(kCaller, node, "user.a").error(), ENODATA);
  EXPECT_EQ(client_.setxattr(kCaller, node, "user.a", bytes("1"), {.replace = true}).error(), ENODATA);
  EXPECT_TRUE(client_.setxattr(kCaller, node, "user.a", bytes("12345"), {.create = true}));
  EXPECT_EQ(client_.setxattr(kCaller, node, "user.a", bytes("1"), {.create = true}).error(), EEXIST);
  EXPECT_TRUE(client_.setxattr(kCaller, node, "user.b", {}, {}));
  EXPECT_EQ(client_.getxattr(kCaller, node, "user.a"), "12345");
  EXPECT_EQ(client_.getxattr(kCaller, node, "user.b"), "");
  EXPECT_EQ(client_.xattr_length(kCaller, node, "user.a"), 5U);
  EXPECT_EQ(client_.xattr_length(kCaller, node, ""), 14U);
  EXPECT_EQ(client_.listxattr(kCaller, node), std::string("user.a\0user.b\0", 14));
  client_.set_xattr_size(4);
  EXPECT_EQ(client_.getxattr(kCaller, node, "user.a").error(), ERANGE);
  EXPECT_EQ(client_.listxattr(kCaller, node).error(), ERANGE);
  EXPECT_TRUE(client_.removexattr(kCaller, node, "user.a"));
  EXPECT_EQ(client_.removexattr(kCaller, node, "user.a").error(), ENODATA);
}

TEST_F(Operations, LargestXattr) {
  const NodeId node = make_file("f").entry.node;
  const std::string value(65536, 'v');
  EXPECT_TRUE(client_.setxattr(kCaller, node, std::string("user.") + std::string(250, 'n'), bytes(value), {}));
  EXPECT_EQ(client_.getxattr(kCaller, node, std::string("user.") + std::string(250, 'n')), value);
}

TEST_F(Operations, FallocateAndLseek) {
  const auto made = make_file("f", "0123456789");
  EXPECT_TRUE(client_.fallocate(kCaller, made.entry.node, made.open.handle, FALLOC_FL_KEEP_SIZE, 0, 100));
  EXPECT_EQ(client_.lseek(kCaller, made.entry.node, made.open.handle, 3, SEEK_HOLE), 10U);
  EXPECT_TRUE(client_.fallocate(kCaller, made.entry.node, made.open.handle, 0, 10, 10));
  EXPECT_EQ(client_.lseek(kCaller, made.entry.node, made.open.handle, 19, SEEK_DATA), 19U);
  EXPECT_EQ(client_.lseek(kCaller, made.entry.node, made.open.handle, 20, SEEK_DATA).error(), ENXIO);
  EXPECT_EQ(client_.fallocate(kCaller, made.entry.node, made.open.handle, FALLOC_FL_COLLAPSE_RANGE, 0, 1).error(),
            EOPNOTSUPP);
}

TEST_F(Operations, Ioctl) {
  const auto made = make_file("f");
  IoctlRequest request{.command = MemoryFs::kEchoCommand, .in = bytes("abcd"), .out_size = 3};
  const auto reply = client_.ioctl(kCaller, made.entry.node, made.open.handle, request);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->out, "dcb");
  request.command = 1;
  EXPECT_EQ(client_.ioctl(kCaller, made.entry.node, made.open.handle, request).error(), ENOTTY);
}

struct NameSink final : DirSink {
  bool add(std::string_view name, std::uint64_t ino, std::uint32_t type, std::uint64_t next) override {
    names.emplace_back(name);
    inos.push_back(ino);
    types.push_back(type);
    last = next;
    return true;
  }
  std::vector<std::string> names;
  std::vector<std::uint64_t> inos;
  std::vector<std::uint32_t> types;
  std::uint64_t last = 0;
};

struct PlusSink final : DirPlusSink {
  bool fits(std::size_t) const override { return true; }
  bool add(std::string_view name, const Entry& entry, std::uint64_t next) override {
    names.emplace_back(name);
    nodes.push_back(entry.node);
    last = next;
    return true;
  }
  std::vector<std::string> names;
  std::vector<NodeId> nodes;
  std::uint64_t last = 0;
};

TEST_F(Operations, ReaddirContinuesAcrossReplies) {
  constexpr int kFiles = 300;
  for (int i = 0; i < kFiles; ++i)
    ASSERT_TRUE(client_.mknod(kCaller, NodeId::kRoot, "file-" + std::to_string(i), S_IFREG | 0644, 0, 0));
  const auto opened = client_.opendir(kCaller, NodeId::kRoot, 0);
  ASSERT_TRUE(opened);
  client_.set_directory_size(512);
  NameSink sink;
  std::size_t before = 0;
  int rounds = 0;
  do {
    before = sink.names.size();
    ASSERT_TRUE(client_.readdir(kCaller, NodeId::kRoot, opened->handle, sink.last, sink));
    ++rounds;
  } while (sink.names.size() > before);
  EXPECT_GT(rounds, 10);
  EXPECT_EQ(sink.names.size(), kFiles + 2U);
  EXPECT_EQ(sink.names.front(), ".");
  EXPECT_EQ(sink.types.front(), std::uint32_t{DT_DIR});
  EXPECT_EQ(sink.types.back(), std::uint32_t{DT_REG});
  EXPECT_EQ(sink.names.back(), "file-299");
  EXPECT_TRUE(client_.fsyncdir(kCaller, NodeId::kRoot, opened->handle, false));
  client_.releasedir(NodeId::kRoot, opened->handle);
  EXPECT_EQ(fs_.open_handles(), 0U);
}

TEST_F(Operations, ReaddirplusCountsWhatItDelivers) {
  for (int i = 0; i < 50; ++i)
    ASSERT_TRUE(client_.mknod(kCaller, NodeId::kRoot, "file-" + std::to_string(i), S_IFREG | 0644, 0, 0));
  const auto opened = client_.opendir(kCaller, NodeId::kRoot, 0);
  client_.set_directory_size(1024);
  PlusSink sink;
  std::size_t before = 0;
  do {
    before = sink.names.size();
    ASSERT_TRUE(client_.readdirplus(kCaller, NodeId::kRoot, opened->handle, sink.last, sink));
  } while (sink.names.size() > before);
  EXPECT_EQ(sink.names.size(), 52U);
  EXPECT_EQ(sink.nodes[0], NodeId::kNone);
  for (std::size_t i = 2; i < sink.nodes.size(); ++i) EXPECT_EQ(fs_.lookups(sink.nodes[i]), 2U);
}

TEST_F(Operations, WithoutAMeaningHereAnswerEnosys) {
  using abi::Opcode;
  for (const Opcode op : {Opcode::kGetlk, Opcode::kSetlk, Opcode::kSetlkw, Opcode::kBmap, Opcode::kPoll,
                          Opcode::kSetupMapping, Opcode::kRemoveMapping}) {
    const std::byte body[64] = {};
    const auto reply = client_.call(static_cast<std::uint32_t>(op), NodeId::kRoot, kCaller, {body});
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, ENOSYS) << opcode_name(static_cast<std::uint32_t>(op));
  }
  for (const std::uint32_t unknown : {0U, 7U, 19U, 54U, 4096U, 0xffffffffU}) {
    const auto reply = client_.call(unknown, NodeId::kRoot, kCaller, {});
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, ENOSYS) << unknown;
  }
}

TEST_F(Operations, InterruptIsTolerated) {
  EXPECT_TRUE(client_.interrupt(4));
  EXPECT_TRUE(client_.statfs(kCaller, NodeId::kRoot));
}

TEST_F(Operations, DestroyComesOnceAfterAll) {
  client_.destroy();
  EXPECT_FALSE(fs_.destroyed());
  EXPECT_TRUE(loopback_.finish());
  EXPECT_TRUE(fs_.destroyed());
}

TEST_F(Operations, StatisticsTell) {
  make_file("f", "12345");
  EXPECT_FALSE(client_.lookup(kCaller, NodeId::kRoot, "none"));
  EXPECT_TRUE(client_.lookup(kCaller, NodeId::kRoot, "f"));
  const SessionStats stats = loopback_.session().stats();
  EXPECT_EQ(stats.minor, 45U);
  EXPECT_STREQ(stats.transport, "socket");
  EXPECT_EQ(stats.bytes_written, 5U);
  const auto lookup = std::ranges::find(stats.operations, "LOOKUP", &OperationStats::name);
  ASSERT_NE(lookup, stats.operations.end());
  // The reply may be read before the worker counted it.
  EXPECT_GE(lookup->count, 1U);
  EXPECT_EQ(lookup->errors, 1U);
  EXPECT_GT(lookup->quantile_ns(0.5), 0U);
  EXPECT_NE(to_json(stats).find(R"("LOOKUP":{"count":)"), std::string::npos);
}

}  // namespace
}  // namespace vellum::fuse
