// rename, unlink and rmdir: each combination of layers with each style of whiteouts, and what is left on disk.
#include <gtest/gtest.h>

#include "unit/overlay/overlay_fixture.h"

namespace vellum::overlay::testing {
namespace {

using Names = std::set<std::string>;

class Styles : public ::testing::TestWithParam<std::tuple<WhiteoutStyle, bool /*wire*/>> {
 protected:
  Spec spec(Spec made) const {
    made.options.whiteouts = std::get<0>(GetParam());
    made.through_wire = std::get<1>(GetParam());
    return made;
  }
};

std::string style_name(const ::testing::TestParamInfo<std::tuple<WhiteoutStyle, bool>>& given) {
  constexpr const char* kNames[] = {"auto", "device", "dot_wh", "xattr"};
  return std::string(kNames[static_cast<int>(std::get<0>(given.param))]) + (std::get<1>(given.param) ? "_wire" : "");
}

INSTANTIATE_TEST_SUITE_P(All, Styles,
                         ::testing::Combine(::testing::Values(WhiteoutStyle::kDevice, WhiteoutStyle::kDotWh,
                                                              WhiteoutStyle::kXattr),
                                            ::testing::Bool()),
                         style_name);

// Sources and targets of one kind each: "u" only in upper, "l" only in lower, "m" in both, "w" whited out.
const Tree kLowerFiles = {{"l", File{"low l"}},   {"m", File{"low m"}}, {"l2", File{"low l2"}},
                          {"m2", File{"low m2"}}, {"w", File{"low w"}}, {"d/x", File{"x"}}};
const Tree kUpperFiles = {
    {"u", File{"up u"}}, {"m", File{"up m"}}, {"u2", File{"up u2"}}, {"m2", File{"up m2"}}, {"w", whiteout()}};

std::map<std::string, std::string> start_of_files() {
  return {{"l", "low l"}, {"m", "up m"},   {"l2", "low l2"}, {"m2", "up m2"},
          {"u", "up u"},  {"u2", "up u2"}, {"d/x", "x"}};
}

std::string as_tree(const std::map<std::string, std::string>& files) {
  std::string text;
  std::set<std::string> dirs;
  for (const auto& [path, content] : files) {
    if (path.find('/') != std::string::npos && dirs.insert(path.substr(0, path.find('/'))).second) {
      text += path.substr(0, path.find('/')) + "/\n";
    }
    text += path + "=" + content + "\n";
  }
  return text;
}

TEST_P(Styles, FilesInEveryCombination) {
  for (const char* from : {"u", "l", "m"}) {
    for (const char* to : {"u2", "l2", "m2", "w", "new", "d/x", "d/new"}) {
      for (bool seen_before : {false, true}) {
        SCOPED_TRACE(std::string(from) + " -> " + to);
        OverlayFixture fs(spec({.lower = kLowerFiles, .upper = kUpperFiles}));
        if (seen_before) {
          EXPECT_EQ(fs.whole_tree(), as_tree(start_of_files()));
        }
        auto expected = start_of_files();
        expected[to] = expected[from];
        expected.erase(from);
        auto ino = fs.attr(from).ino;
        ASSERT_TRUE(fs.rename(from, to));
        EXPECT_EQ(fs.whole_tree(), as_tree(expected));
        EXPECT_EQ(fs.attr(to).ino, ino);
        EXPECT_EQ(fs.litter(), Names{});
        fs.forget_all();
        EXPECT_EQ(fs.whole_tree(), as_tree(expected));
        fs.remount();
        EXPECT_EQ(fs.whole_tree(), as_tree(expected));
        // And the freed name can be used again.
        EXPECT_TRUE(fs.create(from, "again"));
        expected[from] = "again";
        EXPECT_EQ(fs.whole_tree(), as_tree(expected));
      }
    }
  }
}

TEST_P(Styles, ExchangeInEveryCombination) {
  for (const char* from : {"u", "l", "m"}) {
    for (const char* to : {"u2", "l2", "m2", "d/x"}) {
      SCOPED_TRACE(std::string(from) + " <-> " + to);
      OverlayFixture fs(spec({.lower = kLowerFiles, .upper = kUpperFiles}));
      auto expected = start_of_files();
      std::swap(expected[from], expected[to]);
      auto first = fs.node(from), second = fs.node(to);
      ASSERT_TRUE(fs.rename(from, to, {.exchange = true}));
      EXPECT_EQ(fs.node(from), second);
      EXPECT_EQ(fs.node(to), first);
      EXPECT_EQ(fs.whole_tree(), as_tree(expected));
      fs.remount();
      EXPECT_EQ(fs.whole_tree(), as_tree(expected));
    }
  }
}

TEST_P(Styles, NoreplaceRefusesOnlyWhatIsThere) {
  OverlayFixture fs(spec({.lower = kLowerFiles, .upper = kUpperFiles}));
  for (const char* to : {"u2", "l2", "m2", "d", "d/x"}) {
    EXPECT_EQ(fs.rename("l", to, {.noreplace = true}).error(), EEXIST) << to;
  }
  EXPECT_TRUE(fs.rename("l", "w", {.noreplace = true}));
  EXPECT_EQ(fs.read("w"), "low l");
}

TEST_P(Styles, RefusalsChangeNothing) {
  OverlayFixture fs(spec({.lower = {{"f", File{"f"}}, {"full/x", File{}}, {"lowdir/y", File{}}},
                          .upper = {{"empty", Dir{}}, {"up/sub", Dir{}}}}));
  const std::string before = fs.whole_tree();
  EXPECT_EQ(fs.rename("f", "empty").error(), EISDIR);
  EXPECT_EQ(fs.rename("empty", "f").error(), ENOTDIR);
  EXPECT_EQ(fs.rename("empty", "full").error(), ENOTEMPTY);
  EXPECT_EQ(fs.rename("none", "f").error(), ENOENT);
  EXPECT_EQ(fs.rename("f", "none", {.exchange = true}).error(), ENOENT);
  EXPECT_EQ(fs.rename("up", "up/sub/up").error(), EINVAL);
  EXPECT_EQ(fs.rename("up/sub", "up", {.exchange = true}).error(), EINVAL);
  EXPECT_EQ(fs.rename("lowdir", "elsewhere").error(), EXDEV);
  EXPECT_EQ(fs.rename("f", ".wh.g").error(), EPERM);
  EXPECT_EQ(fs.rename("f", "g", {.whiteout = true}).error(), EINVAL);
  EXPECT_EQ(fs.rename("f", "g", {.noreplace = true, .exchange = true}).error(), EINVAL);
  EXPECT_EQ(fs.rename("f", std::string(256, 'n')).error(), ENAMETOOLONG);
  EXPECT_TRUE(fs.rename("f", "f"));
  EXPECT_EQ(fs.whole_tree(), before);
  EXPECT_EQ(fs.litter(), Names{});
}

TEST_P(Styles, UnlinkAndMakeAgain) {
  OverlayFixture fs(spec({.lower = kLowerFiles, .upper = kUpperFiles}));
  for (const char* name : {"u", "l", "m"}) {
    auto old = fs.node(name);
    ASSERT_TRUE(fs.unlink(name)) << name;
    EXPECT_FALSE(fs.has(name)) << name;
    EXPECT_EQ(fs.unlink(name).error(), ENOENT) << name;
    EXPECT_FALSE(fs.names().contains(name));
    EXPECT_TRUE(fs.create(name, "new")) << name;
    EXPECT_NE(fs.node(name), old);
    EXPECT_EQ(fs.read(name), "new");
    EXPECT_EQ(fs.create(name).error(), EEXIST);
  }
  EXPECT_EQ(fs.unlink("d").error(), EISDIR);
  EXPECT_EQ(fs.rmdir("l2").error(), ENOTDIR);
  fs.remount();
  for (const char* name : {"u", "l", "m"}) EXPECT_EQ(fs.read(name), "new");
}

TEST_P(Styles, EveryKindIsMadeOverAWhiteout) {
  OverlayFixture fs(spec({.lower = {{"a", File{}}, {"b/in", File{}}, {"c", File{}}, {"e", File{}}, {"f", File{}}}}));
  for (const char* name : {"a", "c", "e", "f"}) ASSERT_TRUE(fs.unlink(name));
  ASSERT_TRUE(fs.unlink("b/in"));
  ASSERT_TRUE(fs.rmdir("b"));
  EXPECT_EQ(fs.names(), Names{});
  EXPECT_TRUE(fs.mkdir("a", 0710));
  EXPECT_TRUE(fs.mkdir("b"));
  EXPECT_TRUE(fs.symlink("t", "c"));
  EXPECT_TRUE(fs.fs().mknod(fs.caller, fuse::NodeId::kRoot, "e", S_IFIFO | 0600, 0, 0));
  EXPECT_TRUE(fs.link("c", "f"));
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(fs.names(), (Names{"a", "b", "c", "e", "f"}));
    EXPECT_EQ(fs.names("b"), Names{}) << "a new directory shows nothing of the old one";
    EXPECT_EQ(fs.attr("a").mode, S_IFDIR | 0710U);
    EXPECT_EQ(fs.attr("e").mode, S_IFIFO | 0600U);
    EXPECT_EQ(fs.attr("c").nlink, 2U);
    fs.remount();
  }
  EXPECT_EQ(fs.litter(), Names{});
}

TEST_P(Styles, DirectoriesMoveAndReplace) {
  OverlayFixture fs(spec({.lower = {{"hidden/x", File{}}, {"over/y", File{}}, {"gone", File{}}},
                          .upper = {{"up/a", File{"a"}}, {"up2/b", File{"b"}}, {"up3/c", File{"c"}}}}));
  ASSERT_TRUE(fs.unlink("hidden/x"));
  EXPECT_TRUE(fs.rename("up", "hidden")) << "only whiteouts are in it";
  EXPECT_EQ(fs.names("hidden"), (Names{"a"}));
  ASSERT_TRUE(fs.unlink("over/y"));
  ASSERT_TRUE(fs.rmdir("over"));
  EXPECT_TRUE(fs.rename("up2", "over")) << "onto a whiteout";
  EXPECT_EQ(fs.names("over"), (Names{"b"}));
  ASSERT_TRUE(fs.unlink("gone"));
  EXPECT_TRUE(fs.rename("up3", "gone"));
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(fs.whole_tree(), "gone/\ngone/c=c\nhidden/\nhidden/a=a\nover/\nover/b=b\n");
    fs.remount();
  }
  // And away again: what was below stays hidden.
  EXPECT_TRUE(fs.rename("hidden", "free"));
  EXPECT_FALSE(fs.has("hidden"));
  fs.remount();
  EXPECT_FALSE(fs.has("hidden"));
  EXPECT_EQ(fs.read("free/a"), "a");
  EXPECT_EQ(fs.litter(), Names{});
}

