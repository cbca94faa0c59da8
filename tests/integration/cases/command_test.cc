// What the fuse-overlayfs command promises around a mount.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

#define ABOUT_THE_COMMAND() NOT_ON(kAnyKernel, "about the command line of fuse-overlayfs")

// Layers that are there, and a mountpoint; nothing is mounted.
struct Place {
  Place() : root(fresh_dir()) {
    for (const char* dir : {"lower", "lower2", "upper", "work", "at"})
      EXPECT_OK(::mkdir((root + "/" + dir).c_str(), 0755));
    EXPECT_OK(create_file(root + "/lower/f", "f"));
    EXPECT_OK(create_file(root + "/lower2/g", "g"));
  }
  std::string operator/(const std::string& name) const { return root + "/" + name; }
  std::string layers() const {
    return "lowerdir=" + root + "/lower,upperdir=" + root + "/upper,workdir=" + root + "/work";
  }
  std::string at() const { return root + "/at"; }
  std::string root;
};

void end(const Place& place, const Mounted& mounted) {
  EXPECT_OK(unmount_fuse(place.at()));
  EXPECT_EQ(wait_for_end(mounted.daemon), 0);
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
  return text;
}

// `options` with @ for the place's path; the message must name `must_name`.
struct Bad {
  const char* name;
  std::string options, must_name;
};
class BadValue : public ::testing::TestWithParam<Bad> {};
INSTANTIATE_TEST_SUITE_P(
    Command, BadValue,
    ::testing::Values(Bad{"MissingLower", "lowerdir=@/none,upperdir=@/upper,workdir=@/work", "@/none"},
                      Bad{"MissingSecondLower", "lowerdir=@/lower:@/none", "@/none"},
                      Bad{"MissingUpper", "lowerdir=@/lower,upperdir=@/none,workdir=@/work", "@/none"},
                      Bad{"MissingWork", "lowerdir=@/lower,upperdir=@/upper,workdir=@/none", "@/none"},
                      Bad{"LowerIsAFile", "lowerdir=@/lower/f", "@/lower/f"},
                      Bad{"NoLower", "upperdir=@/upper,workdir=@/work", "lowerdir"},
                      Bad{"UpperWithoutWork", "lowerdir=@/lower,upperdir=@/upper", "workdir"},
                      Bad{"WorkOnAnotherDevice", "lowerdir=@/lower,upperdir=@/upper,workdir=/mnt/ext4", "workdir"},
                      Bad{"UpperInsideALower", "lowerdir=@,upperdir=@/upper,workdir=@/work", "upperdir"},
                      Bad{"WorkIsUpper", "lowerdir=@/lower,upperdir=@/upper,workdir=@/upper", "workdir"},
                      Bad{"WorkInsideUpper", "lowerdir=@/lower,upperdir=@/upper,workdir=@/upper/w", "workdir"},
                      Bad{"UidMapping", "lowerdir=@/lower,uidmapping=0:zero:1", "uidmapping"},
                      Bad{"UidMappingTooLong", "lowerdir=@/lower,uidmapping=2:2:4294967295", "uidmapping"},
                      Bad{"GidMappingIncomplete", "lowerdir=@/lower,gidmapping=0:1000", "gidmapping"},
                      Bad{"SquashToUid", "lowerdir=@/lower,squash_to_uid=me", "squash_to_uid"},
                      Bad{"Timeout", "lowerdir=@/lower,timeout=soon", "timeout"},
                      Bad{"Threaded", "lowerdir=@/lower,threaded=maybe", "threaded"},
                      Bad{"RedirectDir", "lowerdir=@/lower,redirect_dir=sideways", "redirect_dir"},
                      Bad{"Xino", "lowerdir=@/lower,xino=7", "xino"},
                      Bad{"XattrPermissions", "lowerdir=@/lower,xattr_permissions=3", "xattr_permissions"},
                      Bad{"Plugins", "lowerdir=@/lower,plugins=/lib/x.so", "plugins"}),
    [](const auto& param) { return std::string(param.param.name); });

