#include "composefs/dump.h"

#include <gtest/gtest.h>

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
