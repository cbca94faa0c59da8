#include "composefs/image_fs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "composefs/build.h"
#include "composefs/dump.h"
#include "composefs/verity.h"
#include "sys/file.h"
#include "unit/temp_dir.h"

namespace vellum::composefs {
namespace {

using ::testing::UnorderedElementsAre;

const fuse::Caller kRootUser{};
const fuse::Caller kSomebody{.uid = 1000, .gid = 1000, .pid = 0};
constexpr std::string_view kContent = "what an object holds";

std::string digest_hex(std::string_view content) { return digest_of_bytes(std::as_bytes(std::span(content))).hex(); }

// `far` has its content in an object; `wh` is a whiteout.
std::string dump_text() {
  const std::string digest = digest_hex(kContent);
  return fmt::format(
      "/ 0 40755 3 0 0 0 1.0 - - -\n"
      "/d 0 40755 2 0 0 0 1.0 - - - trusted.overlay.opaque=y user.overlay.opaque=z user.plain=v\n"
      "/d/wh 0 20644 1 0 0 0 1.0 - - -\n"
      "/far {} 100644 1 0 0 0 1.0 {} - {} user.overlay.own=o trusted.overlay.theirs=t trusted.other=x\n"
      "/near 4 100644 1 0 0 0 1.0 - abcd -\n"
      "/lost 9 100644 1 0 0 0 1.0 no/such - -\n"
      "/link 4 120777 1 0 0 0 1.0 near - -\n",
      kContent.size(), parse_digest(digest)->object_path(), digest);
}

struct Served {
  std::vector<std::byte> bytes = build_image(parse_dump(dump_text()).value()).value();
  erofs::Image image = erofs::Image::open(bytes, {}).value();
};

fuse::Entry look(ImageFs& fs, std::initializer_list<const char*> path) {
  fuse::Entry entry;
  entry.node = fuse::NodeId::kRoot;
  for (const char* name : path) entry = fs.lookup(kRootUser, entry.node, name).value();
  return entry;
}

std::set<std::string> xattr_names(ImageFs& fs, const fuse::Caller& caller, fuse::NodeId node) {
  const std::string list = fs.listxattr(caller, node).value();
  std::set<std::string> names;
  for (std::size_t at = 0; at < list.size(); at += std::strlen(list.c_str() + at) + 1)
    EXPECT_TRUE(names.insert(list.c_str() + at).second) << "twice: " << list.c_str() + at;
  for (const std::string& name : names) EXPECT_TRUE(fs.getxattr(caller, node, name)) << name;
  return names;
}

struct Names final : fuse::DirSink {
  std::set<std::string> names;
  bool add(std::string_view name, std::uint64_t, std::uint32_t, std::uint64_t) override {
    return names.emplace(name).second;
  }
};

TEST(ImageFs, HidesTheWhiteoutsOfTheObjectDirectories) {
  Served served;
  ImageFs fs(served.image, {});
  Names names;
  ASSERT_TRUE(fs.readdir(kRootUser, fuse::NodeId::kRoot, fuse::HandleId::kNone, 0, names));
  EXPECT_THAT(names.names, UnorderedElementsAre(".", "..", "d", "far", "near", "lost", "link"));
  EXPECT_EQ(look(fs, {"00"}).node, fuse::NodeId::kNone);
  EXPECT_EQ(look(fs, {"nothing"}).node, fuse::NodeId::kNone);
  EXPECT_TRUE(S_ISREG(look(fs, {"d", "wh"}).attr.mode));
}

TEST(ImageFs, ShowsXattrsToAnOverlayInAUserNamespace) {
  Served served;
  ImageFs fs(served.image, {.xattrs = XattrRule::kMetadata, .trusted_xattrs = false});
  EXPECT_THAT(xattr_names(fs, kRootUser, look(fs, {"far"}).node),
              UnorderedElementsAre("user.overlay.metacopy", "user.overlay.redirect", "user.overlay.overlay.own",
                                   "user.overlay.overlay.theirs"));
  // The image's own markers are shown escaped, each once: shown as they are, overlayfs would obey them.
  EXPECT_THAT(xattr_names(fs, kRootUser, look(fs, {"d", "wh"}).node),
              UnorderedElementsAre("user.overlay.overlay.whiteout"));
  const fuse::NodeId dir = look(fs, {"d"}).node;
  EXPECT_THAT(xattr_names(fs, kRootUser, dir),
              UnorderedElementsAre("user.overlay.overlay.whiteouts", "user.overlay.overlay.opaque", "user.plain"));
  EXPECT_EQ(fs.getxattr(kRootUser, dir, "user.overlay.opaque").error(), ENODATA);
  EXPECT_EQ(fs.getxattr(kRootUser, dir, "user.overlay.whiteouts").error(), ENODATA);
  EXPECT_EQ(fs.getxattr(kRootUser, dir, "trusted.overlay.opaque").error(), ENODATA);
}

TEST(ImageFs, ShowsXattrsToPeopleUnescaped) {
  Served served;
  ImageFs fs(served.image, {.xattrs = XattrRule::kStandalone, .trusted_xattrs = true});
  const fuse::NodeId far = look(fs, {"far"}).node;
  EXPECT_THAT(xattr_names(fs, kRootUser, far),
              UnorderedElementsAre("user.overlay.own", "trusted.overlay.theirs", "trusted.other"));
  EXPECT_THAT(xattr_names(fs, kSomebody, far), UnorderedElementsAre("user.overlay.own"));
  EXPECT_EQ(fs.getxattr(kRootUser, far, "trusted.overlay.redirect").error(), ENODATA);
  EXPECT_EQ(fs.getxattr(kSomebody, far, "trusted.other").error(), ENODATA);
  EXPECT_THAT(xattr_names(fs, kRootUser, look(fs, {"d", "wh"}).node),
              UnorderedElementsAre("trusted.overlay.whiteout", "user.overlay.whiteout"));
}

TEST(ImageFs, WithoutObjectsNeverReadsZerosForContentThatIsElsewhere) {
  Served served;
  ImageFs fs(served.image, {});
  std::array<std::byte, 64> buffer;
  EXPECT_EQ(fs.read(kRootUser, look(fs, {"near"}).node, fuse::HandleId::kNone, 1, buffer).value(), 3U);
  EXPECT_EQ(std::memcmp(buffer.data(), "bcd", 3), 0);
  EXPECT_EQ(fs.read(kRootUser, look(fs, {"far"}).node, fuse::HandleId::kNone, 0, buffer).error(), EIO);
  EXPECT_EQ(fs.readlink(kRootUser, look(fs, {"link"}).node).value(), "near");
  EXPECT_EQ(fs.open(kRootUser, look(fs, {"near"}).node, O_WRONLY, false).error(), EROFS);
}

// An object directory that holds `content` as the object of `far`.
struct Store {
  vellum::testing::TempDir dir;
  std::string path;