TEST_P(BadValue, IsOneClearLineAndNothingMounted) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "the peer is not as strict");
  Place place;
  EXPECT_OK(::mkdir((place / "upper/w").c_str(), 0755));
  std::size_t before = children().size();
  Mounted result = run_fuse_overlayfs({"-o", replaced(GetParam().options, "@", place.root), place.at()});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.output.find(replaced(GetParam().must_name, "@", place.root)), std::string::npos) << result.output;
  EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1) << result.output;
  EXPECT_FALSE(is_mountpoint(place.at()));
  EXPECT_EQ(children().size(), before);
  if (result.status == 0) end(place, result);
}

TEST(Command, MissingMountpointIsOneClearLine) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "the peer is not as strict");
  Place place;
  Mounted result = run_fuse_overlayfs({"-o", place.layers(), place / "none"});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.output.find(place / "none"), std::string::npos) << result.output;
  EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1) << result.output;
}

TEST(Command, UnreadableLayerIsOneClearLine) {
  ABOUT_THE_COMMAND();
  NOT_ON(kVellumRoot | kVellumUserns | kPeer, "root may read everything");
  Place place;
  EXPECT_OK(::chmod((place / "lower2").c_str(), 0));
  Mounted result = run_fuse_overlayfs({"-o", "lowerdir=" + (place / "lower") + ":" + (place / "lower2"), place.at()});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.output.find(place / "lower2"), std::string::npos) << result.output;
  EXPECT_FALSE(is_mountpoint(place.at()));
}

TEST(Command, NoArgumentsIsAnError) {
  ABOUT_THE_COMMAND();
  EXPECT_NE(run_fuse_overlayfs({}).status, 0);
}

TEST(Command, UnknownOptionIsIgnoredAndNamed) {
  ABOUT_THE_COMMAND();
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers() + ",frobnicate=7", place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_NE(mounted.output.find("unknown argument ignored: frobnicate=7"), std::string::npos) << mounted.output;
  EXPECT_EQ(read_file(place.at() + "/f"), "f");
  end(place, mounted);
}

TEST(Command, VersionsFirstLineIsTheOneThatToolsParse) {
  ABOUT_THE_COMMAND();
  Mounted result = run_fuse_overlayfs({"--version"});
  EXPECT_EQ(result.status, 0);
  NOT_ON(kPeer, "Debian's prints fusermount3's first when its output is a file");
  EXPECT_TRUE(result.output.starts_with("fuse-overlayfs: version ")) << result.output;
}

TEST(Command, HelpNamesTheOptions) {
  ABOUT_THE_COMMAND();
  Mounted result = run_fuse_overlayfs({"--help"});
  EXPECT_EQ(result.status, 0);
  NOT_ON(kPeer, "the peer's help is shorter");
  for (const char* option : {"lowerdir", "upperdir", "workdir", "uidmapping", "squash_to_root", "volatile", "xino"}) {
    EXPECT_NE(result.output.find(option), std::string::npos) << option;
  }
}

TEST(Command, EverySpellingOfOptions) {
  ABOUT_THE_COMMAND();
  Place place;
  std::string lower = "lowerdir=" + (place / "lower"), upper = "upperdir=" + (place / "upper"),
              work = "workdir=" + (place / "work");
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"-o", lower, "-o", upper, "-o", work, place.at()},
           {"-o" + lower + "," + upper + "," + work, place.at()},
           {place.at(), "-o", place.layers()},
           {"overlay", place.at(), "-o", place.layers()},  // as mount(8) calls its helpers
           {"-o", place.layers() + ",noatime,suid,dev,exec,rw", place.at()},
           {"-o", place.layers() + ",timeout=0,threaded=0,fsync=0,writeback=0,fast_ino=1", place.at()}}) {
    Mounted mounted = run_fuse_overlayfs(arguments);
    ASSERT_EQ(mounted.status, 0) << mounted.output << arguments.front();
    EXPECT_EQ(read_file(place.at() + "/f"), "f");
    end(place, mounted);
  }
}

