// The same use of a file system over each transport: a packet socket without a kernel, /dev/fuse and io_uring under a
// kernel.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include "fuse/loopback.h"
#include "unit/fuse/memory_fs.h"
#include "unit/fuse/mounted.h"
#include "unit/fuse/uring_switch.h"

namespace vellum::fuse {
namespace {

using testing::MemoryFs;

// What a user does with a tree of one level; errors as positive errnos, 0 for success.
class Tree {
 public:
  virtual ~Tree() = default;
  virtual int write(const std::string& name, const std::string& content) = 0;
  virtual std::string read(const std::string& name) = 0;
  virtual int mkdir(const std::string& name) = 0;
  virtual int rename(const std::string& from, const std::string& to) = 0;
  virtual int unlink(const std::string& name) = 0;
  virtual int rmdir(const std::string& name) = 0;
  virtual int chmod(const std::string& name, mode_t mode) = 0;
  virtual mode_t mode(const std::string& name) = 0;
  virtual std::multiset<std::string> list() = 0;
  virtual SessionStats stats() = 0;
};

int number(const Status& status) { return status ? 0 : status.error().value(); }

class SocketTree final : public Tree {
 public:
  explicit SocketTree(MemoryFs& fs) : loopback_(fs, {.threads = 2}) { EXPECT_TRUE(loopback_.started()); }

  int write(const std::string& name, const std::string& content) override {
    const auto made = client().create({}, NodeId::kRoot, name, O_WRONLY, 0644, 0);
    if (!made) return made.error().value();
    const std::size_t most = 65536;
    for (std::size_t at = 0; at < content.size(); at += most) {
      const auto piece = std::as_bytes(std::span(content)).subspan(at, std::min(most, content.size() - at));
      EXPECT_EQ(client().write({}, made->entry.node, made->open.handle, at, piece, false), piece.size());
    }
    client().release(made->entry.node, made->open.handle);
    client().forget(made->entry.node, 1);
    return 0;
  }
  std::string read(const std::string& name) override {
    const auto entry = client().lookup({}, NodeId::kRoot, name);
    if (!entry) return "?";
    const auto opened = client().open({}, entry->node, O_RDONLY, false);
    std::string content;
    std::string piece(65536, '\0');
    while (true) {
      const auto got =
          client().read({}, entry->node, opened->handle, content.size(), std::as_writable_bytes(std::span(piece)));
      if (!got || *got == 0) break;
      content.append(piece, 0, *got);
    }
    client().release(entry->node, opened->handle);
    client().forget(entry->node, 1);
    return content;
  }
  int mkdir(const std::string& name) override {
    const auto made = client().mkdir({}, NodeId::kRoot, name, 0755, 0);
    if (!made) return made.error().value();
    client().forget(made->node, 1);
    return 0;
  }
  int rename(const std::string& from, const std::string& to) override {
    return number(client().rename({}, NodeId::kRoot, from, NodeId::kRoot, to, {}));
  }
  int unlink(const std::string& name) override { return number(client().unlink({}, NodeId::kRoot, name)); }
  int rmdir(const std::string& name) override { return number(client().rmdir({}, NodeId::kRoot, name)); }
  int chmod(const std::string& name, mode_t mode) override {
    const auto entry = client().lookup({}, NodeId::kRoot, name);
    if (!entry) return entry.error().value();
    const auto attr = client().setattr({}, entry->node, {.mode = mode});
    client().forget(entry->node, 1);
    return attr ? 0 : attr.error().value();
  }
  mode_t mode(const std::string& name) override {
    const auto entry = client().lookup({}, NodeId::kRoot, name);
    if (!entry) return 0;
    client().forget(entry->node, 1);
    return entry->attr.mode;
  }
  std::multiset<std::string> list() override {
    struct Names final : DirSink {
      bool add(std::string_view name, std::uint64_t, std::uint32_t, std::uint64_t next) override {
        if (name != "." && name != "..") names.emplace(name);
        last = next;
        ++count;
        return true;
      }
      std::multiset<std::string> names;
      std::uint64_t last = 0;
      int count = 0;
    } sink;
    const auto opened = client().opendir({}, NodeId::kRoot, 0);
    for (int before = -1; before != sink.count;) {
      before = sink.count;
      EXPECT_TRUE(client().readdir({}, NodeId::kRoot, opened->handle, sink.last, sink));
    }
    client().releasedir(NodeId::kRoot, opened->handle);
    return sink.names;
  }
  SessionStats stats() override { return loopback_.session().stats(); }

 private:
  Client& client() { return loopback_.client(); }
  Loopback loopback_;
};

class MountedTree final : public Tree {
 public:
  MountedTree(MemoryFs& fs, bool io_uring) : mounted_(fs, {.wishes = {.io_uring = io_uring}}) {
    EXPECT_EQ(mounted_.error(), "");
  }

