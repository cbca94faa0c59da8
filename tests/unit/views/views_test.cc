// Views without a mount: requests are made in the name of children that were started with markers.
#include "views/views.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "sys/file.h"
#include "sys/proc.h"
#include "unit/temp_dir.h"
#include "views/numbers.h"

namespace vellum::views {
namespace {

using fuse::Caller;
using fuse::NodeId;

class NoKernel final : public fuse::Notifier {
 public:
  Status inval_attr(NodeId) override { return {}; }
  Status inval_data(NodeId, std::int64_t, std::int64_t) override { return {}; }
  Status inval_entry(NodeId, std::string_view) override { return {}; }
  Status delete_entry(NodeId, NodeId, std::string_view) override { return {}; }
  Status store_data(NodeId, std::uint64_t, std::span<const std::byte>) override { return {}; }
  Result<std::int32_t> open_backing(int) override { return fail(EOPNOTSUPP); }
  Status close_backing(std::int32_t) override { return {}; }
};

// A process that sleeps until the test is over.
class Process {
 public:
  explicit Process(const std::vector<std::string>& variables) {
    std::vector<char*> environment;
    for (const std::string& variable : variables) environment.push_back(const_cast<char*>(variable.c_str()));
    environment.push_back(nullptr);
    int ready[2];
    EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      char program[] = "/bin/sleep", time[] = "600";
      char* arguments[] = {program, time, nullptr};
      ::execve(program, arguments, environment.data());
      ::_exit(1);
    }
    ::close(ready[1]);
    char end = 0;
    EXPECT_EQ(::read(ready[0], &end, 1), 0);  // closed by exec, just before the new environment is in place
    ::close(ready[0]);
    while (sys::process_stat(pid_)->image.environ_end == 0) ::usleep(100);
  }
  ~Process() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  Caller caller() const { return {.uid = ::geteuid(), .gid = ::getegid(), .pid = static_cast<std::uint32_t>(pid_)}; }

 private:
  pid_t pid_ = 0;
};

class ViewsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"tree", "a", "b"}) ASSERT_EQ(::mkdir(path(name).c_str(), 0755), 0);
    start({});
  }
  void start(Resolver::Settings resolver) {
    if (views_) views_->destroy();
    auto made =
        Views::create({.mountpoint = "/nowhere", .resolver = std::move(resolver), .engine = {}, .shared_depth = 1},
                      std::move(*sys::open(path("tree").c_str(), O_RDONLY | O_DIRECTORY)));
    ASSERT_TRUE(made) << made.error();
    views_ = std::move(*made);
    fuse::Connection connection{.minor = 45, .max_write = 1 << 20, .notifier = &kernel_};
    ASSERT_TRUE(views_->init(connection));
  }
  void TearDown() override { views_->destroy(); }

  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
  std::string upper(const std::string& name) const { return "WRAPPER_UPPER=" + path(name); }
  NodeId make(const Process& process, NodeId parent, std::string_view name) {
    auto created = views_->create(process.caller(), parent, name, O_RDWR, 0644, 022);
    EXPECT_TRUE(created) << name;
    if (!created) return NodeId::kNone;
    views_->release(created->entry.node, created->open.handle);
    return created->entry.node;
  }
  NodeId find(const Process& process, NodeId parent, std::string_view name) {
    auto entry = views_->lookup(process.caller(), parent, name);
    return entry ? entry->node : NodeId::kNone;
  }

  vellum::testing::TempDir directory_;
  NoKernel kernel_;
  std::unique_ptr<Views> views_;
};

TEST_F(ViewsTest, ShowEachProcessItsOwnFiles) {
  const Process a({upper("a")}), b({upper("b")}), none({});
  make(a, NodeId::kRoot, "of-a");
  EXPECT_NE(find(a, NodeId::kRoot, "of-a"), NodeId::kNone);
  EXPECT_EQ(find(b, NodeId::kRoot, "of-a"), NodeId::kNone);
  EXPECT_EQ(find(none, NodeId::kRoot, "of-a"), NodeId::kNone);
  EXPECT_EQ(::access((path("a") + "/of-a").c_str(), F_OK), 0);
}

TEST_F(ViewsTest, GiveTheSameNameOtherNodes) {
  const Process a({upper("a")}), b({upper("b")});
  EXPECT_NE(make(a, NodeId::kRoot, "f"), make(b, NodeId::kRoot, "f"));
}

TEST_F(ViewsTest, LetTheKernelRememberNothingOfTheRoot) {
  const Process a({upper("a")});
  make(a, NodeId::kRoot, "f");
  const auto entry = views_->lookup(a.caller(), NodeId::kRoot, "f");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->entry_valid.sec, 0U);
  EXPECT_GT(entry->attr_valid.sec, 0U);
  const auto missing = views_->lookup(a.caller(), NodeId::kRoot, "missing");
  ASSERT_TRUE(missing);
  EXPECT_EQ(missing->entry_valid.sec, 0U);
  const auto root = views_->getattr(a.caller(), NodeId::kRoot, {});
  ASSERT_TRUE(root);
  EXPECT_EQ(root->valid.sec, 0U);
}

