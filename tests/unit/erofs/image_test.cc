#include "erofs/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "erofs/writer.h"
#include "fuzz/image_walk.h"
#include "support/seed.h"

namespace vellum::erofs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Pieces of a small image, by the writer. Strings are literals, or kept in `kept`.
struct Drawing {
  NewImage image;
  std::deque<std::string> kept;

  std::string_view keep(std::string text) { return kept.emplace_back(std::move(text)); }
  std::uint32_t add(NewInode inode) {
    if (inode.nlink == 0) inode.nlink = 1;
    image.inodes.push_back(inode);
    return static_cast<std::uint32_t>(image.inodes.size() - 1);
  }
  // Sorts, and adds "." and "..".
  void fill(std::uint32_t dir, std::uint32_t parent, std::map<std::string, std::uint32_t> names) {
    names["."] = dir;
    names[".."] = parent;
    image.inodes[dir].entries_begin = static_cast<std::uint32_t>(image.entries.size());
    image.inodes[dir].entries_count = static_cast<std::uint32_t>(names.size());
    for (const auto& [name, inode] : names) image.entries.push_back({.name = keep(name), .inode = inode});
  }
  void xattrs(std::uint32_t inode, std::vector<std::uint32_t> numbers) {
    image.inodes[inode].xattrs_begin = static_cast<std::uint32_t>(image.inode_xattrs.size());
    image.inodes[inode].xattrs_count = static_cast<std::uint32_t>(numbers.size());
    image.inode_xattrs.insert(image.inode_xattrs.end(), numbers.begin(), numbers.end());
  }
  std::vector<std::byte> write() const { return write_image(image).value(); }
};

std::vector<std::byte> small_image() {
  Drawing drawing;
  const auto root = drawing.add({.mode = 0040755, .nlink = 3, .data = {}});
  const auto dir = drawing.add({.mode = 0040700, .nlink = 2, .uid = 7, .gid = 8, .data = {}});
  const auto file = drawing.add({.mode = 0100644, .nlink = 2, .mtime = 5, .size = 5, .data = "hello"});
  const auto link = drawing.add({.mode = 0120777, .size = 4, .data = "file"});
  const auto device = drawing.add({.mode = 0020600, .rdev = 0x103, .data = {}});
  const auto far =
      drawing.add({.mode = 0100600, .uid = 70000, .mtime = -1, .size = std::uint64_t{5} << 30, .data = {}});
  drawing.image.xattrs = {{"trusted.x", "shared"}, {"user.a", "one"}, {"user.b", std::string_view("\0\1", 2)}};
  drawing.xattrs(file, {0, 1});
  drawing.xattrs(far, {0, 2});
  drawing.fill(root, root, {{"dir", dir}, {"file", file}, {"link", link}, {"dev", device}, {"far", far}});
  drawing.fill(dir, root, {{"again", file}});
  return drawing.write();
}

std::vector<std::string> last_lines;
void keep_line(std::string_view line) { last_lines.emplace_back(line); }

Image open_image(const std::vector<std::byte>& bytes) {
  last_lines.clear();
  auto image = Image::open(bytes, {.report = keep_line});
  EXPECT_TRUE(image) << image.error();
  return std::move(image.value());
}

Inode at(const Image& image, std::initializer_list<const char*> path) {
  Inode inode = image.inode(image.root()).value();
  for (const char* name : path) inode = image.inode(image.find(inode, name).value().nid).value();
  return inode;
}

std::vector<std::string> names_of(const Image& image, const Inode& dir, std::uint64_t from = 0) {
  std::vector<std::string> names;
  EXPECT_TRUE(image.read_dir(dir, from, [&](const Child& child, std::uint64_t) {
    names.emplace_back(child.name);
    return true;
  }));
  return names;
}

std::string content(const Image& image, const Inode& inode) {
  std::string text(inode.size, '?');
  EXPECT_EQ(image.read(inode, 0, std::as_writable_bytes(std::span(text))).value(), text.size());
  return text;
}