  int write(const std::string& name, const std::string& content) override {
    const int fd = ::open(at(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return errno;
    EXPECT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    ::close(fd);
    return 0;
  }
  std::string read(const std::string& name) override {
    std::ifstream file(at(name), std::ios::binary);
    if (!file) return "?";
    return {std::istreambuf_iterator<char>(file), {}};
  }
  int mkdir(const std::string& name) override { return ::mkdir(at(name), 0755) == 0 ? 0 : errno; }
  int rename(const std::string& from, const std::string& to) override {
    const std::string old_path = mounted_.path(from);
    return ::rename(old_path.c_str(), at(to)) == 0 ? 0 : errno;
  }
  int unlink(const std::string& name) override { return ::unlink(at(name)) == 0 ? 0 : errno; }
  int rmdir(const std::string& name) override { return ::rmdir(at(name)) == 0 ? 0 : errno; }
  int chmod(const std::string& name, mode_t mode) override { return ::chmod(at(name), mode) == 0 ? 0 : errno; }
  mode_t mode(const std::string& name) override {
    struct stat st {};
    return ::lstat(at(name), &st) == 0 ? st.st_mode : 0;
  }
  std::multiset<std::string> list() override {
    std::multiset<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(mounted_.root()))
      names.insert(entry.path().filename());
    return names;
  }
  SessionStats stats() override { return mounted_.session().stats(); }

 private:
  const char* at(const std::string& name) {
    path_ = mounted_.path(name);
    return path_.c_str();
  }
  testing::Mounted mounted_;
  std::string path_;
};

class EveryTransport : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string transport = GetParam();
    if (transport == "socket") {
      tree_ = std::make_unique<SocketTree>(fs_);
      return;
    }
    if (!testing::mounts_available()) GTEST_FAIL() << "needs root and /dev/fuse";
    std::optional<testing::UringSwitch> on;
    if (transport == "io_uring") on.emplace(true);
    tree_ = std::make_unique<MountedTree>(fs_, transport == "io_uring");
  }
  void TearDown() override {
    if (!tree_) return;
    EXPECT_EQ(tree_->stats().malformed, 0U);
    EXPECT_EQ(tree_->stats().lost_replies, 0U);
    EXPECT_STREQ(tree_->stats().transport, GetParam());
  }
  MemoryFs fs_;
  std::unique_ptr<Tree> tree_;
};

TEST_P(EveryTransport, WritesAndReads) {
  std::string content(300'000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 % 253);
  EXPECT_EQ(tree_->write("f", content), 0);
  EXPECT_EQ(tree_->read("f"), content);
  EXPECT_EQ(tree_->write("f", "again"), EEXIST);
  EXPECT_EQ(tree_->write("empty", ""), 0);
  EXPECT_EQ(tree_->read("empty"), "");
}

TEST_P(EveryTransport, RenamesAndRemoves) {
  EXPECT_EQ(tree_->write("a", "A"), 0);
  EXPECT_EQ(tree_->write("b", "B"), 0);
  EXPECT_EQ(tree_->mkdir("d"), 0);
  EXPECT_EQ(tree_->rename("a", "b"), 0);
  EXPECT_EQ(tree_->read("b"), "A");
  EXPECT_EQ(tree_->rename("a", "c"), ENOENT);
  EXPECT_EQ(tree_->unlink("d"), EISDIR);
  EXPECT_EQ(tree_->rmdir("b"), ENOTDIR);
  EXPECT_EQ(tree_->unlink("b"), 0);
  EXPECT_EQ(tree_->rmdir("d"), 0);
  EXPECT_TRUE(tree_->list().empty());
}

TEST_P(EveryTransport, ListsEachNameOnce) {
  std::multiset<std::string> expected;
  for (int i = 0; i < 500; ++i) {
    const std::string name = "n" + std::to_string(i) + std::string(static_cast<std::size_t>(i % 200), 'x');
    EXPECT_EQ(tree_->write(name, ""), 0);
    expected.insert(name);
  }
  EXPECT_EQ(tree_->list(), expected);
}

TEST_P(EveryTransport, ChangesModes) {
  EXPECT_EQ(tree_->write("f", ""), 0);
  EXPECT_EQ(tree_->chmod("f", 0444), 0);
  EXPECT_EQ(tree_->mode("f"), static_cast<mode_t>(S_IFREG | 0444));
  EXPECT_EQ(tree_->chmod("nothing", 0444), ENOENT);
}

TEST_P(EveryTransport, LongNames) {
  EXPECT_EQ(tree_->write(std::string(255, 'n'), "x"), 0);
  EXPECT_EQ(tree_->read(std::string(255, 'n')), "x");
  EXPECT_EQ(tree_->mkdir(std::string(256, 'n')), ENAMETOOLONG);
}

INSTANTIATE_TEST_SUITE_P(Transports, EveryTransport, ::testing::Values("socket", "device", "io_uring"),
                         [](const auto& parameter) { return std::string(parameter.param); });

}  // namespace
}  // namespace vellum::fuse