TEST_P(Styles, RmdirOfEachKind) {
  OverlayFixture fs(spec({.lower = {{"low", Dir{}}, {"merged/x", File{}}, {"full/x", File{}}},
                          .upper = {{"up", Dir{}}, {"merged/y", File{}}}}));
  EXPECT_EQ(fs.rmdir("full").error(), ENOTEMPTY);
  EXPECT_EQ(fs.rmdir("merged").error(), ENOTEMPTY);
  ASSERT_TRUE(fs.unlink("merged/x"));
  EXPECT_EQ(fs.rmdir("merged").error(), ENOTEMPTY);
  ASSERT_TRUE(fs.unlink("merged/y"));
  for (const char* name : {"low", "merged", "up"}) {
    auto id = fs.node(name);
    EXPECT_TRUE(fs.rmdir(name)) << name;
    EXPECT_FALSE(fs.has(name)) << name;
    EXPECT_TRUE(fs.fs().getattr(fs.caller, id, {})) << name << ": somebody's working directory";
    EXPECT_FALSE(fs.fs().create(fs.caller, id, "in", O_RDWR, 0644, 0)) << name;
    EXPECT_FALSE(fs.fs().mkdir(fs.caller, id, "in", 0755, 0)) << name;
    auto inside = fs.fs().lookup(fs.caller, id, "x");
    EXPECT_TRUE(!inside || inside->node == fuse::NodeId::kNone) << name;
  }
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(fs.names(), (Names{"full"}));
    fs.remount();
  }
  EXPECT_EQ(fs.litter(), Names{});
}