TEST_F(ViewsTest, ShareTheNodesOfDirectoriesAtTheTop) {
  const Process a({upper("a")}), b({upper("b")});
  const auto in_a = views_->mkdir(a.caller(), NodeId::kRoot, "d", 0755, 022);
  const auto in_b = views_->mkdir(b.caller(), NodeId::kRoot, "d", 0755, 022);
  ASSERT_TRUE(in_a && in_b);
  EXPECT_EQ(in_a->node, in_b->node);
  make(a, in_a->node, "f");
  EXPECT_EQ(find(b, in_b->node, "f"), NodeId::kNone);
}

TEST_F(ViewsTest, PartBeforeADirectoryIsRemovedInOneOfThem) {
  const Process a({upper("a")}), b({upper("b")});
  const auto shared = views_->mkdir(a.caller(), NodeId::kRoot, "d", 0755, 022);
  ASSERT_TRUE(shared && views_->mkdir(b.caller(), NodeId::kRoot, "d", 0755, 022));
  const auto first = views_->rmdir(a.caller(), NodeId::kRoot, "d");
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error(), ESTALE);
  EXPECT_NE(find(a, NodeId::kRoot, "d"), shared->node);
  EXPECT_TRUE(views_->rmdir(a.caller(), NodeId::kRoot, "d"));
  EXPECT_EQ(find(a, NodeId::kRoot, "d"), NodeId::kNone);
  EXPECT_EQ(find(b, NodeId::kRoot, "d"), shared->node);
}

TEST_F(ViewsTest, DoNotPartForADirectoryThatIsNotEmpty) {
  const Process a({upper("a")});
  const auto dir = views_->mkdir(a.caller(), NodeId::kRoot, "d", 0755, 022);
  ASSERT_TRUE(dir);
  make(a, dir->node, "f");
  const auto removed = views_->rmdir(a.caller(), NodeId::kRoot, "d");
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error(), ENOTEMPTY);
  EXPECT_EQ(find(a, NodeId::kRoot, "d"), dir->node);
}

TEST_F(ViewsTest, KeepFilesOfTwoViewsApart) {
  const Process a({upper("a")}), b({upper("b")});
  const NodeId file = make(a, NodeId::kRoot, "f");
  const auto linked = views_->link(b.caller(), file, NodeId::kRoot, "g");
  ASSERT_FALSE(linked);
  EXPECT_EQ(linked.error(), EXDEV);
}

TEST_F(ViewsTest, RefuseWhatAMarkerDoesNotFind) {
  const Process lost({upper("none")});
  const auto entry = views_->lookup(lost.caller(), NodeId::kRoot, "f");
  ASSERT_FALSE(entry);
  EXPECT_EQ(entry.error(), ENOENT);
}

TEST_F(ViewsTest, PassStrangersThrough) {
  ASSERT_TRUE(views_->lookup({.uid = 0, .gid = 0, .pid = 0}, NodeId::kRoot, "f"));
  const Process a({upper("a")});
  make(a, NodeId::kRoot, "f");
  // Another uid in the request than in /proc: a program that runs with borrowed rights.
  Caller other = a.caller();
  other.uid += 1;
  const auto entry = views_->lookup(other, NodeId::kRoot, "f");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->node, NodeId::kNone);
}

TEST_F(ViewsTest, RefuseStrangersWhereStrict) {
  Resolver::Settings strict;
  strict.strict = true;
  start(strict);
  const auto entry = views_->lookup({.uid = 0, .gid = 0, .pid = 0}, NodeId::kRoot, "f");
  ASSERT_FALSE(entry);
  EXPECT_EQ(entry.error(), EACCES);
}

TEST_F(ViewsTest, AreAnsweredOverSeveralThreads) {
  const Process a({upper("a")}), b({upper("b")});
  std::vector<std::thread> threads;
  for (const Process* process : {&a, &b, &a, &b}) {
    threads.emplace_back([&, process, number = threads.size()] {
      for (int round = 0; round < 200; ++round) {
        const std::string name = "f" + std::to_string(number);
        make(*process, NodeId::kRoot, name);
        EXPECT_NE(find(*process, NodeId::kRoot, name), NodeId::kNone);
        EXPECT_EQ(find(process == &a ? b : a, NodeId::kRoot, name), NodeId::kNone);
        EXPECT_TRUE(views_->unlink(process->caller(), NodeId::kRoot, name));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace vellum::views