TEST(Command, RelativePathsAreTheCallers) {
  ABOUT_THE_COMMAND();
  Place place;
  Fd here(".", O_PATH | O_DIRECTORY);
  ASSERT_OK(::chdir(place.root.c_str()));
  Mounted mounted = run_fuse_overlayfs({"-o", "lowerdir=lower,upperdir=upper,workdir=work", "at"});
  ASSERT_OK(::fchdir(here));
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_OK(append_file(place.at() + "/f", "+"));
  EXPECT_EQ(read_file(place / "upper/f"), "f+");
  end(place, mounted);
}

TEST(Command, EscapedColonsAndCommasInPaths) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "the peer unescapes only colons");
  Place place;
  std::string strange = place / "lo:w,er";
  ASSERT_OK(::mkdir(strange.c_str(), 0755));
  ASSERT_OK(create_file(strange + "/s", "s"));
  ASSERT_OK(::mkdir((place / "up,per").c_str(), 0755));
  Mounted mounted = run_fuse_overlayfs({"-o",
                                        "lowerdir=" + (place / "lo\\:w\\,er") + ":" + (place / "lower2") +
                                            ",upperdir=" + (place / "up\\,per") + ",workdir=" + (place / "work"),
                                        place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_EQ(names_in(place.at()), (Names{"g", "s"}));
  EXPECT_OK(create_file(place.at() + "/n", "n"));
  EXPECT_EQ(read_file(place / "up,per/n"), "n");
  end(place, mounted);
}

TEST(Command, MountpointWithAnyBytes) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer | kVellumUser, "fusermount3 and the peer are not ours to test");
  Place place;
  std::string at = place / "a b\tc\nd\\e,f\xff";
  ASSERT_OK(::mkdir(at.c_str(), 0755));
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), at});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_EQ(read_file(at + "/f"), "f");
  EXPECT_OK(::umount2(at.c_str(), 0));
  EXPECT_EQ(wait_for_end(mounted.daemon), 0);
}

TEST(Command, ReturnsOnlyWhenTheMountIsUsable) {
  ABOUT_THE_COMMAND();
  Place place;
  for (int i = 0; i < 20; ++i) {
    Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
    ASSERT_EQ(mounted.status, 0) << mounted.output;
    ASSERT_TRUE(is_mountpoint(place.at()));
    ASSERT_EQ(read_file(place.at() + "/f"), "f");
    end(place, mounted);
  }
}

TEST(Command, ForegroundStaysAndEndsWithTheMount) {
  ABOUT_THE_COMMAND();
  Place place;
  pid_t daemon = start_fuse_overlayfs({"-f", "-o", place.layers(), place.at()}, place / "log");
  while (!is_mountpoint(place.at()) && ::waitpid(daemon, nullptr, WNOHANG) == 0) ::usleep(1000);
  EXPECT_EQ(read_file(place.at() + "/f"), "f");
  EXPECT_OK(unmount_fuse(place.at()));
  EXPECT_EQ(wait_for_end(daemon), 0) << read_file(place / "log");
}

class StopSignal : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Command, StopSignal, ::testing::Values(SIGTERM, SIGINT, SIGHUP),
                         [](const auto& param) { return std::string(::sigabbrev_np(param.param)); });

TEST_P(StopSignal, UnmountsAndEnds) {
  ABOUT_THE_COMMAND();
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_OK(create_file(place.at() + "/n", "n"));
  ::kill(mounted.daemon, GetParam());
  int status = wait_for_end(mounted.daemon);
  EXPECT_FALSE(is_mountpoint(place.at()));
  EXPECT_EQ(read_file(place / "upper/n"), "n");
  NOT_ON(kPeer, "libfuse's loop ends with the signal's number");
  EXPECT_EQ(status, 0);
}

// A mount in which a file is open, and so much of it not yet written out that ending takes a while.
struct BeingWritten {
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  std::string content = std::string(60'000'000, 'w');
  Fd fd{place.at() + "/n", O_RDWR | O_CREAT, 0644};
  BeingWritten() { EXPECT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size())); }
};