TEST_P(Styles, RedirectedDirectoriesKeepWhatIsBelow) {
  for (RedirectDir how : {RedirectDir::kOn, RedirectDir::kCopy}) {
    Spec made = spec({.lowers = {{{"d/sub/a", File{"a"}}, {"d/b", File{"b"}}}, {{"d/sub/c", File{"c"}}}},
                      .upper = {{"d/up", File{"up"}}, {"t", Dir{}}}});
    made.options.redirect_dir = how;
    OverlayFixture fs(made);
    ASSERT_TRUE(fs.unlink("d/b"));
    ASSERT_TRUE(fs.rename("d", "t/moved"));
    const std::string expected = "t/\nt/moved/\nt/moved/sub/\nt/moved/sub/a=a\nt/moved/sub/c=c\nt/moved/up=up\n";
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(fs.whole_tree(), expected) << static_cast<int>(how);
      fs.remount();
    }
    ASSERT_TRUE(fs.rename("t/moved/sub", "sub"));
    EXPECT_TRUE(fs.write("sub/a", "A"));
    EXPECT_TRUE(fs.mkdir("d"));
    const std::string then = "d/\nsub/\nsub/a=A\nsub/c=c\nt/\nt/moved/\nt/moved/up=up\n";
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(fs.whole_tree(), then) << static_cast<int>(how);
      fs.remount();
    }
    ASSERT_TRUE(fs.rename("sub", "t", {.exchange = true}));
    const std::string last = "d/\nsub/\nsub/moved/\nsub/moved/up=up\nt/\nt/a=A\nt/c=c\n";
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(fs.whole_tree(), last) << static_cast<int>(how);
      fs.remount();
    }
  }
}

