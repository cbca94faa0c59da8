// Requests that no kernel sends: each gets an error or is dropped, and the session serves on.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "fuse/decode.h"
#include "fuse/loopback.h"
#include "support/seed.h"
#include "unit/fuse/memory_fs.h"

namespace vellum::fuse {
namespace {

using abi::Opcode;

template <class T>
std::string as_text(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

struct RawRequest {
  Opcode op = Opcode::kLookup;
  std::string body = {};
  std::uint64_t node = 1;
  std::uint32_t length_error = 0;  // added to the length the header tells
  std::uint16_t extension_words = 0;
};

std::string encode(const RawRequest& request) {
  const abi::InHeader header{
      .length = static_cast<std::uint32_t>(sizeof(abi::InHeader) + request.body.size() + request.length_error),
      .opcode = static_cast<std::uint32_t>(request.op),
      .unique = 1000,
      .node = request.node,
      .uid = 0,
      .gid = 0,
      .pid = 0,
      .extension_words = request.extension_words,
      .padding = 0};
  return as_text(header) + request.body;
}

// 0 if it decodes, else the errno.
int decode(const RawRequest& request, const DecodeOptions& options = {.setxattr_ext = true, .dot_names = false}) {
  const std::string text = encode(request);
  const RequestBytes bytes{.head = std::as_bytes(std::span(text))};
  const auto header = decode_header(bytes);
  if (!header) return -1;
  const auto operation = decode_operation(*header, bytes, options);
  return operation ? 0 : operation.error().value();
}

std::string z(std::string_view text) { return std::string(text) + '\0'; }

struct NameCase {
  std::string name;
  int error;
};

std::vector<NameCase> name_cases() {
  return {{z("ok"), 0},
          {z(std::string(255, 'n')), 0},
          {z("..."), 0},
          {z(" \n\xff"), 0},
          {z(""), EINVAL},
          {z("."), EINVAL},
          {z(".."), EINVAL},
          {z("a/b"), EINVAL},
          {z("/"), EINVAL},
          {z(std::string(256, 'n')), ENAMETOOLONG},
          {z(std::string(5000, 'n')), ENAMETOOLONG},
          {"no zero", EIO},
          {"", EIO},
          {std::string("a\0b\0", 4), EIO},
          {z("ok") + "tail", EIO}};
}

TEST(MalformedNames, InEveryOperationThatTakesOne) {
  const std::vector<std::pair<Opcode, std::string>> operations = {
      {Opcode::kLookup, ""},
      {Opcode::kUnlink, ""},
      {Opcode::kRmdir, ""},
      {Opcode::kMknod, as_text(abi::MknodIn{})},
      {Opcode::kMkdir, as_text(abi::MkdirIn{})},
      {Opcode::kCreate, as_text(abi::CreateIn{})},
      {Opcode::kLink, as_text(abi::LinkIn{.node = 2})},
      {Opcode::kRename, as_text(abi::RenameIn{.new_parent = 1}) + z("old")},
      {Opcode::kRename2, as_text(abi::Rename2In{.new_parent = 1, .flags = 0, .padding = 0}) + z("old")},
  };
  for (const auto& [op, before] : operations)
    for (const auto& one : name_cases())
      EXPECT_EQ(decode({.op = op, .body = before + one.name}), one.error)
          << opcode_name(static_cast<std::uint32_t>(op)) << " name of " << one.name.size() << " bytes";
}

TEST(MalformedNames, DotsAreLookedUpOnlyForExport) {
  EXPECT_EQ(decode({.body = z("..")}, {.setxattr_ext = true, .dot_names = true}), 0);
  EXPECT_EQ(decode({.body = z("a/b")}, {.setxattr_ext = true, .dot_names = true}), EINVAL);
}

TEST(MalformedNames, OfXattrs) {
  for (const Opcode op : {Opcode::kGetxattr, Opcode::kRemovexattr, Opcode::kSetxattr}) {
    const std::string before = op == Opcode::kGetxattr   ? as_text(abi::GetxattrIn{})
                               : op == Opcode::kSetxattr ? as_text(abi::SetxattrExtIn{})
                                                         : std::string();
    EXPECT_EQ(decode({.op = op, .body = before + z("user.x")}), 0);
    EXPECT_EQ(decode({.op = op, .body = before + z("")}), ERANGE);
    EXPECT_EQ(decode({.op = op, .body = before + z(std::string(256, 'x'))}), ERANGE);
    EXPECT_EQ(decode({.op = op, .body = before + "user.x"}), EIO);
  }
}

TEST(MalformedNames, OfSymlinkTargets) {
  EXPECT_EQ(decode({.op = Opcode::kSymlink, .body = z("n") + z(std::string(4095, 't'))}), 0);
  EXPECT_EQ(decode({.op = Opcode::kSymlink, .body = z("n") + z(std::string(4096, 't'))}), ENAMETOOLONG);
  EXPECT_EQ(decode({.op = Opcode::kSymlink, .body = z("n") + z("")}), ENOENT);
  EXPECT_EQ(decode({.op = Opcode::kSymlink, .body = z("n")}), EIO);
}

struct SizedCase {
  Opcode op;
  std::size_t size;
};

TEST(MalformedSizes, EveryStructTooShortOrTooLong) {
  const SizedCase cases[] = {
      {Opcode::kGetattr, sizeof(abi::GetattrIn)},     {Opcode::kSetattr, sizeof(abi::SetattrIn)},
      {Opcode::kStatx, sizeof(abi::StatxIn)},         {Opcode::kReadlink, 0},
      {Opcode::kOpen, sizeof(abi::OpenIn)},           {Opcode::kRead, sizeof(abi::ReadIn)},
      {Opcode::kWrite, sizeof(abi::WriteIn)},         {Opcode::kStatfs, 0},
      {Opcode::kRelease, sizeof(abi::ReleaseIn)},     {Opcode::kFsync, sizeof(abi::FsyncIn)},
      {Opcode::kListxattr, sizeof(abi::GetxattrIn)},  {Opcode::kFlush, sizeof(abi::FlushIn)},
      {Opcode::kOpendir, sizeof(abi::OpenIn)},        {Opcode::kReaddir, sizeof(abi::ReadIn)},
      {Opcode::kReaddirplus, sizeof(abi::ReadIn)},    {Opcode::kReleasedir, sizeof(abi::ReleaseIn)},
      {Opcode::kFsyncdir, sizeof(abi::FsyncIn)},      {Opcode::kAccess, sizeof(abi::AccessIn)},
      {Opcode::kInterrupt, sizeof(abi::InterruptIn)}, {Opcode::kIoctl, sizeof(abi::IoctlIn)},
      {Opcode::kFallocate, sizeof(abi::FallocateIn)}, {Opcode::kLseek, sizeof(abi::LseekIn)},
      {Opcode::kSyncfs, sizeof(abi::SyncfsIn)},       {Opcode::kDestroy, 0},
      {Opcode::kForget, sizeof(abi::ForgetIn)},       {Opcode::kBatchForget, sizeof(abi::BatchForgetIn)}};
  for (const auto& [op, size] : cases) {
    const char* name = opcode_name(static_cast<std::uint32_t>(op));
    EXPECT_EQ(decode({.op = op, .body = std::string(size, '\0')}), 0) << name;
    if (size > 0) {
      EXPECT_EQ(decode({.op = op, .body = std::string(size - 1, '\0')}), EIO) << name;
    }
    EXPECT_EQ(decode({.op = op, .body = std::string(size + 1, '\0')}), EIO) << name;
  }
}

TEST(MalformedSizes, LengthInTheHeaderMustBeTheLength) {
  EXPECT_EQ(decode({.body = z("a"), .length_error = 1}), EIO);
  EXPECT_EQ(decode({.body = z("a"), .length_error = static_cast<std::uint32_t>(-1)}), EIO);
}

TEST(MalformedSizes, WriteMustBringItsData) {
  abi::WriteIn in{};
  in.size = 5;
  EXPECT_EQ(decode({.op = Opcode::kWrite, .body = as_text(in) + "12345"}), 0);
  EXPECT_EQ(decode({.op = Opcode::kWrite, .body = as_text(in) + "1234"}), EIO);
  EXPECT_EQ(decode({.op = Opcode::kWrite, .body = as_text(in) + "123456"}), EIO);
  in.size = 0xffffffff;
  EXPECT_EQ(decode({.op = Opcode::kWrite, .body = as_text(in) + "12345"}), EIO);
}

TEST(MalformedSizes, OffsetsStayBelowTheLargest) {
  abi::ReadIn read{};
  read.offset = 1ULL << 63;
  EXPECT_EQ(decode({.op = Opcode::kRead, .body = as_text(read)}), EINVAL);
  abi::WriteIn write{};
  write.offset = (1ULL << 63) - 1;
  write.size = 1;
  EXPECT_EQ(decode({.op = Opcode::kWrite, .body = as_text(write) + "x"}), EINVAL);
  abi::FallocateIn allocate{};
  allocate.offset = 1ULL << 62;
  allocate.length = 1ULL << 62;
  EXPECT_EQ(decode({.op = Opcode::kFallocate, .body = as_text(allocate)}), EFBIG);
}

TEST(MalformedSizes, BatchForgetCountsWhatIsThere) {
  const auto body = [](std::uint32_t count, std::size_t items) {
    return as_text(abi::BatchForgetIn{.count = count, .padding = 0}) + std::string(items * 16, '\0');
  };
  EXPECT_EQ(decode({.op = Opcode::kBatchForget, .body = body(2, 2)}), 0);
  EXPECT_EQ(decode({.op = Opcode::kBatchForget, .body = body(3, 2)}), EIO);
  EXPECT_EQ(decode({.op = Opcode::kBatchForget, .body = body(1, 2)}), EIO);
  EXPECT_EQ(decode({.op = Opcode::kBatchForget, .body = body(0x10000001, 1)}), EIO);
}

TEST(MalformedSizes, XattrValues) {
  abi::SetxattrExtIn in{};
  in.size = 65537;
  EXPECT_EQ(decode({.op = Opcode::kSetxattr, .body = as_text(in) + z("user.x") + std::string(65537, 'v')}), E2BIG);
  in.size = 3;
  in.flags = 8;
  EXPECT_EQ(decode({.op = Opcode::kSetxattr, .body = as_text(in) + z("user.x") + "abc"}), EINVAL);
}

TEST(MalformedFlags, OfRename) {
  const auto with = [](std::uint32_t flags) {
    return decode({.op = Opcode::kRename2,
                   .body = as_text(abi::Rename2In{.new_parent = 1, .flags = flags, .padding = 0}) + z("a") + z("b")});
  };
  EXPECT_EQ(with(0), 0);
  EXPECT_EQ(with(5), 0);  // NOREPLACE | WHITEOUT
  EXPECT_EQ(with(3), EINVAL);
  EXPECT_EQ(with(8), EINVAL);
}

TEST(MalformedNodes, NoneIsStale) {
  EXPECT_EQ(decode({.body = z("a"), .node = 0}), ESTALE);
  EXPECT_EQ(decode({.op = Opcode::kStatfs, .node = 0}), 0);
  EXPECT_EQ(decode({.op = Opcode::kLink, .body = as_text(abi::LinkIn{}) + z("a")}), ESTALE);
}

TEST(MalformedTimes, NanosecondsStayBelowASecond) {
  abi::SetattrIn in{};
  in.valid = abi::setattr_valid::kMtime;
  in.mtime_nsec = 1'000'000'000;
  EXPECT_EQ(decode({.op = Opcode::kSetattr, .body = as_text(in)}), EINVAL);
}

TEST(Extensions, AtTheEndArePassedOver) {
  const std::string groups(16, '\x7f');
  EXPECT_EQ(decode({.op = Opcode::kMkdir, .body = as_text(abi::MkdirIn{}) + z("d") + groups, .extension_words = 2}), 0);
  EXPECT_EQ(decode({.op = Opcode::kMkdir, .body = as_text(abi::MkdirIn{}) + z("d") + groups, .extension_words = 1}),
            EIO);
  EXPECT_EQ(decode({.op = Opcode::kMkdir, .body = as_text(abi::MkdirIn{}) + z("d"), .extension_words = 3}), EIO);
  EXPECT_EQ(decode({.body = "", .extension_words = 0xffff}), EIO);
}

TEST(TwoPieces, DecodeAsOne) {
  const std::string text =
      encode({.op = Opcode::kMkdir, .body = as_text(abi::MkdirIn{.mode = 0755, .umask = 0}) + z("d")});
  const auto whole = std::as_bytes(std::span(text));
  for (const std::size_t cut : {sizeof(abi::InHeader), sizeof(abi::InHeader) + sizeof(abi::MkdirIn)}) {
    const RequestBytes bytes{.head = whole.first(cut), .rest = whole.subspan(cut)};
    const auto operation = decode_operation(*decode_header(bytes), bytes, {});
    ASSERT_TRUE(operation);
    EXPECT_EQ(std::get<op::Mkdir>(*operation).name, "d");
  }
}

TEST(MalformedBytes, SessionServesOn) {
  testing::MemoryFs fs;
  Loopback loopback(fs);
  ASSERT_TRUE(loopback.started());
  Client& client = loopback.client();
  // Nobody can be answered.
  const std::string stub(39, 'x');
  ASSERT_TRUE(client.post_raw(std::as_bytes(std::span(stub))));
  // Larger than any request: cut by the socket, so its length is wrong.
  const std::string huge = encode({.body = z(std::string(3000, 'n')), .length_error = 1 << 24});
  const auto reply = client.call_raw(std::as_bytes(std::span(huge)), 1000);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->error, EIO);
  EXPECT_EQ(client.lookup({}, NodeId::kRoot, "a/b").error(), EINVAL);
  EXPECT_EQ(client.lookup({}, NodeId::kRoot, std::string(256, 'x')).error(), ENAMETOOLONG);
  EXPECT_TRUE(client.statfs({}, NodeId::kRoot));
  EXPECT_EQ(loopback.session().stats().malformed, 2U);
}

TEST(MalformedBytes, RandomOnesNeverCrash) {
  std::mt19937 random(test::random_seed());
  testing::MemoryFs fs;
  Loopback loopback(fs, {.threads = 2});
  Client& client = loopback.client();
  for (int i = 0; i < 20000; ++i) {
    std::string body(random() % 120, '\0');
    for (char& c : body) c = static_cast<char>(random() % 4 == 0 ? random() : 0);
    RawRequest request{.op = static_cast<Opcode>(random() % 56), .body = body, .node = random() % 4};
    if (request.op == Opcode::kInit) continue;
    if (random() % 8 == 0) request.extension_words = static_cast<std::uint16_t>(random());
    const std::string text = encode(request);
    ASSERT_TRUE(client.post_raw(std::as_bytes(std::span(text))));
  }
  EXPECT_TRUE(client.statfs({}, NodeId::kRoot));
}

}  // namespace
}  // namespace vellum::fuse