TEST_P(StopSignal, WhatWasWrittenToAnOpenFileArrives) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "it loses what the writeback cache holds");
  BeingWritten file;
  ASSERT_EQ(file.mounted.status, 0) << file.mounted.output;
  ::kill(file.mounted.daemon, GetParam());
  EXPECT_EQ(wait_for_end(file.mounted.daemon), 0);
  EXPECT_EQ(read_file(file.place / "upper/n") == file.content, true);
}

// timeout(1) sends its signal to the process and then to its group, systemd SIGHUP behind SIGTERM.
TEST_P(StopSignal, SaidTwiceLeavesNoDeadMount) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "it loses what the writeback cache holds");
  BeingWritten file;
  ASSERT_EQ(file.mounted.status, 0) << file.mounted.output;
  for (const int signal : {GetParam(), SIGHUP, SIGTERM}) ::kill(file.mounted.daemon, signal);
  EXPECT_EQ(wait_for_end(file.mounted.daemon), 0);
  EXPECT_FALSE(is_mountpoint(file.place.at()));
  EXPECT_EQ(read_file(file.place / "upper/n") == file.content, true);
}

TEST(Command, EndingLeavesAnothersMountAlone) {
  ABOUT_THE_COMMAND();
  NOT_ON(kVellumUser, "a plain user's mounts are taken away by fusermount3");
  NOT_ON(kPeer, "about ours");
  Place place, other;
  Mounted first = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(first.status, 0) << first.output;
  Mounted second;
  {
    Fd fd(place.at() + "/f", O_RDONLY);
    ASSERT_OK(::umount2(place.at().c_str(), MNT_DETACH));
    second = run_fuse_overlayfs({"-o", "lowerdir=" + (other / "lower2"), place.at()});
    ASSERT_EQ(second.status, 0) << second.output;
  }
  EXPECT_EQ(wait_for_end(first.daemon), 0);
  EXPECT_EQ(read_file(place.at() + "/g"), "g");
  end(place, second);
}

TEST(Command, StartsWithClosedStandardStreams) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "about ours");
  for (const char* closed : {"<&-", "<&- >&-", "<&- >&- 2>&-"}) {
    Place place;
    Ran ran = run("PATH=/mnt/bin:$PATH; fuse-overlayfs -o " + place.layers() + " '" + place.at() + "' " + closed);
    ASSERT_EQ(ran.status, 0) << closed << ran.output;
    EXPECT_EQ(read_file(place.at() + "/f"), "f") << closed;
    EXPECT_OK(create_file(place.at() + "/n", "n"));
    EXPECT_OK(unmount_fuse(place.at()));
    for (pid_t child : children()) EXPECT_EQ(wait_for_end(child), 0);
  }
}

TEST(Command, AFileSizeLimitOfTheShellIsAnErrorAndNotTheEnd) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "about ours");
  Place place;
  Ran ran = run("PATH=/mnt/bin:$PATH; ulimit -f 16; fuse-overlayfs -o " + place.layers() +
                ",writeback=0,passthrough=0 '" + place.at() + "'");
  ASSERT_EQ(ran.status, 0) << ran.output;
  EXPECT_ERRNO(create_file(place.at() + "/big", std::string(1 << 20, 'x')), EFBIG);
  EXPECT_EQ(read_file(place.at() + "/f"), "f");
  EXPECT_OK(unmount_fuse(place.at()));
  for (pid_t child : children()) EXPECT_EQ(wait_for_end(child), 0);
}

TEST(Command, AWorkdirInUseIsOneClearLine) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "about ours");
  Place place;
  Mounted first = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(first.status, 0) << first.output;
  ASSERT_OK(::mkdir((place / "at2").c_str(), 0755));
  Mounted second = run_fuse_overlayfs({"-o", place.layers(), place / "at2"});
  EXPECT_EQ(second.status, 1);
  EXPECT_NE(second.output.find("workdir="), std::string::npos) << second.output;
  EXPECT_FALSE(is_mountpoint(place / "at2"));
  end(place, first);
}