TEST_P(Styles, HardLinksMoveByTheirNames) {
  OverlayFixture fs(spec({.lower = {{"a", File{"x"}}, {"b", HardLink{"a"}}, {"c", HardLink{"a"}}}}));
  EXPECT_TRUE(fs.write("a", "y"));
  EXPECT_TRUE(fs.rename("b", "moved"));
  EXPECT_EQ(fs.whole_tree(), "a=y\nc=y\nmoved=y\n");
  EXPECT_TRUE(fs.rename("a", "c")) << "two names of one file: nothing is done";
  EXPECT_EQ(fs.whole_tree(), "a=y\nc=y\nmoved=y\n");
  EXPECT_TRUE(fs.unlink("c"));
  EXPECT_EQ(fs.attr("moved").nlink, 2U);
  EXPECT_TRUE(fs.write("moved", "z"));
  EXPECT_EQ(fs.whole_tree(), "a=z\nmoved=z\n");
}

TEST_P(Styles, WrittenAsThatStyle) {
  OverlayFixture fs(spec({.lower = {{"d/f", File{"x"}}}}));
  ASSERT_TRUE(fs.unlink("d/f"));
  EXPECT_EQ(fs.engine().stats().whiteouts, 1U);
  const bool is_device = exists(fs.upper("d/f")) && S_ISCHR(lstat_of(fs.upper("d/f")).st_mode);
  switch (std::get<0>(GetParam())) {
    case WhiteoutStyle::kDevice:
      if (!is_root()) GTEST_SKIP();
      EXPECT_TRUE(is_device);
      EXPECT_EQ(lstat_of(fs.upper("d/f")).st_rdev, 0U);
      break;
    case WhiteoutStyle::kDotWh: EXPECT_EQ(fs.upper_names("d"), (Names{".wh.f"})); break;
    default:
      const std::string prefix = is_root() ? "trusted.overlay." : "user.overlay.";
      EXPECT_TRUE(xattr_of(fs.upper("d/f"), prefix + "whiteout"));
      EXPECT_EQ(xattr_of(fs.upper("d"), prefix + "opaque"), "x");
  }
}

TEST_P(Styles, TheLongestNames) {
  const std::string name(255, 'n');
  OverlayFixture fs(spec({.lower = {{"d/" + name, File{"x"}}}}));
  EXPECT_EQ(fs.read("d/" + name), "x");
  auto removed = fs.unlink("d/" + name);
  if (std::get<0>(GetParam()) == WhiteoutStyle::kDotWh) {
    // ".wh." does not fit before it: refused, and nothing has happened.
    EXPECT_EQ(removed.error(), ENAMETOOLONG);
    EXPECT_EQ(fs.read("d/" + name), "x");
  } else {
    EXPECT_TRUE(removed);
    EXPECT_EQ(fs.names("d"), Names{});
    EXPECT_TRUE(fs.create("d/" + name, "y"));
    EXPECT_EQ(fs.read("d/" + name), "y");
  }
  EXPECT_EQ(fs.look("d/" + name + "n").error(), ENAMETOOLONG);
  EXPECT_EQ(fs.create(name + "n").error(), ENAMETOOLONG);
}

}  // namespace
}  // namespace vellum::overlay::testing