TEST(Image, ReadsWhatTheWriterWrote) {
  const auto bytes = small_image();
  const Image image = open_image(bytes);
  EXPECT_THAT(names_of(image, at(image, {})), ElementsAre(".", "..", "dev", "dir", "far", "file", "link"));
  EXPECT_THAT(names_of(image, at(image, {"dir"})), ElementsAre(".", "..", "again"));

  const Inode dir = at(image, {"dir"});
  EXPECT_EQ(dir.mode, 0040700U);
  EXPECT_EQ(dir.uid, 7U);
  EXPECT_EQ(dir.gid, 8U);
  const Inode file = at(image, {"file"});
  EXPECT_EQ(raw(at(image, {"dir", "again"}).nid), raw(file.nid));
  EXPECT_EQ(file.nlink, 2U);
  EXPECT_EQ(file.mtime, 5);
  EXPECT_EQ(content(image, file), "hello");
  EXPECT_EQ(image.symlink(at(image, {"link"})).value(), "file");
  EXPECT_EQ(at(image, {"dev"}).rdev, makedev(1, 3));
  const Inode far = at(image, {"far"});
  EXPECT_EQ(far.uid, 70000U);
  EXPECT_EQ(far.mtime, -1);
  EXPECT_EQ(far.size, std::uint64_t{5} << 30);
  EXPECT_TRUE(last_lines.empty());
}

TEST(Image, ReadsSharedAndOwnXattrs) {
  const auto bytes = small_image();
  const Image image = open_image(bytes);
  const Inode file = at(image, {"file"});
  std::map<std::string, std::string> found;
  ASSERT_TRUE(image.read_xattrs(file, [&](const Xattr& xattr) {
    found[std::string(kXattrPrefixes[xattr.index]) + std::string(xattr.suffix)] = xattr.value;
    EXPECT_EQ(xattr.shared, xattr.index == kXattrTrusted);
    return true;
  }));
  EXPECT_THAT(found, ElementsAre(std::pair("trusted.x", "shared"), std::pair("user.a", "one")));
  EXPECT_EQ(image.xattr(file, kXattrTrusted, "x").value(), "shared");
  EXPECT_EQ(image.xattr(file, kXattrUser, "b").value(), std::nullopt);
  EXPECT_EQ(image.xattr(at(image, {"far"}), kXattrUser, "b").value(), std::string_view("\0\1", 2));
  EXPECT_EQ(image.xattr(at(image, {"dir"}), kXattrUser, "a").value(), std::nullopt);
}

TEST(Image, HolesAreZeros) {
  const auto bytes = small_image();
  const Image image = open_image(bytes);
  std::array<std::byte, 100> buffer;
  buffer.fill(std::byte{1});
  const Inode far = at(image, {"far"});
  EXPECT_EQ(image.read(far, far.size - 10, buffer).value(), 10U);
  EXPECT_EQ(buffer[9], std::byte{0});
  EXPECT_EQ(buffer[10], std::byte{1});
  EXPECT_EQ(image.read(far, far.size, buffer).value(), 0U);
  EXPECT_EQ(image.read(far, ~std::uint64_t{0}, buffer).value(), 0U);
}

// Names before ".", and before the first of a block: where the C tools loop for ever.
TEST(Image, FindsNamesInDirectoriesOfManyBlocks) {
  Drawing drawing;
  const auto root = drawing.add({.mode = 0040755, .nlink = 2, .data = {}});
  const auto file = drawing.add({.mode = 0100644, .data = {}});
  std::map<std::string, std::uint32_t> names;
  for (int i = 0; i < 3000; ++i) names["!" + std::to_string(i * 2)] = file;
  names["\xff"] = file;
  drawing.fill(root, root, names);
  const auto bytes = drawing.write();
  const Image image = open_image(bytes);
  const Inode dir = at(image, {});
  EXPECT_GT(dir.size, 10 * kBlockSize);
  for (const auto& [name, inode] : names) ASSERT_TRUE(image.find(dir, name)) << name;
  EXPECT_EQ(image.find(dir, ".").value().nid, image.root());
  EXPECT_EQ(image.find(dir, "..").value().nid, image.root());
  for (const std::string& name : {std::string(" "), std::string("!"), std::string("!1"), std::string("!59990"),
                                  std::string("/"), std::string("\xff\xff"), std::string("")}) {
    EXPECT_EQ(image.find(dir, name).error(), ENOENT) << name;
  }
  // Every position that was handed out goes on with the next name.
  std::vector<std::string> listed;
  std::uint64_t position = 0;
  for (bool more = true; more;) {
    more = false;
    ASSERT_TRUE(image.read_dir(dir, position, [&](const Child& child, std::uint64_t next) {
      listed.emplace_back(child.name);
      position = next;
      more = true;
      return false;
    }));
  }
  EXPECT_EQ(listed.size(), names.size() + 2);
  EXPECT_EQ(listed, names_of(image, dir));
  EXPECT_TRUE(std::ranges::is_sorted(listed));
  EXPECT_TRUE(image.read_dir(dir, ~std::uint64_t{0}, [](const Child&, std::uint64_t) { return true; }));
}

