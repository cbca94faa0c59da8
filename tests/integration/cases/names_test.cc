// File names are bytes.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

const std::string kLongest(255, 'n');

std::vector<std::string> strange_names() {
  return {"\xff\xfe\x80",
          "line\nbreak",
          "back\\slash",
          "co:lon",
          "com,ma",
          " lead and trail ",
          "..foo",
          "...",
          "-rf",
          "*",
          "\x01\x7f",
          "\xc3\xa9",
          "e\xcc\x81",
          ".fuse_hidden0001",
          std::string(255, '\xe2'),
          kLongest,
          "#1",
          "work"};
}

class StrangeName : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Names, StrangeName, ::testing::ValuesIn(strange_names()),
                         [](const auto& param) { return "Number" + std::to_string(param.index); });

TEST_P(StrangeName, IsReadFromLowerAndUpper) {
  OverlayFixture fs({.lower = {{"low/" + GetParam(), File{"l"}}}, .upper = {{"up/" + GetParam(), File{"u"}}}});
  EXPECT_EQ(names_in(fs / "low"), (Names{GetParam()}));
  EXPECT_EQ(read_file(fs / "low/" + GetParam()), "l");
  EXPECT_EQ(read_file(fs / "up/" + GetParam()), "u");
}

TEST_P(StrangeName, CanBeCopiedUpRemovedMadeAndRenamed) {
  OverlayFixture fs({.lower = {{"d/" + GetParam(), File{"l"}}, {"e/" + GetParam(), File{"l"}}}});
  std::string inside = fs / "d/" + GetParam();
  EXPECT_OK(append_file(inside, "+"));
  EXPECT_EQ(read_file(inside), "l+");
  EXPECT_OK(::unlink(inside.c_str()));
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
  EXPECT_OK(::mkdir(inside.c_str(), 0755));
  EXPECT_EQ(names_in(fs / "d"), (Names{GetParam()}));
  EXPECT_OK(::rmdir(inside.c_str()));
  EXPECT_OK(create_file(inside, "again"));
  EXPECT_OK(::rename((fs / "e/" + GetParam()).c_str(), (fs / "moved").c_str()));
  EXPECT_OK(::rename((fs / "moved").c_str(), inside.c_str()));
  EXPECT_EQ(read_file(inside), "l");
  EXPECT_EQ(names_in(fs / "e"), (Names{}));
  fs.remount();
  EXPECT_EQ(names_in(fs / "d"), (Names{GetParam()}));
  EXPECT_EQ(names_in(fs / "e"), (Names{}));
}

TEST(Names, Of256BytesAreEnametoolong) {
  OverlayFixture fs({.lower = {{"f", File{}}}});
  std::string too_long(256, 'n');
  EXPECT_ERRNO(create_file(fs / too_long, ""), ENAMETOOLONG);
  EXPECT_EQ(read_file(fs / too_long), "<ENAMETOOLONG>");
  EXPECT_ERRNO(::mkdir((fs / too_long).c_str(), 0755), ENAMETOOLONG);
  EXPECT_ERRNO(::rename((fs / "f").c_str(), (fs / too_long).c_str()), ENAMETOOLONG);
  EXPECT_ERRNO(::symlink("x", (fs / too_long).c_str()), ENAMETOOLONG);
}

TEST(Names, Of255BytesCanBeWhitedOutInEveryStyle) {
  OverlayFixture fs({.lower = {{kLongest, File{}}, {"d/" + kLongest, File{}}}});
  EXPECT_OK(::unlink((fs / kLongest).c_str()));
  EXPECT_OK(::unlink((fs / "d/" + kLongest).c_str()));
  EXPECT_FALSE(exists(fs / kLongest));
  fs.remount();
  EXPECT_FALSE(exists(fs / kLongest));
  EXPECT_EQ(names_in(fs / "d"), (Names{}));
}

// A caller's own `.wh.foo` is refused, or is a file like any other; it never eats `foo`, now or after a remount.
class CallersDotWh : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Names, CallersDotWh, ::testing::Values(".wh.foo", ".wh.", ".wh..wh..opq", ".wh..wh.x", ".wh"),
                         [](const auto& param) { return "Number" + std::to_string(param.index); });

TEST_P(CallersDotWh, NeverEatsAnotherName) {
  OverlayFixture fs({.lower = {{"d/foo", File{"foo"}}, {"d/bar", File{"bar"}}}});
  std::string path = fs / "d/" + GetParam();
  int error = create_file(path, "mine") < 0 ? errno : 0;
  Names expected{"bar", "foo"};
  if (error == 0) {
    expected.insert(expected.begin(), GetParam());
    EXPECT_EQ(read_file(path), "mine");
  }
  EXPECT_EQ(names_in(fs / "d"), expected);
  EXPECT_EQ(read_file(fs / "d/foo"), "foo");
  fs.remount();
  EXPECT_EQ(read_file(fs / "d/foo"), "foo");
  EXPECT_EQ(names_in(fs / "d"), expected);
}

TEST_P(CallersDotWh, CannotBeTheTargetOfARenameThatEatsAnotherName) {
  OverlayFixture fs({.lower = {{"d/foo", File{"foo"}}, {"d/bar", File{"bar"}}, {"src", File{"s"}}}});
  std::string path = fs / "d/" + GetParam();
  ::rename((fs / "src").c_str(), path.c_str());
  ::mkdir((path + "2").c_str(), 0755);
  ::symlink("x", (path + "3").c_str());
  EXPECT_EQ(read_file(fs / "d/foo"), "foo");
  EXPECT_EQ(read_file(fs / "d/bar"), "bar");
  fs.remount();
  EXPECT_EQ(read_file(fs / "d/foo"), "foo");
  EXPECT_EQ(read_file(fs / "d/bar"), "bar");
}

TEST(Names, DeepPathsBeyondPathMaxWorkByParts) {
  OverlayFixture fs({.lower = {{"f", File{}}}});
  int at = ::open(fs.root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  constexpr int kDepth = 30;  // 30 * 201 bytes > PATH_MAX
  std::string name(200, 'd');
  for (int i = 0; i < kDepth; ++i) {
    ASSERT_OK(::mkdirat(at, name.c_str(), 0755)) << i;
    int next = ::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_OK(next) << i;
    ::close(at);
    at = next;
  }
  Fd deepest(at);
  Fd file(::openat(deepest, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_GE(static_cast<int>(file), 0) << errno_name(errno);
  EXPECT_EQ(::write(file, "deep", 4), 4);
  EXPECT_EQ(read_fd(file), "deep");
  EXPECT_OK(::fchmod(file, 0600));
  EXPECT_OK(::renameat(deepest, "f", deepest, "g"));
  EXPECT_OK(::unlinkat(deepest, "g", 0));
}

}  // namespace
}  // namespace vellum::test