  explicit Store(std::string_view content) {
    const std::string object = parse_digest(digest_hex(kContent))->object_path();
    path = dir.path() + "/" + object;
    EXPECT_TRUE(sys::mkdir_path((dir.path() + "/" + object.substr(0, 2)).c_str(), 0755));
    write(content);
  }
  void write(std::string_view content) const {
    const auto file = sys::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644).value();
    EXPECT_EQ(sys::pwrite(file, std::as_bytes(std::span(content)), 0).value(), content.size());
  }
  std::vector<sys::UniqueFd> open() const {
    std::vector<sys::UniqueFd> fds;
    fds.push_back(sys::open(dir.path().c_str(), O_PATH | O_DIRECTORY).value());
    return fds;
  }
};

Result<std::string> content_of(ImageFs& fs, const char* name) {
  const fuse::NodeId node = look(fs, {name}).node;
  const auto opened = TRY(fs.open(kRootUser, node, O_RDONLY, false));
  std::string text(100, '\0');
  text.resize(TRY(fs.read(kRootUser, node, opened.handle, 0, std::as_writable_bytes(std::span(text)))));
  fs.release(node, opened.handle);
  return text;
}

TEST(ImageFs, ReadsObjects) {
  Served served;
  const Store store(kContent);
  Objects objects(store.open(), Verify::kNo);
  ImageFs fs(served.image, {.xattrs = XattrRule::kStandalone, .objects = &objects});
  EXPECT_EQ(content_of(fs, "far").value(), kContent);
  EXPECT_EQ(content_of(fs, "near").value(), "abcd");
  EXPECT_EQ(content_of(fs, "lost").error(), EIO);
  EXPECT_EQ(objects.measured(), 0U);
}

TEST(ImageFs, MeasuresAnObjectOnceAndAgainWhenItChanged) {
  Served served;
  const Store store(kContent);
  Objects objects(store.open(), Verify::kRequire);
  ImageFs fs(served.image, {.xattrs = XattrRule::kStandalone, .objects = &objects});
  ::usleep(60000);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(content_of(fs, "far").value(), kContent);
  EXPECT_EQ(objects.measured(), 1U);
  std::string wrong(kContent);
  wrong[3] ^= 1;
  ::usleep(20000);  // times are as coarse as the kernel's ticks
  store.write(wrong);
  EXPECT_EQ(content_of(fs, "far").error(), EIO);
  ::usleep(20000);
  store.write(kContent);
  EXPECT_EQ(content_of(fs, "far").value(), kContent);
  // The open file of before is not what lies there now.
  ::usleep(20000);
  store.write(wrong);
  EXPECT_EQ(content_of(fs, "far").error(), EIO);
  ASSERT_EQ(::unlink(store.path.c_str()), 0);
  store.write(kContent);
  EXPECT_EQ(content_of(fs, "far").value(), kContent);
  // The image has no digest for it.
  EXPECT_EQ(content_of(fs, "lost").error(), EIO);
}

TEST(ImageFs, TrustsNoVerdictOnWhatWasWrittenInTheSameTick) {
  Served served;
  const Store store(kContent);
  Objects objects(store.open(), Verify::kRequire);
  ImageFs fs(served.image, {.xattrs = XattrRule::kStandalone, .objects = &objects});
  for (int i = 0; i < 100; ++i) {
    store.write(kContent);
    EXPECT_EQ(content_of(fs, "far").value(), kContent);
    std::string wrong(kContent);
    wrong[3] ^= 1;
    store.write(wrong);
    EXPECT_EQ(content_of(fs, "far").error(), EIO);
  }
}

// What the kernel has cached of a file.
bool keeps_cache(ImageFs& fs, const char* name) {
  const fuse::NodeId node = look(fs, {name}).node;
  const auto opened = fs.open(kRootUser, node, O_RDONLY, false).value();
  fs.release(node, opened.handle);
  return opened.keep_cache;
}

TEST(ImageFs, LetsTheKernelKeepNothingOfAnotherObject) {
  Served served;
  const Store store(kContent);
  Objects objects(store.open(), Verify::kNo);
  ImageFs fs(served.image, {.xattrs = XattrRule::kStandalone, .objects = &objects});
  EXPECT_TRUE(keeps_cache(fs, "far"));  // there is nothing yet
  // It may have been written to again, within the tick of the clock. Once more if this machine stood still for that
  // long.
  using Clock = std::chrono::steady_clock;
  Clock::time_point written;
  bool keeps = false;
  do {
    written = Clock::now();
    store.write(kContent);
    keeps_cache(fs, "far");
    keeps = keeps_cache(fs, "far");
  } while (Clock::now() - written > std::chrono::milliseconds(40));
  EXPECT_FALSE(keeps);
  ::usleep(60000);
  EXPECT_FALSE(keeps_cache(fs, "far"));
  EXPECT_TRUE(keeps_cache(fs, "far"));
  store.write(kContent);
  ::usleep(60000);
  EXPECT_FALSE(keeps_cache(fs, "far"));
  EXPECT_TRUE(keeps_cache(fs, "far"));
}

TEST(ImageFs, FindsTheObjectThatTookTheNameOfAnother) {
  Served served;
  std::string wrong(kContent);
  wrong[3] ^= 1;
  const Store store(wrong);
  Objects objects(store.open(), Verify::kNo);
  ImageFs fs(served.image, {.xattrs = XattrRule::kStandalone, .objects = &objects});
  fuse::Connection connection;
  ASSERT_TRUE(fs.init(connection));
  EXPECT_EQ(content_of(fs, "far").value(), wrong);
  ASSERT_EQ(::unlink(store.path.c_str()), 0);
  store.write(kContent);
  EXPECT_EQ(content_of(fs, "far").value(), kContent);
}

TEST(ImageFs, LetsGoOfIdleObjectsWhenDescriptorsRunOut) {
  Served served;
  const Store store(kContent);
  ASSERT_TRUE(sys::mkdir_path((store.dir.path() + "/no").c_str(), 0755));
  {
    EXPECT_TRUE(sys::pwrite(sys::open((store.dir.path() + "/no/such").c_str(), O_WRONLY | O_CREAT, 0644).value(),
                            std::as_bytes(std::span("012345678", 9)), 0));
  }
  Objects objects(store.open(), Verify::kNo);
  ImageFs fs(served.image, {.xattrs = XattrRule::kStandalone, .objects = &objects});
  fuse::Connection connection;
  ASSERT_TRUE(fs.init(connection));
  EXPECT_EQ(content_of(fs, "far").value(), kContent);
  std::vector<sys::UniqueFd> others;
  while (auto other = sys::open("/", O_PATH)) others.push_back(std::move(*other));
  EXPECT_EQ(content_of(fs, "lost").value(), "012345678");
  EXPECT_EQ(content_of(fs, "far").value(), kContent);
}

TEST(ImageFs, GoesIntoNoOtherMountForAnObject) {
  Served served;
  const Store store(kContent);
  std::vector<sys::UniqueFd> root;
  root.push_back(sys::open("/", O_PATH | O_DIRECTORY).value());
  Objects objects(std::move(root), Verify::kNo);
  EXPECT_EQ(objects.open({.path = "proc/version", .size = 0, .digest = {}}).error(), EIO);
}

TEST(ImageFs, RefusesObjectsThatAreNotWhatTheImageSays) {
  Served served;
  std::string swapped(kContent);
  std::ranges::reverse(swapped);
  for (const std::string& content : {swapped, std::string(kContent.substr(1)), std::string(kContent) + "x"}) {
    const Store store(content);
    Objects objects(store.open(), Verify::kRequire);
    ImageFs fs(served.image, {.xattrs = XattrRule::kStandalone, .objects = &objects});
    EXPECT_EQ(content_of(fs, "far").error(), EIO) << content;
  }
}

TEST(ObjectName, IsReadFromTheImagesXattrs) {
  const std::string digest(32, 'd');
  const auto metacopy = [](std::string_view header, const std::string& rest) { return std::string(header) + rest; };
  const auto good = parse_object_name("//ab/cd", metacopy(std::string_view("\0\x24\0\1", 4), digest), 7);
  ASSERT_TRUE(good);
  EXPECT_EQ(good->path, "ab/cd");
  EXPECT_EQ(good->digest->view().size(), 32U);
  EXPECT_FALSE(parse_object_name("/ab", "", 7)->digest);
  EXPECT_FALSE(parse_object_name("", "", 7));
  EXPECT_FALSE(parse_object_name("/", "", 7));
  EXPECT_FALSE(parse_object_name("ab", "", 7));
  EXPECT_FALSE(parse_object_name("/ab", "x", 7));
  EXPECT_FALSE(parse_object_name("/ab", metacopy(std::string_view("\0\x24\0\2", 4), digest), 7));
  EXPECT_FALSE(parse_object_name("/ab", metacopy(std::string_view("\0\x24\0\1", 4), digest + "x"), 7));
}

}  // namespace
}  // namespace vellum::composefs
