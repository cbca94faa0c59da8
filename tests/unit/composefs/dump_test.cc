#include "composefs/dump.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "composefs/build.h"
#include "composefs/load.h"
#include "erofs/image.h"

namespace vellum::composefs {
namespace {

const std::string kRootLine = "/ 0 40755 2 0 0 0 0.0 - - -\n";

std::string error_of(const std::string& lines, DumpOptions options = {}) {
  const auto tree = parse_dump(kRootLine + lines, options);
  return tree ? "" : tree.error();
}

TEST(Dump, RefusesWithTheLine) {
  const std::pair<std::string, std::string> cases[] = {
      {"\n", "Invalid empty path (line 2)"},
      {"/f 0 100644 1 0 0 0 0.0 - - -\n/f 0 100644 1 0 0 0 0.0 - - -\n", "Path /f already exist"},
      {"/d 0 40755 1 0 0 0 0.0 - - -\n/d 0 40755 1 0 0 0 0.0 - - -\n", "Path /d already exist (line 3)"},
      {"/ 0 40755 1 0 0 0 0.0 - - -\n", "Can't have multiple roots (line 2)"},
      {"/x/f 0 100644 1 0 0 0 0.0 - - -\n", "Parent directory missing for /x/f (line 2)"},
      {"/x 0 100644 1 0 0 0 0.0 - - -\n/x/f 0 100644 1 0 0 0 0.0 - - -\n",
       "Parent must be a directory for /x/f (line 3)"},
      {"/. 0 100644 1 0 0 0 0.0 - - -\n", "Invalid . or .. in path: /. (line 2)"},
      {"/f 0 644 1 0 0 0 0.0 - - -\n", "Invalid mode 644 (line 2)"},
      {"/f 0 @40755 1 0 0 0 0.0 /x - -\n", "Directories can't be hardlinked (line 2)"},
      {"/f 0 @100644 1 0 0 0 0.0 - - -\n", "No target path for the hardlink (line 2)"},
      {"/f 0 @100644 1 0 0 0 0.0 /x - -\n", "No target at /x for hardlink (line 2)"},
      {"/f 0 @100644 1 0 0 0 0.0 /f - -\n", "Self-referential hardlink /f (line 2)"},
      {"/f 3 100644 1 0 0 0 0.0 - four -\n", "Invalid content size 4, must match size 3 (line 2)"},
      {"/l 0 120777 1 0 0 0 0.0 - - -\n", "Invalid symlink (line 2)"},
      {"/f 0 100644 1 0 0 0 0 - - -\n", "Invalid integer  (line 2)"},
      {"/f 0 100644 1 0 0 0 0.0 - - - user.a\n", "Missing = in xattr (line 2)"},
      {"/f 0 100644 1 0 0 0 0.0 - - - =a\n", "Can't set xattr (line 2)"},
      {"/f\\q 0 100644 1 0 0 0 0.0 - - -\n", "Unsupported escape type q (line 2)"},
      {"/f\\x1 0 100644 1 0 0 0 0.0 - - -\n", "No hex characters after hex escape (line 2)"},
  };
  for (const auto& [lines, error] : cases) EXPECT_EQ(error_of(lines), error) << lines;
}

// What the C tool lets pass.
TEST(Dump, RefusesWhatCannotBeMeant) {
  EXPECT_NE(error_of("/f 0 100644 1 5 xx 0 0.0 - - -\n"), "");
  EXPECT_NE(error_of("/f 0 100644 1 5 0 xx 0.0 - - -\n"), "");
  EXPECT_NE(error_of("/f 5 100644 1 0 0 0 0.0 x - zz\n"), "");
  EXPECT_NE(error_of("/f 5 100644 1 0 0 0 0.0 x\\x00y - -\n"), "");
  EXPECT_NE(error_of("/d 0 40755 2 0 0 0 0.0 - - -\n/l 0 @100644 1 0 0 0 0.0 /d - -\n"), "");
  EXPECT_NE(error_of("/c 0 @100644 1 0 0 0 0.0 /a - -\n/a 0 @100644 1 0 0 0 0.0 /b - -\n"
                     "/b 0 @100644 1 0 0 0 0.0 /a - -\n"),
            "");
}

TEST(Dump, StrictRefusesMore) {
  EXPECT_EQ(error_of("/f 0 100644 1 0 0 7 0.0 - - -\n"), "");
  EXPECT_NE(error_of("/f 0 100644 1 0 0 7 0.0 - - -\n", {.strict = true}), "");
  EXPECT_NE(error_of("/l 9 120777 1 0 0 0 0.0 goal - -\n", {.strict = true}), "");
  EXPECT_EQ(error_of("/l 4 120777 1 0 0 0 0.0 goal - -\n", {.strict = true}), "");
  EXPECT_EQ(error_of("/f 0 100644 1 0 0 0 0.0 - - -"), "");
  EXPECT_NE(error_of("/f 0 100644 1 0 0 0 0.0 - - -", {.strict = true}), "");
}

TEST(Dump, SourceInSmallPiecesIsTheSame) {
  const std::string text = kRootLine + "/f 3 100644 1 0 0 0 0.0 - abc - user.a=" + std::string(5000, 'x') + "\n";
  std::size_t at = 0;
  const auto tree = read_dump([&](std::span<std::byte> buffer) -> Result<std::size_t> {
    const std::size_t size = std::min<std::size_t>({7, buffer.size(), text.size() - at});
    std::memcpy(buffer.data(), text.data() + at, size);
    at += size;
    return size;
  });
  ASSERT_TRUE(tree) << tree.error();
  std::string again;
  write_dump(*tree, [&](std::string_view piece) {
    again += piece;
    return true;
  });
  EXPECT_EQ(again, text);
}

TEST(Dump, LinesHaveAnEnd) {
  std::size_t given = 0;
  const auto tree = read_dump([&](std::span<std::byte> buffer) -> Result<std::size_t> {
    if (given > 64 * kLineMax) return fail(EFBIG);
    std::ranges::fill(buffer, std::byte{'a'});
    given += buffer.size();
    return buffer.size();
  });
  ASSERT_FALSE(tree);
  EXPECT_EQ(tree.error(), "Line too long (line 1)");
  EXPECT_LE(given, 3 * kLineMax);
  EXPECT_EQ(error_of("/" + std::string(kLineMax, 'a') + "\n"), "Line too long (line 2)");
}

// All that the other limits allow at once, each byte written as four.
TEST(Dump, TheLongestLineIsTaken) {
  const auto escaped = [](std::size_t size) {
    std::string text;
    for (std::size_t i = 0; i < size; ++i) text += "\\x41";
    return text;
  };
  std::string text = kRootLine, path;
  for (int i = 0; i < 100; ++i) {
    path += "/" + escaped(kNameMax);
    text += path + " 0 40755 2 0 0 0 0.0 - - -\n";
  }
  text += path + "/f 5000 100644 1 0 0 0 0.0 " + escaped(kPathMax - 1) + " " + escaped(kInlineMax) +
          " - user.a=" + escaped(16000) + "\n";
  std::size_t at = 0;
  const auto tree = read_dump([&](std::span<std::byte> buffer) -> Result<std::size_t> {
    const std::size_t size = std::min(buffer.size(), text.size() - at);
    std::memcpy(buffer.data(), text.data() + at, size);
    at += size;
    return size;
  });
  ASSERT_TRUE(tree) << tree.error();
  EXPECT_EQ(tree->size(), 102u);
}

// A depth at which recursion would have ended the program.
TEST(Dump, DeepTreesTakeNoStack) {
  std::string text = kRootLine, path;
  for (int i = 0; i < 3000; ++i) {
    path += "/d";
    text += path + " 0 40755 2 0 0 0 0.0 - - -\n";
  }
  const auto tree = parse_dump(text);
  ASSERT_TRUE(tree) << tree.error();
  const auto image = build_image(*tree);
  ASSERT_TRUE(image);
  const auto opened = erofs::Image::open(*image);
  ASSERT_TRUE(opened);
  const auto again = load_tree(*opened);
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(again->size(), 3001u);
}

TEST(Dump, MarksOfWhiteoutsAreNotContent) {
  const auto tree = parse_dump(kRootLine + "/d 0 40755 2 0 0 0 0.0 - - -\n/d/w 0 20644 1 0 0 0 0.0 - - -\n");
  ASSERT_TRUE(tree);
  const auto image = build_image(*tree, {.least = 1, .most = 1});
  ASSERT_TRUE(image);
  const auto again = load_tree(*erofs::Image::open(*image));
  ASSERT_TRUE(again);
  const Node& dir = (*again)[*again->find((*again)[kRoot], "d")];
  EXPECT_EQ(dir.xattrs_count, 0u);
  EXPECT_TRUE((*again)[*again->find(dir, "w")].is_whiteout());
}

erofs::Inode inode_of(const erofs::Image& image, std::string_view name) {
  return *image.inode(image.find(*image.inode(image.root()), name)->nid);
}

template <class T>
void put_at(std::vector<std::byte>& image, std::uint64_t at, const T& what) {
  std::memcpy(image.data() + at, &what, sizeof what);
}

// 60 directories that are all the blocks of one. Without a limit a small image has as many nodes as its size squared.
TEST(Load, DirectoriesMustNotShareBlocks) {
  std::string text = kRootLine + "/big 0 40755 2 0 0 0 0.0 - - -\n";
  for (int i = 0; i < 2500; ++i) text += fmt::format("/big/file{:04} 0 100644 1 0 0 0 0.0 - - -\n", i);
  for (int i = 0; i < 60; ++i) text += fmt::format("/d{} 0 40755 2 0 0 0 0.0 - - -\n", i);
  auto image = *build_image(*parse_dump(text));
  {
    const auto opened = erofs::Image::open(image);
    ASSERT_TRUE(opened);
    ASSERT_TRUE(load_tree(*opened));
    const erofs::Inode big = inode_of(*opened, "big");
    ASSERT_GT(big.size, 40000u);
    for (int i = 0; i < 60; ++i) {
      const erofs::Inode dir = inode_of(*opened, fmt::format("d{}", i));
      ASSERT_FALSE(dir.extended);
      const std::uint64_t at = (raw(dir.nid) + opened->slot_base()) << erofs::kSlotBits;
      erofs::CompactInode inode;
      std::memcpy(&inode, image.data() + at, sizeof inode);
      inode.format = 0;  // compact, plain
      inode.size = static_cast<std::uint32_t>(big.size / 4096 * 4096);
      inode.u = big.u;
      put_at(image, at, inode);
    }
  }
  const auto opened = erofs::Image::open(image, {.report = nullptr, .check_checksum = false});
  ASSERT_TRUE(opened);
  const auto tree = load_tree(*opened);
  ASSERT_FALSE(tree);
  EXPECT_EQ(tree.error(), "the image is damaged: its directories are together larger than the image");
}

// The value of a shared xattr whose every word looks like an xattr of its own, with a long value.
TEST(Load, XattrsMustNotOverlap) {
  Tree tree;
  tree[tree.add(kNoNode, "")].mode = 0040755;
  std::string value = "xxx";  // words of the image begin behind it
  for (unsigned i = 0; i < 3000; ++i) {
    const unsigned size = 8000 + i;
    value += {'\1', '\1', static_cast<char>(size & 255), static_cast<char>(size >> 8)};
  }
  const XattrId shared = tree.intern_xattr("user.s", value);
  for (int i = 0; i < 400; ++i) {
    const NodeId id = tree.add(kRoot, fmt::format("f{}", i));
    tree[id].mode = 0100644;
    tree.set_xattrs(id, std::span(&shared, 1));
  }
  ASSERT_TRUE(tree.finish());
  auto image = *build_image(tree);
  {
    const auto opened = erofs::Image::open(image);
    ASSERT_TRUE(opened);
    ASSERT_TRUE(load_tree(*opened));
    for (unsigned i = 0; i < 400; ++i) {
      const std::uint64_t at = inode_of(*opened, fmt::format("f{}", i)).xattrs_at + sizeof(erofs::XattrHeader);
      erofs::Le32 id;
      std::memcpy(&id, image.data() + at, sizeof id);
      put_at(image, at, erofs::Le32(id + 2 + i));
    }
  }
  const auto opened = erofs::Image::open(image, {.report = nullptr, .check_checksum = false});
  ASSERT_TRUE(opened);
  const auto again = load_tree(*opened);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), "the image is damaged: its xattrs overlap: together they are far larger than the image");
}

// Any byte of an image may be wrong: an answer, never a crash.
TEST(Load, FlippedBytesGiveATreeOrAnError) {
  const auto tree = parse_dump(kRootLine +
                               "/d 0 40755 2 0 0 0 0.0 - - - user.a=1\n/d/f 900 100644 2 0 0 0 1.0 x/y - -\n"
                               "/d/g 0 @100644 1 0 0 0 0.0 /d/f - -\n/i 3 100644 1 0 0 0 0.0 - abc - user.a=1\n"
                               "/l 4 120777 1 0 0 0 0.0 goal - -\n/w 0 20644 1 0 0 0 0.0 - - -\n");
  ASSERT_TRUE(tree);
  const auto image = build_image(*tree);
  ASSERT_TRUE(image);
  int errors = 0;
  for (std::size_t at = 1024; at < 2600; ++at) {
    for (const unsigned flip : {1u, 0x80u, 0xffu}) {
      auto damaged = *image;
      damaged[at] ^= static_cast<std::byte>(flip);
      const auto opened = erofs::Image::open(damaged, {.report = nullptr});
      if (!opened || !load_tree(*opened)) ++errors;
    }
  }
  EXPECT_GT(errors, 100);
}

}  // namespace
}  // namespace vellum::composefs
