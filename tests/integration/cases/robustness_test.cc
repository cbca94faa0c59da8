// Found by reading the engine as an adversary would: what must not leave the mount, and what must not take it down.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "support/backend.h"
#include "support/files.h"
#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

TEST(Robustness, ARemovedLowerDirectoryThatIsStillOpenLeavesItsLayerAlone) {
  OverlayFixture fs({.lower = {{"d", Dir{0755}}}});
  Fd fd(fs / "d", O_RDONLY | O_DIRECTORY);
  ASSERT_OK(::rmdir((fs / "d").c_str()));
  ::fchmod(fd, 0777);
  ::fsetxattr(fd, "user.mine", "1", 1, 0);
  EXPECT_EQ(octal(mode_of(fs.lower("d"))), "0755");
  EXPECT_EQ(get_xattr(fs.lower("d"), "user.mine"), "<ENODATA>");
}

TEST(Robustness, ADirectoryReplacedByRenameLeavesItsLayerAlone) {
  OverlayFixture fs({.lower = {{"d", Dir{0755}}}});
  ASSERT_OK(::mkdir((fs / "new").c_str(), 0755));
  Fd fd(fs / "d", O_RDONLY | O_DIRECTORY);
  ASSERT_OK(::rename((fs / "new").c_str(), (fs / "d").c_str()));
  ::fchmod(fd, 0777);
  EXPECT_EQ(octal(mode_of(fs.lower("d"))), "0755");
}

TEST(Robustness, RemovingManyHardLinksUsesUpNoDescriptors) {
  NOT_ON(kAnyKernel, "about the daemon");
  Tree tree;
  for (int i = 0; i < 300; ++i) {
    tree.emplace_back("a/f" + std::to_string(i), File{"x"});
    tree.emplace_back("b/f" + std::to_string(i), HardLink{"a/f" + std::to_string(i)});
  }
  OverlayFixture fs({.lower = tree});
  auto open_fds = [&] { return names_in("/proc/" + std::to_string(fs.daemon()) + "/fd").size(); };
  std::size_t before = open_fds();
  ASSERT_EQ(run("rm -rf '" + (fs / "a") + "'").status, 0);
  EXPECT_LT(open_fds(), before + 100);
  EXPECT_EQ(read_file(fs / "b/f7"), "x");
}

TEST(Robustness, AnFsyncHoldsUnderTheNameThatWasWrittenThrough) {
  OverlayFixture fs({.lower = {{"a", File{"old"}}, {"d/b", HardLink{"a"}}}, .upper_on = Store::kExt4});
  EXPECT_EQ(read_file(fs / "a"), "old");  // the file is known by its other name
  {
    Fd fd(fs / "d/b", O_WRONLY | O_TRUNC);
    ASSERT_EQ(::write(fd, "precious", 8), 8);
    ASSERT_OK(::fsync(fd));
  }
  // What a kill would leave.
  EXPECT_EQ(read_file(fs.upper("d/b")), "precious");
}

// Of root's daemon this shows nothing where root itself has not got the capability, as in some sandboxes; in a user
// namespace everybody has it.
TEST(Robustness, NoServingThreadOverridesQuotas) {
  NOT_ON(kAnyKernel, "there is no daemon");
  NOT_ON(kPeer, "about our daemon");
  constexpr unsigned long long kSysResource = 1ULL << 24;
  OverlayFixture fs({.lower = {{"f", File{}}}});
  const std::string tasks = "/proc/" + std::to_string(fs.daemon()) + "/task";
  const auto effective = [&](const std::string& task) {
    const std::string status = read_file(tasks + "/" + task + "/status");
    const auto at = status.find("CapEff:");
    return at == std::string::npos ? 0 : std::stoull(status.substr(at + 8), nullptr, 16);
  };
  const auto serving_with_it = [&] {
    return std::ranges::count_if(names_in(tasks), [&](const std::string& task) {
      const std::string name = read_file(tasks + "/" + task + "/comm");
      return (name == "fuse\n" || name == "fuse-ring\n") && (effective(task) & kSysResource) != 0;
    });
  };
  // A thread that has not come to its first request yet still has it.
  for (int tries = 0; tries < 1000 && serving_with_it() > 0; ++tries) ::usleep(10'000);
  EXPECT_EQ(serving_with_it(), 0);
}

TEST(Robustness, AFailedDirectoryRenameBringsNothingBack) {
  NOT_ON(kAnyKernel, "redirects may be longer there");
  std::string deep = std::string(200, 'd') + "/" + std::string(100, 'e');
  OverlayFixture fs({.lower = {{deep + "/f", File{}}, {"target/deleted", File{}}}, .options = "redirect_dir=on"});
  ASSERT_OK(::unlink((fs / "target/deleted").c_str()));
  ASSERT_EQ(::rename((fs / deep).c_str(), (fs / "target").c_str()), -1);
  EXPECT_EQ(errno, EXDEV);
  EXPECT_EQ(names_in(fs / "target"), std::vector<std::string>{});
}

TEST(Robustness, HardLinksOfDifferentContentNeverShareANumber) {
  OverlayFixture fs({.lower = {{"a", File{"old"}}, {"b", HardLink{"a"}}, {"c", HardLink{"a"}}}});
  write_file(fs / "a", "new");
  fs.remount();
  std::map<ino_t, std::string> contents;
  for (const char* name : {"a", "b", "c"}) {
    auto [known, added] = contents.emplace(ino_of(fs / name), read_file(fs / name));
    EXPECT_EQ(known->second, read_file(fs / name)) << name;
  }
}

TEST(Robustness, AFifoThatSaysItIsALinkHoldsNobodyUp) {
  NOT_ON(kAnyKernel, "about fuse-overlayfs's override attributes");
  NOT_ON(kVellumUser, "the attribute takes privilege");
  NOT_ON(kVellumUserns, "the attribute takes privilege");
  OverlayFixture fs({.lower = {{"p", Fifo{}}, {"f", File{"x"}}}});
  fs.unmount();
  const char* attribute = "security.fuseoverlayfs.override_stat";
  ASSERT_OK(::setxattr(fs.lower("").c_str(), attribute, "0:0:755:dir", 11, 0));
  ASSERT_OK(::setxattr(fs.lower("p").c_str(), attribute, "0:0:777:symlink", 15, 0));
  fs.mount();
  std::string target(64, '\0');
  EXPECT_EQ(::readlink((fs / "p").c_str(), target.data(), target.size()), -1);
  EXPECT_EQ(read_file(fs / "f"), "x");
}

TEST(Robustness, MetacopyDataArrivesWithoutTakingTheCapability) {
  NOT_ON(kUnprivileged, "capabilities and metacopy of files that others own");
  constexpr std::string_view kNetRaw("\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  OverlayFixture fs(
      {.lower = {{"f", File{.content = "data", .xattrs = {{"security.capability", std::string(kNetRaw)}}}}},
       .options = "metacopy=on"});
  ASSERT_OK(::chmod((fs / "f").c_str(), 0700));
  { Fd fd(fs / "f", O_RDWR); }
  EXPECT_NE(get_xattr(fs / "f", "security.capability"), "<ENODATA>");
  EXPECT_EQ(read_file(fs / "f"), "data");
}

}  // namespace
}  // namespace vellum::test
