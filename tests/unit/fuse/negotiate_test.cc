#include "fuse/negotiate.h"

#include <gtest/gtest.h>

#include <limits>

#include "fuse/loopback.h"
#include "unit/fuse/memory_fs.h"

namespace vellum::fuse {
namespace {

namespace flag = abi::init_flag;

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

abi::InitIn offer(std::uint32_t minor, std::uint64_t flags) {
  abi::InitIn in{};
  in.major = 7;
  in.minor = minor;
  in.max_readahead = 131072;
  in.flags = static_cast<std::uint32_t>(flags);
  in.flags2 = static_cast<std::uint32_t>(flags >> 32);
  return in;
}

TEST(Negotiate, NothingOfferedNothingAgreed) {
  Agreement agreement =
      agree(offer(31, 0), {.writeback_cache = true, .passthrough = true, .posix_acl = true}, kNoLimit, true);
  const abi::InitOut out = settle(agreement, {});
  EXPECT_EQ(out.flags, 0U);
  EXPECT_EQ(out.flags2, 0U);
  EXPECT_EQ(out.minor, 31U);
  EXPECT_EQ(out.max_pages, 0U);
  EXPECT_EQ(out.max_write, 32U * 4096U);
}

TEST(Negotiate, Flags2CountOnlyBehindInitExt) {
  const Wishes wishes{.passthrough = true};
  EXPECT_FALSE(agree(offer(45, flag::kPassthrough), wishes, kNoLimit, true).connection.passthrough);
  EXPECT_TRUE(agree(offer(45, flag::kPassthrough | flag::kInitExt), wishes, kNoLimit, true).connection.passthrough);
}

TEST(Negotiate, PassthroughNeedsTheRightToRegisterFiles) {
  const Wishes wishes{.passthrough = true};
  EXPECT_FALSE(agree(offer(45, ~0ULL), wishes, kNoLimit, false).connection.passthrough);
}

TEST(Negotiate, PassthroughWinsOverWritebackCache) {
  const Wishes wishes{.writeback_cache = true, .passthrough = true};
  Agreement agreement = agree(offer(45, ~0ULL), wishes, kNoLimit, true);
  EXPECT_TRUE(agreement.connection.writeback_cache);
  const abi::InitOut out = settle(agreement, wishes);
  EXPECT_FALSE(agreement.connection.writeback_cache);
  EXPECT_EQ(out.flags & flag::kWritebackCache, 0U);
  EXPECT_EQ(out.max_stack_depth, 1U);
}

TEST(Negotiate, NeverAsksForWhatItDoesNotServe) {
  Agreement agreement = agree(offer(45, ~0ULL), {}, kNoLimit, true);
  const abi::InitOut out = settle(agreement, {});
  const std::uint64_t flags = out.flags | std::uint64_t{out.flags2} << 32;
  for (const auto bit : {flag::kPosixLocks, flag::kFlockLocks, flag::kAutoInvalData, flag::kNoOpenSupport,
                         flag::kHandleKillpriv, flag::kSecurityCtx, flag::kCreateSuppGroup, flag::kAllowIdmap,
                         flag::kRequestTimeout, flag::kHasInodeDax, flag::kMapAlignment})
    EXPECT_EQ(flags & bit, 0U) << bit;
}

TEST(Negotiate, MessageLimitBoundsWrites) {
  Agreement agreement = agree(offer(45, ~0ULL), {}, 100'000, true);
  EXPECT_EQ(agreement.connection.max_write, 24U * 4096U);
  EXPECT_EQ(settle(agreement, {}).max_pages, 24U);
}

TEST(Negotiate, ReaddirplusAutoGoesWithReaddirplus) {
  Agreement agreement = agree(offer(45, ~0ULL), {}, kNoLimit, true);
  agreement.connection.readdirplus = false;
  EXPECT_EQ(settle(agreement, {}).flags & (flag::kDoReaddirplus | flag::kReaddirplusAuto), 0U);
}

class EveryMinor : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(EveryMinor, IsSpokenWithItsOwnKernel) {
  testing::MemoryFs fs;
  Loopback loopback(fs, {.session = {.wishes = {.posix_acl = true}}, .hello = {.minor = GetParam()}});
  ASSERT_TRUE(loopback.started()) << loopback.started().error().message();
  EXPECT_EQ(loopback.started()->major, 7U);
  EXPECT_EQ(loopback.started()->minor, GetParam());
  EXPECT_EQ(fs.connection().minor, GetParam());
  EXPECT_EQ(fs.connection().handle_killpriv_v2, GetParam() >= 33);
  EXPECT_TRUE(fs.connection().posix_acl);
  EXPECT_EQ(loopback.started()->flags2 != 0, GetParam() >= 36 + 3);
  // SETXATTR changes its layout at 7.33, COPY_FILE_RANGE its opcode at 7.45.
  Client& client = loopback.client();
  const auto made = client.create({}, NodeId::kRoot, "f", 2, 0644, 0);
  ASSERT_TRUE(made);
  const std::string value = "value";
  EXPECT_TRUE(client.setxattr({}, made->entry.node, "user.a", std::as_bytes(std::span(value)), {}));
  EXPECT_EQ(client.getxattr({}, made->entry.node, "user.a"), "value");
  ASSERT_TRUE(client.write({}, made->entry.node, made->open.handle, 0, std::as_bytes(std::span(value)), false));
  EXPECT_EQ(
      client.copy_file_range({}, made->entry.node, made->open.handle, 0, made->entry.node, made->open.handle, 5, 5),
      5U);
  EXPECT_EQ(fs.content(made->entry.node), "valuevalue");
}

INSTANTIATE_TEST_SUITE_P(Protocol, EveryMinor, ::testing::Range(31U, 46U));

TEST(Init, OlderThanLinux54IsRefused) {
  testing::MemoryFs fs;
  Loopback loopback(fs, {.hello = {.minor = 30}});
  ASSERT_FALSE(loopback.started());
  EXPECT_EQ(loopback.started().error(), EPROTO);
  EXPECT_EQ(loopback.finish().error(), EPROTO);
}

TEST(Init, NewerMajorIsAskedToComeDown) {
  testing::MemoryFs fs;
  Loopback loopback(fs, {.initialize = false});
  const auto first = loopback.client().initialize({.major = 8, .minor = 3});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->major, 7U);
  EXPECT_EQ(fs.connection().minor, 0U);
  ASSERT_TRUE(loopback.client().initialize({}));
  EXPECT_EQ(fs.connection().minor, 45U);
}

TEST(Init, NewerMinorIsAnsweredWithOurs) {
  testing::MemoryFs fs;
  Loopback loopback(fs, {.hello = {.minor = 99}});
  ASSERT_TRUE(loopback.started());
  EXPECT_EQ(loopback.started()->minor, abi::kNewestMinor);
}

TEST(Init, FilesystemMaySwitchWishesOff) {
  testing::MemoryFs fs;
  fs.on_init = [](Connection& c) {
    EXPECT_TRUE(c.writeback_cache);
    EXPECT_NE(c.notifier, nullptr);
    c.writeback_cache = false;
    c.cache_symlinks = false;
    return Status();
  };
  Loopback loopback(fs, {.session = {.wishes = {.writeback_cache = true}}});
  ASSERT_TRUE(loopback.started());
  EXPECT_EQ(loopback.started()->flags & (flag::kWritebackCache | flag::kCacheSymlinks), 0U);
}

TEST(Init, FilesystemMayRefuse) {
  testing::MemoryFs fs;
  fs.on_init = [](Connection&) -> Status { return fail(ENOSPC); };
  Loopback loopback(fs);
  ASSERT_FALSE(loopback.started());
  EXPECT_EQ(loopback.started().error(), ENOSPC);
  EXPECT_EQ(loopback.finish().error(), ENOSPC);
  EXPECT_FALSE(fs.destroyed());
}

TEST(Init, OtherRequestsBeforeItFail) {
  testing::MemoryFs fs;
  Loopback loopback(fs, {.initialize = false});
  EXPECT_EQ(loopback.client().lookup({}, NodeId::kRoot, "a").error(), EIO);
  EXPECT_TRUE(loopback.client().initialize({}));
  EXPECT_EQ(loopback.client().lookup({}, NodeId::kRoot, "a").error(), ENOENT);
}

TEST(Init, SecondOneFails) {
  testing::MemoryFs fs;
  Loopback loopback(fs);
  EXPECT_EQ(loopback.client().initialize({}).error(), EIO);
}

}  // namespace
}  // namespace vellum::fuse