TEST(Command, StatisticsSignalDoesNotEndIt) {
  ABOUT_THE_COMMAND();
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  for (int i = 0; i < 5; ++i) ::kill(mounted.daemon, SIGUSR1);
  EXPECT_EQ(read_file(place.at() + "/f"), "f");
  end(place, mounted);
}

TEST(Command, LazyUnmountEndsItWhenTheLastFileIsClosed) {
  ABOUT_THE_COMMAND();
  NOT_ON(kVellumUser, "fusermount3 -z does the same");
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  {
    Fd fd(place.at() + "/f", O_RDWR);
    EXPECT_OK(::umount2(place.at().c_str(), MNT_DETACH));
    EXPECT_EQ(read_fd(fd), "f");
    EXPECT_EQ(::pwrite(fd, "F", 1, 0), 1);
  }
  EXPECT_EQ(wait_for_end(mounted.daemon), 0);
  EXPECT_EQ(read_file(place / "upper/f"), "F");
}

TEST(Command, KilledDaemonLeavesAMountThatCanBeRemovedAndMadeAgain) {
  ABOUT_THE_COMMAND();
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_OK(create_file(place.at() + "/n", "n"));
  ::kill(mounted.daemon, SIGKILL);
  EXPECT_EQ(wait_for_end(mounted.daemon), 128 + SIGKILL);
  // With io_uring the connection ends a moment after the process, and takes along who asks in between.
  std::string answer = read_file(place.at() + "/n");
  if (answer == "<ECONNABORTED>") answer = read_file(place.at() + "/n");
  EXPECT_EQ(answer, "<ENOTCONN>");
  EXPECT_OK(unmount_fuse(place.at()));
  mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_EQ(read_file(place.at() + "/n"), "n");
  end(place, mounted);
}

