#include "cli/image_mount_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace vellum::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;
using Fuse = ImageMountCommand::Fuse;
using composefs::Verify;

ImageMountCommand parsed(const Words& words) {
  auto command = parse_image_mount(words);
  EXPECT_TRUE(command) << command.error();
  return std::move(command.value());
}

TEST(ImageMountOptions, StandBehindOOrAsWords) {
  for (const Words& words :
       {Words{"-o", "basedir=a:b,fuse=yes,upperdir=u,workdir=w,rw", "image", "dir"},
        Words{"image", "-obasedir=a:b", "dir", "-o", "fuse=yes,upperdir=u", "--workdir=w"},
        Words{"--basedir", "a:b", "--fuse", "yes", "--upperdir=u", "--workdir=w", "image", "dir"}}) {
    const ImageMountCommand command = parsed(words);
    EXPECT_EQ(command.image, "image");
    EXPECT_EQ(command.mountpoint, "dir");
    EXPECT_THAT(command.basedirs, ElementsAre("a", "b"));
    EXPECT_EQ(command.fuse, Fuse::kYes);
    EXPECT_EQ(command.upperdir, "u");
    EXPECT_EQ(command.workdir, "w");
    EXPECT_FALSE(command.flags.read_only);
  }
}

TEST(ImageMountOptions, ValuesMayHoldEscapedSeparators) {
  const ImageMountCommand command = parsed({"-o", "basedir=a\\:b\\,c:d,idmap=x\\\\y", "image", "dir"});
  EXPECT_THAT(command.basedirs, ElementsAre("a:b,c", "d"));
  EXPECT_EQ(command.idmap, "x\\y");
}

TEST(ImageMountOptions, ADigestImpliesVerity) {
  EXPECT_EQ(parsed({"image", "dir"}).verify, Verify::kNo);
  EXPECT_EQ(parsed({"-otryverity", "image", "dir"}).verify, Verify::kTry);
  EXPECT_EQ(parsed({"-overity,tryverity", "image", "dir"}).verify, Verify::kRequire);
  EXPECT_EQ(parsed({"-odigest=" + std::string(64, 'A'), "image", "dir"}).verify, Verify::kRequire);
}

TEST(ImageMountOptions, TakeWhatMountPassesOn) {
  const ImageMountCommand command = parsed(
      {"image", "dir", "-sn", "-t", "composefs", "-o", "rw,nosuid,nofail,x-systemd.automount,_netdev,basedir=a"});
  EXPECT_TRUE(command.flags.nosuid);
  EXPECT_EQ(command.action, ImageMountCommand::Action::kMount);
  EXPECT_EQ(parsed({"-f", "image", "dir"}).action, ImageMountCommand::Action::kNothing);
  EXPECT_EQ(parsed({"-h"}).action, ImageMountCommand::Action::kHelp);
  EXPECT_EQ(parsed({"--", "-image", "dir"}).image, "-image");
}

TEST(ImageMountOptions, TakeWhatStandsInFstab) {
  const ImageMountCommand command = parsed(
      {"-o", "user,user=joe,users,nouser,owner,group,silent,loud,lazytime,iversion,async,comment=x", "image", "dir"});
  EXPECT_FALSE(command.flags.relatime);
  EXPECT_TRUE(parsed({"-o", "noatime,relatime", "image", "dir"}).flags.relatime);
  EXPECT_FALSE(parsed({"-o", "noatime,relatime", "image", "dir"}).flags.noatime);
  EXPECT_TRUE(parsed({"-o", "noatime,strictatime,nodiratime", "image", "dir"}).flags.strictatime);
  EXPECT_TRUE(parsed({"-o", "nodiratime", "image", "dir"}).flags.nodiratime);
  EXPECT_TRUE(parsed({"-o", "strictatime,noatime", "image", "dir"}).flags.noatime);
  EXPECT_FALSE(parsed({"-o", "strictatime,noatime", "image", "dir"}).flags.strictatime);
}

TEST(ImageMountOptions, SayWhatIsWrong) {
  struct Case {
    Words words;
    const char* said;
  };
  for (const Case& each :
       {Case{{"image"}, "are needed"}, Case{{"image", "dir", "more"}, "are needed"},
        Case{{"-o", "nonsense", "image", "dir"}, "unknown option nonsense"},
        Case{{"--nonsense=1", "image", "dir"}, "unknown option nonsense=1"},
        Case{{"-x", "image", "dir"}, "unknown option -x"}, Case{{"image", "dir", "-o"}, "-o needs a value"},
        Case{{"-o", "basedir", "image", "dir"}, "basedir needs a value"},
        Case{{"-o", "basedir=", "image", "dir"}, "basedir needs a value"},
        Case{{"-o", "verity=1", "image", "dir"}, "verity takes no value"},
        Case{{"-o", "digest=12", "image", "dir"}, "hexadecimal"},
        Case{{"-o", "threads=0", "image", "dir"}, "threads=0"},
        Case{{"-t", "ext4", "image", "dir"}, "unsupported type ext4"},
        Case{{"-o", "upperdir=u", "image", "dir"}, "both"},
        Case{{"--standalone", "--fuse=no", "image", "dir"}, "does not go with"},
        Case{{"--standalone", "-oupperdir=u,workdir=w", "image", "dir"}, "read-only"},
        Case{{"--fuse=yes", "-oidmap=f", "image", "dir"}, "--fuse=no"}}) {
    const auto command = parse_image_mount(each.words);
    ASSERT_FALSE(command) << each.said;
    EXPECT_THAT(command.error(), HasSubstr(each.said));
  }
}

TEST(ImageMountOptions, HelpTellsThemAll) {
  const std::string help = image_mount_help("mount.composefs");
  for (const char* name : {"basedir", "digest", "verity", "tryverity", "idmap", "upperdir", "workdir", "ro", "rw",
                           "fuse", "standalone", "foreground", "allow_other", "threads", "debug"})
    EXPECT_THAT(help, HasSubstr(name));
}

}  // namespace
}  // namespace vellum::cli
