#include "cli/overlay_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vellum::cli {
namespace {

using overlay::RedirectDir;
using overlay::WhiteoutStyle;
using overlay::XattrPermissions;
using overlay::XinoMode;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

using Words = std::vector<std::string>;

Parsed<OverlayCommand> parse(const Words& words, const Environment& environment = {}) {
  return parse_overlay_command(words, environment);
}

// A command line that is complete but for `options`.
Parsed<OverlayCommand> with(const std::string& options, const Environment& environment = {}) {
  return parse({"-o", "lowerdir=/low", "-o", options, "/mnt"}, environment);
}

OverlayCommand good(const std::string& options, const Environment& environment = {}) {
  auto command = with(options, environment);
  EXPECT_TRUE(command) << options << ": " << command.error();
  return command ? *command : OverlayCommand{};
}

TEST(CommandLine, TakesTheFormThatContainerToolsUse) {
  const auto command = parse({"-o", "lowerdir=/a:/b,upperdir=/up,workdir=/work,volatile", "/mnt"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_THAT(command->overlay.lower_dirs, ElementsAre("/a", "/b"));
  EXPECT_EQ(command->overlay.upper_dir, "/up");
  EXPECT_EQ(command->overlay.work_dir, "/work");
  EXPECT_TRUE(command->overlay.is_volatile);
  EXPECT_EQ(command->mount.mountpoint, "/mnt");
  EXPECT_FALSE(command->foreground);
  EXPECT_THAT(command->ignored, IsEmpty());
}

TEST(CommandLine, TakesSeveralListsAndAttachedOnes) {
  const auto command = parse({"-olowerdir=/a", "/mnt", "-o", "ro", "-onoexec"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_THAT(command->overlay.lower_dirs, ElementsAre("/a"));
  EXPECT_TRUE(command->mount.read_only);
  EXPECT_FALSE(command->mount.exec);
  EXPECT_EQ(command->mount.mountpoint, "/mnt");
}

TEST(CommandLine, FirstOfTwoWordsIsTheSourceAsMount8PassesIt) {
  const auto command = parse({"fuse-overlayfs", "/mnt", "-o", "rw,lowerdir=/a,dev,suid"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_EQ(command->mount.source, "fuse-overlayfs");
  EXPECT_EQ(command->mount.mountpoint, "/mnt");
  EXPECT_TRUE(command->mount.dev);
}

TEST(CommandLine, FsnameWinsOverTheSourceWord) {
  const auto command = parse({"src", "/mnt", "-o", "lowerdir=/a,fsname=mine,subtype=kind"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_EQ(command->mount.source, "mine");
  EXPECT_EQ(command->mount.subtype, "kind");
}

TEST(CommandLine, TakesMount8HelperFlags) {
  const auto command =
      parse({"src", "/mnt", "-n", "-v", "-t", "fuse.vellum", "-o", "lowerdir=/a,_netdev,x-systemd.foo=1"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_EQ(command->mount.mountpoint, "/mnt");
  EXPECT_THAT(command->ignored, IsEmpty());
}

TEST(CommandLine, MountpointMayLookLikeAListOrAnOption) {
  EXPECT_EQ(parse({"-olowerdir=/a", "[x,y]"})->mount.mountpoint, "[x,y]");
  EXPECT_EQ(parse({"-olowerdir=/a", "--", "-dir"})->mount.mountpoint, "-dir");
  EXPECT_EQ(parse({"-o", "[lowerdir=/a]", "-o", "lowerdir=[/a]", "/mnt"})->overlay.lower_dirs.at(0), "[/a]");
}

TEST(CommandLine, ForegroundAndDebug) {
  EXPECT_TRUE(parse({"-f", "-olowerdir=/a", "/mnt"})->foreground);
  EXPECT_FALSE(parse({"-f", "-olowerdir=/a", "/mnt"})->debug);
  for (const Words& words : {Words{"-d"}, Words{"--debug"}, Words{"-o", "debug"}, Words{"-fd"}}) {
    Words all = words;
    all.insert(all.end(), {"-olowerdir=/a", "/mnt"});
    const auto command = parse(all);
    ASSERT_TRUE(command) << command.error();
    EXPECT_TRUE(command->debug && command->foreground) << words[0];
  }
}

TEST(CommandLine, HelpAndVersionNeedNothingElse) {
  EXPECT_EQ(parse({"-h"})->action, OverlayCommand::Action::kHelp);
  EXPECT_EQ(parse({"--help"})->action, OverlayCommand::Action::kHelp);
  EXPECT_EQ(parse({"-V"})->action, OverlayCommand::Action::kVersion);
  EXPECT_EQ(parse({"--version"})->action, OverlayCommand::Action::kVersion);
}

TEST(CommandLine, CollectsWhatNobodyKnowsAndGoesOn) {
  const auto command = parse({"-o", "lowerdir=/a,foo,bar=baz", "--nope", "/mnt"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_THAT(command->ignored, ElementsAre("foo", "bar=baz", "--nope"));
}

TEST(CommandLine, SaysWhatIsMissing) {
  EXPECT_THAT(parse({}).error(), HasSubstr("mountpoint"));
  EXPECT_THAT(parse({"-olowerdir=/a"}).error(), HasSubstr("mountpoint"));
  EXPECT_THAT(parse({"/mnt"}).error(), HasSubstr("lowerdir"));
  EXPECT_THAT(parse({"-olowerdir=/a,upperdir=/up", "/mnt"}).error(), AllOf(HasSubstr("/up"), HasSubstr("workdir")));
  EXPECT_THAT(parse({"a", "b", "c", "-olowerdir=/a"}).error(), HasSubstr("'c'"));
  EXPECT_THAT(parse({"/mnt", "-o"}).error(), HasSubstr("-o"));
}

TEST(CommandLine, WorkdirWithoutUpperIsAWarning) {
  EXPECT_THAT(good("workdir=/w").warnings, ElementsAre(HasSubstr("workdir=/w")));
}

TEST(LayerOptions, EscapesAndOrder) {
  const auto command = parse({"-o", R"(lowerdir=/a\:b:/c\,d:/e\\,upperdir=/u\:p,workdir=/w)", "/mnt"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_THAT(command->overlay.lower_dirs, ElementsAre("/a:b", "/c,d", "/e\\"));
  EXPECT_EQ(command->overlay.upper_dir, "/u:p");
}

TEST(LayerOptions, LowerdirPlusAppendsAndTakesColonsAsTheyAre) {
  EXPECT_THAT(good("lowerdir+=/b,lowerdir+=/c:d").overlay.lower_dirs, ElementsAre("/low", "/b", "/c:d"));
}

TEST(LayerOptions, TheLastLowerdirWins) { EXPECT_THAT(good("lowerdir=/x:/y").overlay.lower_dirs, SizeIs(2)); }

TEST(LayerOptions, TakesFiveHundredLayers) {
  std::string list = "lowerdir=/0";
  for (int i = 1; i < 500; ++i) list += ":/" + std::to_string(i);
  EXPECT_THAT(good(list).overlay.lower_dirs, SizeIs(500));
}

TEST(OverlayOptions, DefaultsAreThePeersOwn) {
  const overlay::Options o = good("").overlay;
  EXPECT_EQ(o.timeout_seconds, 1e9);
  EXPECT_TRUE(o.fsync);
  EXPECT_TRUE(o.writeback);
  EXPECT_FALSE(o.is_volatile);
  EXPECT_FALSE(o.no_xattrs);
  EXPECT_EQ(o.redirect_dir, RedirectDir::kOff);
  EXPECT_EQ(o.whiteouts, WhiteoutStyle::kAuto);
}

TEST(OverlayOptions, EachReachesItsField) {
  EXPECT_EQ(good("timeout=2.5").overlay.timeout_seconds, 2.5);
  EXPECT_FALSE(good("fsync=0").overlay.fsync);
  EXPECT_FALSE(good("writeback=0").overlay.writeback);
  EXPECT_TRUE(good("noxattrs=1").overlay.no_xattrs);
  EXPECT_TRUE(good("fast_ino=1").overlay.fast_ino);
  EXPECT_TRUE(good("noacl").overlay.no_acl);
  EXPECT_TRUE(good("userxattr").overlay.user_xattr);
  EXPECT_TRUE(good("static_nlink").overlay.static_nlink);
  EXPECT_TRUE(good("ino32_t").overlay.ino32);
  EXPECT_TRUE(good("nfs_filehandles").overlay.nfs_filehandles);
  EXPECT_TRUE(good("metacopy=on").overlay.metacopy);
  EXPECT_FALSE(good("metacopy=on,metacopy=off").overlay.metacopy);
  EXPECT_EQ(good("xino=off").overlay.xino, XinoMode::kOff);
  EXPECT_EQ(good("xino=on").overlay.xino, XinoMode::kOn);
  EXPECT_EQ(good("redirect_dir=on").overlay.redirect_dir, RedirectDir::kOn);
  EXPECT_EQ(good("redirect_dir=copy").overlay.redirect_dir, RedirectDir::kCopy);
  EXPECT_EQ(good("redirect_dir=follow").overlay.redirect_dir, RedirectDir::kFollow);
  EXPECT_EQ(good("redirect_dir=nofollow").overlay.redirect_dir, RedirectDir::kNofollow);
  EXPECT_EQ(good("whiteouts=xattr").overlay.whiteouts, WhiteoutStyle::kXattr);
  EXPECT_EQ(good("xattr_permissions=1").overlay.xattr_permissions, XattrPermissions::kPrivileged);
  EXPECT_EQ(good("xattr_permissions=2").overlay.xattr_permissions, XattrPermissions::kContainers);
  EXPECT_TRUE(good("squash_to_root").overlay.squash_to_root);
  EXPECT_EQ(good("squash_to_uid=4294967294").overlay.squash_to_uid, 4294967294u);
  EXPECT_EQ(good("squash_to_gid=0").overlay.squash_to_gid, 0u);
  EXPECT_THAT(good("uidmapping=0:1000:1:1:110000:65536").overlay.uid_map, SizeIs(2));
  EXPECT_THAT(good("gidmapping=0:0:4294967296").overlay.gid_map, SizeIs(1));
}

TEST(OverlayOptions, OffIsFineForWhatWeDoNotDo) {
  EXPECT_TRUE(with("index=off,nfs_export=off,verity=off,uuid=null,plugins="));
  EXPECT_THAT(good("uuid=on").warnings, SizeIs(1));
}

TEST(MountOptions, DefaultsDependOnWhoMounts) {
  const MountSettings root = good("", {.is_root = true}).mount;
  EXPECT_TRUE(root.allow_other && root.default_permissions && root.suid && !root.atime && !root.dev);
  const MountSettings user = good("").mount;
  EXPECT_TRUE(!user.allow_other && user.default_permissions && !user.suid && !user.atime && !user.dev);
  EXPECT_EQ(user.subtype, "fuse-overlayfs");
}

TEST(MountOptions, EachReachesItsField) {
  const MountSettings m =
      good("allow_other,ro,suid,dev,noexec,atime,nodiratime,dirsync,max_write=65536,max_threads=3,threaded=0").mount;
  EXPECT_TRUE(m.allow_other && m.read_only && m.suid && m.dev && !m.exec && m.atime && !m.diratime && m.dirsync);
  EXPECT_EQ(m.max_write, 65536u);
  EXPECT_EQ(m.max_threads, 3u);
  EXPECT_FALSE(m.threaded);
  EXPECT_TRUE(m.splice);
  EXPECT_FALSE(good("splice=0").mount.splice);
}

TEST(MountOptions, IoUringIsUpToTheKernelUnlessSaid) {
  using enum MountSettings::IoUring;
  EXPECT_EQ(good("ro").mount.io_uring, kAuto);
  EXPECT_EQ(good("io_uring").mount.io_uring, kOn);
  EXPECT_EQ(good("io_uring=1").mount.io_uring, kOn);
  EXPECT_EQ(good("io_uring=on").mount.io_uring, kOn);
  EXPECT_EQ(good("io_uring=0").mount.io_uring, kOff);
  EXPECT_EQ(good("io_uring=off,io_uring=auto").mount.io_uring, kAuto);
}

TEST(MountOptions, DiratimeIsNotDirsync) {
  EXPECT_FALSE(good("diratime").mount.dirsync);
  EXPECT_TRUE(good("nodiratime,diratime").mount.diratime);
}

TEST(MountOptions, TheLastOfOppositesWins) {
  EXPECT_FALSE(good("ro,rw").mount.read_only);
  EXPECT_FALSE(good("suid,nosuid", {.is_root = true}).mount.suid);
}

TEST(MountOptions, PassthroughOfAllOrOfUpperFilesOrNone) {
  EXPECT_TRUE(good("").mount.passthrough);
  EXPECT_TRUE(good("").overlay.lower_passthrough);
  EXPECT_FALSE(good("passthrough=0").mount.passthrough);
  EXPECT_TRUE(good("passthrough=upper").mount.passthrough);
  EXPECT_FALSE(good("passthrough=upper").overlay.lower_passthrough);
  EXPECT_TRUE(good("passthrough=upper,passthrough").overlay.lower_passthrough);
  EXPECT_FALSE(good("passthrough=1", {.no_passthrough = true}).mount.passthrough) << "the environment forbids it";
}

TEST(MountOptions, ContextKeepsItsCommas) {
  EXPECT_EQ(good(R"(context="u:r:t:s0:c1,c2",ro)").mount.selinux_context, "u:r:t:s0:c1,c2");
}

TEST(EnvironmentVariables, ReachTheirFields) {
  const auto command = good("", {.disable_device_whiteouts = true, .no_passthrough = true, .debug_log = "/tmp/log"});
  EXPECT_EQ(command.overlay.whiteouts, WhiteoutStyle::kDotWh);
  EXPECT_FALSE(command.mount.passthrough);
  EXPECT_EQ(command.debug_log, "/tmp/log");
  EXPECT_EQ(good("whiteouts=xattr", {.disable_device_whiteouts = true}).overlay.whiteouts, WhiteoutStyle::kXattr);
}

class BadValue : public testing::TestWithParam<const char*> {};

TEST_P(BadValue, IsOneLineThatStartsWithTheOptionAsWritten) {
  const auto command = with(GetParam());
  ASSERT_FALSE(command);
  EXPECT_THAT(command.error(), StartsWith(GetParam()));
  EXPECT_EQ(command.error().find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Options, BadValue,
                         testing::Values("timeout=abc", "timeout=-1", "timeout", "timeout=", "threaded=7", "io_uring=2",
                                         "io_uring=", "fsync=maybe", "volatile=x", "uidmapping=1:2",
                                         "gidmapping=0:0:4294967297", "uidmapping=", "squash_to_uid=4294967296",
                                         "squash_to_gid=-1", "redirect_dir=bogus", "xino=maybe", "metacopy=1",
                                         "whiteouts=", "xattr_permissions=3", "plugins=p.so", "index=on",
                                         "nfs_export=on", "verity=require", "uuid=x", "lowerdir=/a::/b", "lowerdir=",
                                         "lowerdir+=", "upperdir=", "workdir", "ro=1", "allow_other=1", "max_write=0",
                                         "max_threads=many", "fsname=", "noxattrs=", "passthrough=lower"));

TEST(MountHelper, FakeMountsNothingAndSloppyChangesNothing) {
  const Words words = {"overlay", "/m", "-sfnv", "-o", "rw,lowerdir=/l"};
  const auto helper = parse(words, {.by_mount8 = true});
  ASSERT_TRUE(helper) << helper.error();
  EXPECT_EQ(helper->action, OverlayCommand::Action::kNothing);
  EXPECT_FALSE(helper->foreground);
  EXPECT_TRUE(helper->mount.threaded);
  const auto otherwise = parse(words);
  ASSERT_TRUE(otherwise) << otherwise.error();
  EXPECT_EQ(otherwise->action, OverlayCommand::Action::kMount);
  EXPECT_TRUE(otherwise->foreground);
  EXPECT_FALSE(otherwise->mount.threaded);
}

TEST(MountHelper, RemountIsRefused) {
  const auto again = with("remount,ro");
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error(), HasSubstr("remount"));
}

}  // namespace
}  // namespace vellum::cli