// Nothing of the start may walk into the mount, which does not answer yet.
TEST(Command, UpperBelowTheMountpoint) {
  ABOUT_THE_COMMAND();
  Place place;
  for (const char* dir : {"/upper", "/work"}) ASSERT_OK(::mkdir((place.at() + dir).c_str(), 0755));
  const std::string layers =
      "lowerdir=" + (place / "lower") + ",upperdir=" + place.at() + "/upper,workdir=" + place.at() + "/work";
  Mounted mounted = run_fuse_overlayfs({"-o", layers, place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_OK(create_file(place.at() + "/n", "n"));
  end(place, mounted);
  EXPECT_EQ(read_file(place.at() + "/upper/n"), "n");
}

TEST(Command, RoMountRefusesChanges) {
  Place place;
  NOT_ON(kAnyKernel, "about the command line of fuse-overlayfs");
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers() + ",ro", place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_ERRNO(create_file(place.at() + "/n", "n"), EROFS);
  EXPECT_EQ(read_file(place.at() + "/f"), "f");
  end(place, mounted);
}

TEST(Command, NosuidAndNodevReachTheMount) {
  ABOUT_THE_COMMAND();
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers() + ",nosuid,nodev,noexec", place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  Ran flags = run("findmnt -n -o OPTIONS '" + place.at() + "'");
  for (const char* flag : {"nosuid", "nodev", "noexec", "noatime"}) {
    EXPECT_NE(flags.output.find(flag), std::string::npos) << flags.output;
  }
  end(place, mounted);
}

// podman names one wherever it runs.
TEST(Command, ALabelIsTakenWhereThereIsNoSelinux) {
  ABOUT_THE_COMMAND();
  Place place;
  const std::string label = R"(,,context="system_u:object_r:container_file_t:s0:c214,c1021")";
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers() + label, place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_EQ(read_file(place.at() + "/f"), "f");
  end(place, mounted);
}

TEST(Command, MountHelperForm) {
  ABOUT_THE_COMMAND();
  Place place;
  Ran ran = run("PATH=/mnt/bin:$PATH mount -t fuse.fuse-overlayfs overlay '" + place.at() + "' -o " + place.layers());
  ASSERT_EQ(ran.status, 0) << ran.output;
  EXPECT_EQ(read_file(place.at() + "/f"), "f");
  EXPECT_OK(unmount_fuse(place.at()));
  for (pid_t child : children()) EXPECT_EQ(wait_for_end(child), 0);
}

TEST(Command, MountHelperFakesAndChangesNothing) {
  ABOUT_THE_COMMAND();
  NOT_ON(kPeer, "it is no helper of mount(8)");
  Place place;
  ASSERT_OK(::symlink("/mnt/bin/fuse-overlayfs", (place / "mount.vellum").c_str()));
  const std::string helper = "'" + (place / "mount.vellum") + "' overlay '" + place.at() + "' -o " + place.layers();
  for (const char* more : {" -f", " -sfnv"}) {
    Ran ran = run(helper + more);
    EXPECT_EQ(ran.status, 0) << ran.output;
    EXPECT_FALSE(is_mountpoint(place.at())) << more;
    EXPECT_TRUE(children().empty()) << more;
  }
  Ran ran = run(helper + ",remount,ro");
  EXPECT_EQ(ran.status, 1);
  EXPECT_NE(ran.output.find("remount"), std::string::npos) << ran.output;
  EXPECT_FALSE(is_mountpoint(place.at()));
  ran = run(helper + " -s");
  ASSERT_EQ(ran.status, 0) << ran.output;
  EXPECT_EQ(read_file(place.at() + "/f"), "f");
  EXPECT_OK(unmount_fuse(place.at()));
  for (pid_t child : children()) EXPECT_EQ(wait_for_end(child), 0);
}

TEST(Command, MountTypeIsThePeers) {
  ABOUT_THE_COMMAND();
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_EQ(run("findmnt -n -o FSTYPE '" + place.at() + "'").output, "fuse.fuse-overlayfs\n");
  EXPECT_EQ(run("findmnt -n -o SOURCE '" + place.at() + "'").output, "fuse-overlayfs\n");
  end(place, mounted);
}

TEST(Command, VolatileLeavesTheKernelsMarker) {
  OverlayFixture fs({.lower = {{"f", File{}}}, .options = "volatile"});
  EXPECT_TRUE(exists(fs.work() + "/work/incompat/volatile"));
  EXPECT_OK(append_file(fs / "f", "x"));
  Fd fd(fs / "f", O_RDONLY);
  EXPECT_OK(::fsync(fd));
}

TEST(Command, StaleWorkdirOfAKilledRunIsCleaned) {
  OverlayFixture fs({.lower = {{"f", File{}}}});
  fs.unmount();
  // A half-made file or directory that a killed daemon may have left.
  ::mkdir((fs.work() + "/work").c_str(), 0755);
  EXPECT_OK(create_file(fs.work() + "/work/#left", "junk"));
  EXPECT_OK(::mkdir((fs.work() + "/work/#dir").c_str(), 0755));
  EXPECT_OK(create_file(fs.work() + "/work/#dir/inner", "junk"));
  fs.mount();
  NOT_ON(kPeer, "the peer cleans its own names only");
  EXPECT_EQ(run("find '" + fs.work() + "' -name '#left' -o -name '#dir'").output, "");
}

TEST(Command, AllowOtherForRootOnly) {
  NOT_ON(kAnyKernel, "about the command line of fuse-overlayfs");
  Place place;
  Mounted mounted = run_fuse_overlayfs({"-o", place.layers(), place.at()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  if (on(kVellumUser)) {
    std::string seen;
    as_root([&] { seen = read_file(place.at() + "/f"); });
    EXPECT_EQ(seen, "<EACCES>");
  } else {
    EXPECT_EQ(as_ids(7, 7, [&] { return open_errno(place.at() + "/f", O_RDONLY); }), 0);
  }
  end(place, mounted);
}

}  // namespace
}  // namespace vellum::test