TEST(Image, SaysWhatItDoesNotSupport) {
  auto bytes = small_image();
  SuperBlock super;
  std::memcpy(&super, bytes.data() + kSuperBlockOffset, sizeof super);
  super.feature_incompat = kIncompatCompression | kIncompatFragments | 0x4000;
  std::memcpy(bytes.data() + kSuperBlockOffset, &super, sizeof super);
  const auto image = Image::open(bytes, {});
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error(), HasSubstr("compressed data, fragments or deduplication, unknown features 0x4000"));
}

TEST(Image, RefusesWhatIsNoImage) {
  auto bytes = small_image();
  EXPECT_THAT(Image::open({}, {}).error(), HasSubstr("only 0 bytes"));
  EXPECT_THAT(Image::open(std::span(bytes).first(bytes.size() - 1), {}).error(), HasSubstr("truncated"));
  bytes[kSuperBlockOffset] = std::byte{0};
  EXPECT_THAT(Image::open(bytes, {}).error(), HasSubstr("no superblock"));
}

TEST(Image, DamageIsToldAndStaysWithItsFile) {
  auto bytes = small_image();
  const Nid hurt = at(open_image(bytes), {"file"}).nid;
  bytes[raw(hurt) * kSlotSize + 5] = std::byte{0};  // no file type
  const Image image = open_image(bytes);
  EXPECT_EQ(image.inode(hurt).error(), EUCLEAN);
  ASSERT_EQ(last_lines.size(), 1U);
  EXPECT_EQ(last_lines[0], "image damaged at inode " + std::to_string(raw(hurt)) + ": it has no file type");
  EXPECT_EQ(image.symlink(at(image, {"link"})).value(), "file");
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(image.inode(hurt));
  EXPECT_LE(last_lines.size(), Image::kMostReports + 1);
}

TEST(Image, InodesOutsideAreRefused) {
  const auto bytes = small_image();
  const Image image = open_image(bytes);
  for (const std::uint64_t nid :
       {std::uint64_t{0}, std::uint64_t{35}, bytes.size() / kSlotSize, std::uint64_t{1} << 59, ~std::uint64_t{0}}) {
    EXPECT_EQ(image.inode(Nid{nid}).error(), EUCLEAN) << nid;
  }
}

// Under ASan this finds every step outside; anywhere it finds loops without end.
TEST(Image, RandomDamageNeverHurtsTheReader) {
  const auto good = small_image();
  std::mt19937 random(test::random_seed());
  for (int round = 0; round < 3000; ++round) {
    auto bytes = good;
    for (int i = std::uniform_int_distribution(1, 12)(random); i > 0; --i) {
      // Where something is: the rest is zeros.
      const auto where =
          std::uniform_int_distribution<std::size_t>(kSuperBlockOffset, kSuperBlockOffset + 2048)(random);
      bytes[where] = static_cast<std::byte>(random() & 1 ? random() : 0xff);
    }
    const auto image = Image::open(bytes, {.report = nullptr});
    if (!image) continue;
    vellum::testing::walk_image(*image, 256);
  }
}

TEST(SplitXattrName, KnowsEveryPrefix) {
  using Split = std::pair<std::uint8_t, std::string_view>;
  EXPECT_EQ(split_xattr_name("user.a"), Split(kXattrUser, "a"));
  EXPECT_EQ(split_xattr_name("trusted.overlay.x"), Split(kXattrTrusted, "overlay.x"));
  EXPECT_EQ(split_xattr_name("system.posix_acl_default"), Split(kXattrAclDefault, ""));
  EXPECT_EQ(split_xattr_name("security.selinux"), Split(kXattrSecurity, "selinux"));
  EXPECT_EQ(split_xattr_name("userx"), Split(kXattrNone, "userx"));
}

}  // namespace
}  // namespace vellum::erofs
