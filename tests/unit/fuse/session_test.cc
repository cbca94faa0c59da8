// What the session does beside answering: lost replies, several workers, stopping, notifications.
#include "fuse/session.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "fuse/loopback.h"
#include "unit/fuse/memory_fs.h"

namespace vellum::fuse {
namespace {

using abi::Opcode;
using testing::MemoryFs;

template <class T>
std::string as_text(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// A channel made of a list: what comes in, and what each reply is told.
class ScriptedChannel final : public Channel {
 public:
  struct Sent {
    int error;  // positive
    std::uint64_t unique;
    std::size_t length;
  };
  struct Script {
    std::deque<std::string> requests;
    int send_error = 0;  // for every success reply but INIT's
    int end_error = ENODEV;
    std::vector<Sent> sent;
  };

  explicit ScriptedChannel(Script& script) : script_(script) {}

  Result<RequestBytes> receive(std::span<std::byte> buffer) override {
    if (script_.requests.empty()) return fail(script_.end_error);
    const std::string request = script_.requests.front();
    script_.requests.pop_front();
    // What the device says of a signal, or of a request that was withdrawn while it was read.
    if (request == "EINTR") return fail(EINTR);
    if (request == "ENOENT") return fail(ENOENT);
    std::memcpy(buffer.data(), request.data(), request.size());
    return RequestBytes{.head = buffer.first(request.size())};
  }
  Status send(std::span<const iovec> parts) override {
    abi::OutHeader header;
    std::memcpy(&header, parts[0].iov_base, sizeof header);
    script_.sent.push_back({-header.error, header.unique, header.length});
    if (header.unique != kInitUnique && header.error == 0 && script_.send_error != 0) return fail(script_.send_error);
    return {};
  }
  Result<std::unique_ptr<Channel>> clone() override { return fail(EOPNOTSUPP); }
  const char* name() const override { return "script"; }

  static constexpr std::uint64_t kInitUnique = 1;

 private:
  Script& script_;
};

std::string request(Opcode op, const std::string& body, std::uint64_t unique = 10, std::uint64_t node = 1) {
  const abi::InHeader header{.length = static_cast<std::uint32_t>(sizeof(abi::InHeader) + body.size()),
                             .opcode = static_cast<std::uint32_t>(op),
                             .unique = unique,
                             .node = node,
                             .uid = 0,
                             .gid = 0,
                             .pid = 0,
                             .extension_words = 0,
                             .padding = 0};
  return as_text(header) + body;
}

std::string init_request() {
  abi::InitIn in{};
  in.major = 7;
  in.minor = 45;
  in.flags = 0xffffffff;
  in.flags2 = 0xffffffff;
  return request(Opcode::kInit, as_text(in), ScriptedChannel::kInitUnique, 0);
}

std::string z(std::string_view text) { return std::string(text) + '\0'; }

class LostReply : public ::testing::Test {
 protected:
  // Runs INIT and this request, whose reply nobody wants.
  void lose(const std::string& lost) {
    ScriptedChannel::Script script{.requests = {init_request(), lost}, .send_error = ENOENT, .sent = {}};
    Session session(fs_);
    EXPECT_TRUE(session.run(std::make_unique<ScriptedChannel>(script), 1));
    ASSERT_EQ(script.sent.size(), 2U);
    EXPECT_EQ(session.stats().lost_replies, 1U);
    EXPECT_TRUE(fs_.destroyed());
  }
  MemoryFs fs_;
};

TEST_F(LostReply, LookupIsForgotten) {
  const auto made = fs_.mkdir({}, NodeId::kRoot, "d", 0755, 0);
  lose(request(Opcode::kLookup, z("d")));
  EXPECT_EQ(fs_.lookups(made->node), 1U);
}

TEST_F(LostReply, MkdirIsForgotten) {
  lose(request(Opcode::kMkdir, as_text(abi::MkdirIn{.mode = 0755, .umask = 0}) + z("d")));
  EXPECT_EQ(fs_.counted_lookups(), 0U);
}

TEST_F(LostReply, OpenIsReleased) {
  const auto made = fs_.mknod({}, NodeId::kRoot, "f", S_IFREG | 0644, 0, 0);
  lose(request(Opcode::kOpen, as_text(abi::OpenIn{}), 10, raw(made->node)));
  EXPECT_EQ(fs_.open_handles(), 0U);
}

TEST_F(LostReply, OpendirIsReleased) {
  lose(request(Opcode::kOpendir, as_text(abi::OpenIn{})));
  EXPECT_EQ(fs_.open_handles(), 0U);
}

TEST_F(LostReply, CreateIsReleasedAndForgotten) {
  lose(request(Opcode::kCreate,
               as_text(abi::CreateIn{.flags = O_RDWR, .mode = 0644, .umask = 0, .open_flags = 0}) + z("f")));
  EXPECT_EQ(fs_.open_handles(), 0U);
  EXPECT_EQ(fs_.counted_lookups(), 0U);
}

TEST_F(LostReply, ReaddirplusIsForgotten) {
  const auto made = fs_.mkdir({}, NodeId::kRoot, "d", 0755, 0);
  const auto opened = fs_.opendir({}, NodeId::kRoot, 0);
  abi::ReadIn in{};
  in.handle = raw(opened->handle);
  in.size = 4096;
  lose(request(Opcode::kReaddirplus, as_text(in)));
  EXPECT_EQ(fs_.lookups(made->node), 1U);
}

TEST(Scripted, RefusedReplyBecomesAnError) {
  MemoryFs fs;
  ScriptedChannel::Script script{
      .requests = {init_request(), request(Opcode::kStatfs, {})}, .send_error = EINVAL, .sent = {}};
  Session session(fs);
  EXPECT_TRUE(session.run(std::make_unique<ScriptedChannel>(script), 1));
  ASSERT_EQ(script.sent.size(), 3U);
  EXPECT_EQ(script.sent[2].error, EIO);
  EXPECT_EQ(script.sent[2].unique, 10U);
}

TEST(Scripted, SignalsAndWithdrawnRequestsAreNoErrors) {
  MemoryFs fs;
  ScriptedChannel::Script script{.requests = {"EINTR", init_request(), "ENOENT", request(Opcode::kStatfs, {}), "EINTR"},
                                 .sent = {}};
  Session session(fs);
  EXPECT_TRUE(session.run(std::make_unique<ScriptedChannel>(script), 1));
  EXPECT_EQ(script.sent.size(), 2U);
}

TEST(Scripted, ChannelFailureEndsRunWithIt) {
  MemoryFs fs;
  ScriptedChannel::Script script{.requests = {init_request()}, .end_error = EBADF, .sent = {}};
  Session session(fs);
  EXPECT_EQ(session.run(std::make_unique<ScriptedChannel>(script), 3).error(), EBADF);
  EXPECT_TRUE(fs.destroyed());
}

TEST(Scripted, EndBeforeInitIsAFailure) {
  MemoryFs fs;
  ScriptedChannel::Script script{.requests = {}, .sent = {}};
  Session session(fs);
  EXPECT_EQ(session.run(std::make_unique<ScriptedChannel>(script), 1).error(), ENODEV);
  EXPECT_FALSE(fs.destroyed());
}

TEST(Scripted, ForgetAndBatchForgetGetNoReplyEvenWhenMalformed) {
  MemoryFs fs;
  ScriptedChannel::Script script{
      .requests = {init_request(), request(Opcode::kForget, {}), request(Opcode::kBatchForget, "x"),
                   request(Opcode::kNotifyReply, "whatever"),
                   request(Opcode::kForget, as_text(abi::ForgetIn{.lookups = 1}))},
      .sent = {}};
  Session session(fs);
  EXPECT_TRUE(session.run(std::make_unique<ScriptedChannel>(script), 1));
  EXPECT_EQ(script.sent.size(), 1U);
}

TEST(Scripted, ResentRequestIsAnsweredUnderItsOwnNumber) {
  MemoryFs fs;
  ScriptedChannel::Script script{.requests = {init_request(), request(Opcode::kStatfs, {}, 10 | abi::kUniqueResend)},
                                 .sent = {}};
  Session session(fs);
  EXPECT_TRUE(session.run(std::make_unique<ScriptedChannel>(script), 1));
  EXPECT_EQ(script.sent.at(1).unique, 10 | abi::kUniqueResend);
}

// Throws, or answers nonsense.
class BadFs final : public MemoryFs {
 public:
  Result<Statfs> statfs(const Caller&, NodeId) override { throw std::bad_alloc(); }
  Status access(const Caller&, NodeId, int) override { throw std::runtime_error("surprise"); }
  Status syncfs(const Caller&, NodeId) override { return fail(-7); }
  Status fsyncdir(const Caller&, NodeId, HandleId, bool) override { return fail(100000); }
  Result<std::string> readlink(const Caller&, NodeId) override { return std::string(5000, 'x'); }
  Status readdir(const Caller&, NodeId, HandleId, std::uint64_t, DirSink& sink) override {
    EXPECT_TRUE(sink.add(std::string(300, 'x'), 1, 0, 1));
    EXPECT_TRUE(sink.add("a/b", 1, 0, 2));
    EXPECT_TRUE(sink.add("good", 1, 0, 3));
    return {};
  }
};

struct CountingSink final : DirSink {
  bool add(std::string_view name, std::uint64_t, std::uint32_t, std::uint64_t) override {
    names.emplace_back(name);
    return true;
  }
  std::vector<std::string> names;
};

TEST(BadFilesystem, NeverBreaksTheSession) {
  BadFs fs;
  Loopback loopback(fs);
  Client& client = loopback.client();
  EXPECT_EQ(client.statfs({}, NodeId::kRoot).error(), ENOMEM);
  EXPECT_EQ(client.access({}, NodeId::kRoot, 0).error(), EIO);
  EXPECT_EQ(client.syncfs({}, NodeId::kRoot).error(), EIO);
  EXPECT_EQ(client.fsyncdir({}, NodeId::kRoot, HandleId::kNone, false).error(), EIO);
  EXPECT_EQ(client.readlink({}, NodeId::kRoot).error(), ENAMETOOLONG);
  CountingSink sink;
  EXPECT_TRUE(client.readdir({}, NodeId::kRoot, HandleId::kNone, 0, sink));
  EXPECT_EQ(sink.names, std::vector<std::string>{"good"});
}

// Holds every LOOKUP until as many as expected are there at once.
class MeetingFs final : public MemoryFs {
 public:
  explicit MeetingFs(int expected) : expected_(expected) {}
  Result<Entry> lookup(const Caller&, NodeId, std::string_view) override {
    std::unique_lock lock(mutex_);
    ++here_;
    changed_.notify_all();
    const bool met = changed_.wait_for(lock, std::chrono::seconds(20), [&] { return here_ >= expected_; });
    return fail(met ? ENOENT : ETIMEDOUT);
  }

 private:
  const int expected_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int here_ = 0;
};

TEST(Workers, AnswerAtTheSameTime) {
  constexpr int kThreads = 4;
  MeetingFs fs(kThreads);
  Loopback loopback(fs, {.threads = kThreads});
  std::vector<std::jthread> callers;
  std::atomic<int> met{0};
  for (int i = 0; i < kThreads; ++i)
    callers.emplace_back([&] {
      if (loopback.client().lookup({}, NodeId::kRoot, "x").error() == ENOENT) ++met;
    });
  callers.clear();
  EXPECT_EQ(met, kThreads);
  EXPECT_EQ(loopback.session().stats().threads, unsigned{kThreads});
}

TEST(Workers, ManyCallersOneTruth) {
  MemoryFs fs;
  Loopback loopback(fs, {.threads = 4});
  Client& client = loopback.client();
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < 4; ++t)
      callers.emplace_back([&client, t] {
        for (int i = 0; i < 300; ++i) {
          const std::string name = std::to_string(t) + "-" + std::to_string(i);
          const auto made = client.create({}, NodeId::kRoot, name, O_RDWR, 0644, 0);
          ASSERT_TRUE(made);
          const NodeId node = made->entry.node;
          ASSERT_TRUE(client.write({}, node, made->open.handle, 0, std::as_bytes(std::span(name)), false));
          std::string back(name.size(), '.');
          ASSERT_EQ(client.read({}, node, made->open.handle, 0, std::as_writable_bytes(std::span(back))), name.size());
          EXPECT_EQ(back, name);
          client.release(node, made->open.handle);
          ASSERT_TRUE(client.unlink({}, NodeId::kRoot, name));
          client.forget(node, 1);
        }
      });
  }
  loopback.finish();
  EXPECT_EQ(fs.inodes(), 1U);
  EXPECT_EQ(fs.open_handles(), 0U);
}

TEST(Stop, EndsRunWhileNothingHappens) {
  MemoryFs fs;
  Loopback loopback(fs, {.threads = 3});
  ASSERT_TRUE(loopback.started());
  loopback.session().stop();
  EXPECT_TRUE(loopback.finish());
  EXPECT_TRUE(fs.destroyed());
}

TEST(Stop, EndsRunBeforeInit) {
  MemoryFs fs;
  Loopback loopback(fs, {.initialize = false});
  loopback.session().stop();
  EXPECT_TRUE(loopback.finish());
}

TEST(Ready, ComesAfterInitWasAnswered) {
  MemoryFs fs;
  std::atomic<bool> ready{false};
  Loopback loopback(fs, {.session = {.on_ready = [&](unsigned) { ready = true; }}, .initialize = false});
  EXPECT_FALSE(ready);
  ASSERT_TRUE(loopback.client().initialize({}));
  EXPECT_TRUE(loopback.client().statfs({}, NodeId::kRoot));
  EXPECT_TRUE(ready);
}

template <class T>
T front_of(const std::vector<std::byte>& body) {
  T value{};
  EXPECT_GE(body.size(), sizeof value);
  std::memcpy(&value, body.data(), std::min(body.size(), sizeof value));
  return value;
}

TEST(Notifications, AreLaidOutAsTheKernelReadsThem) {
  MemoryFs fs;
  Loopback loopback(fs);
  Session& session = loopback.session();
  Client& client = loopback.client();
  constexpr auto kSoon = std::chrono::seconds(5);

  ASSERT_TRUE(session.inval_attr(static_cast<NodeId>(7)));
  auto note = client.next_notification(kSoon);
  ASSERT_TRUE(note);
  EXPECT_EQ(note->code, abi::NotifyCode::kInvalInode);
  EXPECT_EQ(front_of<abi::NotifyInvalInode>(note->body).node, 7U);
  EXPECT_LT(front_of<abi::NotifyInvalInode>(note->body).offset, 0);

  ASSERT_TRUE(session.inval_data(static_cast<NodeId>(7), 4096, 10));
  note = client.next_notification(kSoon);
  EXPECT_EQ(front_of<abi::NotifyInvalInode>(note->body).offset, 4096);
  EXPECT_EQ(front_of<abi::NotifyInvalInode>(note->body).length, 10);

  ASSERT_TRUE(session.inval_entry(NodeId::kRoot, "name"));
  note = client.next_notification(kSoon);
  EXPECT_EQ(note->code, abi::NotifyCode::kInvalEntry);
  EXPECT_EQ(note->body.size(), sizeof(abi::NotifyInvalEntry) + 5);
  EXPECT_EQ(front_of<abi::NotifyInvalEntry>(note->body).name_length, 4U);

  ASSERT_TRUE(session.delete_entry(NodeId::kRoot, static_cast<NodeId>(9), "name"));
  note = client.next_notification(kSoon);
  EXPECT_EQ(note->code, abi::NotifyCode::kDelete);
  EXPECT_EQ(front_of<abi::NotifyDelete>(note->body).child, 9U);
  EXPECT_EQ(note->body.back(), std::byte{0});

  ASSERT_TRUE(session.resend());
  note = client.next_notification(kSoon);
  EXPECT_EQ(note->code, abi::NotifyCode::kResend);
  EXPECT_TRUE(note->body.empty());
  EXPECT_EQ(session.stats().notifications, 5U);
}

TEST(Notifications, ResendNeedsAKernelThatCan) {
  MemoryFs fs;
  Loopback loopback(fs, {.hello = {.minor = 39}});
  ASSERT_TRUE(loopback.started());
  EXPECT_EQ(loopback.session().resend().error(), EOPNOTSUPP);
}

TEST(Notifications, BackingFilesNeedADevice) {
  MemoryFs fs;
  Loopback loopback(fs, {.session = {.wishes = {.passthrough = true}}});
  EXPECT_FALSE(fs.connection().passthrough);
  EXPECT_EQ(loopback.session().open_backing(0).error(), EOPNOTSUPP);
}

TEST(Notifications, AfterTheEndFail) {
  MemoryFs fs;
  Loopback loopback(fs);
  loopback.finish();
  EXPECT_EQ(loopback.session().inval_attr(NodeId::kRoot).error(), ENODEV);
}

}  // namespace
}  // namespace vellum::fuse
