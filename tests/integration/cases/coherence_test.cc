// One file seen through several descriptors, names, watches and caches, across its copy-up.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

TEST(Coherence, ReaderThatOpenedTheLowerFileSeesWhatIsAppendedLater) {
  OverlayFixture fs({.lower = {{"log", File{"one\n"}}}});
  Fd tail(fs / "log", O_RDONLY);
  EXPECT_EQ(read_fd(tail), "one\n");
  EXPECT_OK(append_file(fs / "log", "two\n"));
  EXPECT_EQ(read_fd(tail), "one\ntwo\n");
}

TEST(Coherence, DescriptorOfTheLowerFileShowsTheNewAttributes) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  Fd fd(fs / "f", O_RDONLY);
  EXPECT_OK(::chmod((fs / "f").c_str(), 0600));
  EXPECT_OK(append_file(fs / "f", "yz"));
  EXPECT_EQ(octal(fstat_of(fd).st_mode & 07777), "0600");
  EXPECT_EQ(fstat_of(fd).st_size, 3);
  EXPECT_EQ(fstat_of(fd).st_ino, ino_of(fs / "f"));
}

TEST(Coherence, ReadOnlyDescriptorOfALowerFileChangesIt) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  Fd fd(fs / "f", O_RDONLY);
  std::array<timespec, 2> times{{{5, 0}, {6, 0}}};
  EXPECT_OK(::fchmod(fd, 0601));
  EXPECT_OK(::futimens(fd, times.data()));
  EXPECT_OK(::fsetxattr(fd, "user.a", "1", 1, 0));
  EXPECT_EQ(octal(mode_of(fs / "f")), "0601");
  EXPECT_EQ(lstat_of(fs / "f").st_mtim.tv_sec, 6);
  EXPECT_EQ(get_xattr(fs / "f", "user.a"), "1");
  EXPECT_EQ(read_fd(fd), "x");
  EXPECT_EQ(octal(fstat_of(fd).st_mode & 07777), "0601");
}

TEST(Coherence, LocksHoldAcrossCopyUp) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  Fd reader(fs / "f", O_RDONLY);
  EXPECT_OK(::flock(reader, LOCK_EX | LOCK_NB));
  Fd writer(fs / "f", O_RDWR);
  EXPECT_EQ(::pwrite(writer, "y", 1, 0), 1);
  EXPECT_ERRNO(::flock(writer, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  EXPECT_OK(::flock(reader, LOCK_UN));
  EXPECT_OK(::flock(writer, LOCK_EX | LOCK_NB));
}

TEST(Coherence, RecordLocksHoldAcrossCopyUp) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  Fd reader(fs / "f", O_RDONLY), writer(fs / "f", O_RDWR);
  struct flock lock {};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  EXPECT_OK(::fcntl(reader, F_OFD_SETLK, &lock));
  lock.l_type = F_WRLCK;
  EXPECT_ERRNO(::fcntl(writer, F_OFD_SETLK, &lock), EAGAIN);
}

bool event_waits(int watcher) {
  alignas(inotify_event) std::array<char, 4096> events{};
  return ::read(watcher, events.data(), events.size()) > 0;
}

TEST(Coherence, WatchOnALowerFileTellsOfItsChange) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  Fd watcher(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  EXPECT_OK(::inotify_add_watch(watcher, (fs / "f").c_str(), IN_MODIFY | IN_ATTRIB));
  EXPECT_OK(append_file(fs / "f", "y"));
  EXPECT_TRUE(event_waits(watcher));
}

TEST(Coherence, WatchOnADirectoryTellsOfItsEntries) {
  OverlayFixture fs({.lower = {{"d/f", File{"x"}}}});
  Fd watcher(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  EXPECT_OK(::inotify_add_watch(watcher, (fs / "d").c_str(), IN_CREATE | IN_DELETE | IN_MODIFY));
  EXPECT_OK(append_file(fs / "d/f", "y"));
  EXPECT_TRUE(event_waits(watcher));
  EXPECT_OK(create_file(fs / "d/new", ""));
  EXPECT_TRUE(event_waits(watcher));
  EXPECT_OK(::unlink((fs / "d/new").c_str()));
  EXPECT_TRUE(event_waits(watcher));
}

TEST(Coherence, TimesSetBeforeCloseWinOverCachedWrites) {
  OverlayFixture fs({.lower = {{"low", File{"x"}}}});
  std::array<timespec, 2> times{{{1'000'000'000, 7}, {1'100'000'000, 8}}};
  for (const char* name : {"new", "low"}) {
    {
      Fd fd(fs / name, O_RDWR | O_CREAT, 0644);
      EXPECT_EQ(::write(fd, "content", 7), 7);
      EXPECT_OK(::futimens(fd, times.data()));
    }
    EXPECT_EQ(lstat_of(fs / name).st_mtim.tv_sec, 1'100'000'000) << name;
    fs.drop_caches();
    EXPECT_EQ(lstat_of(fs / name).st_mtim.tv_sec, 1'100'000'000) << name;
    EXPECT_EQ(lstat_of(fs / name).st_mtim.tv_nsec, 8) << name;
    EXPECT_EQ(lstat_of(fs.upper(name)).st_mtim.tv_sec, 1'100'000'000) << name;
  }
}

TEST(Coherence, TimesAfterAWriteStayWhatTheyWere) {
  constexpr int kFiles = 40;
  Tree tree;
  for (int i = 0; i < kFiles; i += 2) tree.emplace_back("d/f" + std::to_string(i), File{"x"});
  // The writeback cache gives a write a time of its own: docs/compat.md.
  OverlayFixture fs({.lower = tree, .vellum_options = "writeback=0"});
  auto times = [&] { return run("cd '" + (fs / "d") + "' && stat -c '%n %.9Y %.9Z %s' *").output; };
  for (int i = 0; i < kFiles; ++i) {
    Fd fd(fs / ("d/f" + std::to_string(i)), O_RDWR | O_CREAT, 0644);
    EXPECT_EQ(::write(fd, "content", 7), 7);
  }
  std::string first = times();
  EXPECT_OK(::syncfs(Fd(fs / "d", O_RDONLY | O_DIRECTORY)));
  fs.drop_caches();
  EXPECT_EQ(times(), first);
}

TEST(Coherence, WrittenDataIsWholeThoughTheFileBecameReadOnly) {
  std::string content(300'000, 'w');
  OverlayFixture fs({.lower = {{"low", File{"x"}}}});
  for (const char* name : {"new", "low"}) {
    {
      Fd fd(fs / name, O_RDWR | O_CREAT | O_TRUNC, 0644);
      EXPECT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
      EXPECT_OK(::fchmod(fd, 0400));
    }
    EXPECT_EQ(read_file(fs.upper(name)) == content, true) << name;
    EXPECT_EQ(octal(mode_of(fs.upper(name))), "0400") << name;
  }
}

TEST(Coherence, WritesShowThroughADescriptorThatWasOpenBefore) {
  OverlayFixture fs({.upper = {{"f", File{"old"}}}});
  Fd reader(fs / "f", O_RDONLY), writer(fs / "f", O_RDWR);
  EXPECT_EQ(read_fd(reader), "old");
  EXPECT_EQ(::pwrite(writer, "new and longer", 14, 0), 14);
  EXPECT_EQ(read_fd(reader), "new and longer");
  EXPECT_OK(::ftruncate(writer, 3));
  EXPECT_EQ(read_fd(reader), "new");
}

TEST(Coherence, TruncatedAndGrownAgainReadsZeros) {
  OverlayFixture fs({.lower = {{"f", File{std::string(10'000, 'x')}}}});
  Fd fd(fs / "f", O_RDWR);
  EXPECT_OK(::ftruncate(fd, 100));
  EXPECT_OK(::ftruncate(fd, 10'000));
  EXPECT_EQ(read_fd(fd) == std::string(100, 'x') + std::string(9'900, '\0'), true);
  EXPECT_EQ(::pwrite(fd, "end", 3, 20'000), 3);
  EXPECT_EQ(read_file(fs / "f").substr(10'000, 10'000) == std::string(10'000, '\0'), true);
}

TEST(Coherence, HardLinksShowEachOthersWrites) {
  OverlayFixture fs({.upper = {{"a", File{"1"}}, {"b", HardLink{"a"}}}});
  Fd one(fs / "a", O_RDWR), two(fs / "b", O_RDWR);
  EXPECT_EQ(::pwrite(one, "22", 2, 0), 2);
  EXPECT_EQ(read_fd(two), "22");
  EXPECT_OK(::fchmod(two, 0600));
  EXPECT_EQ(octal(fstat_of(one).st_mode & 07777), "0600");
  EXPECT_EQ(octal(mode_of(fs / "a")), "0600");
  EXPECT_EQ(lstat_of(fs / "b").st_size, 2);
}

TEST(Coherence, WorkingDirectoryInALowerDirectoryOutlivesItsCopyUp) {
  OverlayFixture fs({.lower = {{"a/b/f", File{"x"}}}});
  Fd here(".", O_PATH | O_DIRECTORY);
  ASSERT_OK(::chdir((fs / "a/b").c_str()));
  EXPECT_OK(append_file("f", "y"));
  EXPECT_OK(::chmod("../../a", 0711));
  std::array<char, 4096> cwd{};
  EXPECT_NE(::getcwd(cwd.data(), cwd.size()), nullptr);
  EXPECT_EQ(std::string(cwd.data()), fs / "a/b");
  EXPECT_EQ(read_file("f"), "xy");
  EXPECT_OK(create_file("g", "g"));
  EXPECT_EQ(names_in(fs / "a/b"), (Names{"f", "g"}));
  ASSERT_OK(::fchdir(here));
}

TEST(Coherence, DirectoryDescriptorOutlivesTheDirectorysCopyUp) {
  OverlayFixture fs({.lower = {{"d/f", File{"x"}}}});
  Fd dir(fs / "d", O_RDONLY | O_DIRECTORY);
  EXPECT_OK(::chmod((fs / "d").c_str(), 0700));
  EXPECT_OK(create_file(fs / "d/new", "n"));
  Fd opened(::openat(dir, "new", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(read_fd(opened), "n");
  EXPECT_EQ(octal(fstat_of(dir).st_mode & 07777), "0700");
  EXPECT_OK(::fchmod(dir, 0750));
  EXPECT_EQ(octal(mode_of(fs / "d")), "0750");
  EXPECT_EQ(fstat_of(dir).st_ino, ino_of(fs / "d"));
}

TEST(Coherence, ProcShowsThePathOfAnOpenFile) {
  OverlayFixture fs({.lower = {{"d/f", File{"x"}}}});
  Fd fd(fs / "d/f", O_RDONLY);
  std::string proc = "/proc/self/fd/" + std::to_string(static_cast<int>(fd));
  EXPECT_EQ(link_target(proc), fs / "d/f");
  EXPECT_OK(append_file(fs / "d/f", "y"));
  EXPECT_EQ(link_target(proc), fs / "d/f");
  EXPECT_OK(::rename((fs / "d/f").c_str(), (fs / "g").c_str()));
  EXPECT_EQ(link_target(proc), fs / "g");
}

TEST(Coherence, SocketsAndFifosConnectTwoEnds) {
  OverlayFixture fs({.lower = {{"d", Dir{}}, {"p", Fifo{}}}});
  ASSERT_LT((fs / "d/s").size(), sizeof sockaddr_un{}.sun_path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (fs / "d/s").c_str());
  Fd server(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_OK(::bind(server, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  ASSERT_OK(::listen(server, 1));
  EXPECT_OK(::connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  EXPECT_TRUE(S_ISSOCK(lstat_of(fs / "d/s").st_mode));
  Fd fifo(fs / "p", O_RDWR | O_NONBLOCK);
  Fd end(fs / "p", O_WRONLY | O_NONBLOCK);
  EXPECT_EQ(::write(end, "p", 1), 1);
  char got = 0;
  EXPECT_EQ(::read(fifo, &got, 1), 1);
}

TEST(Coherence, BusyMountStaysUsable) {
  OverlayFixture fs({.lower = {{"f", File{"x"}}}});
  Fd fd(fs / "f", O_RDWR);
  if (!on(kVellumUser)) {
    EXPECT_ERRNO(::umount2(fs.root().c_str(), 0), EBUSY);
  }
  EXPECT_EQ(::pwrite(fd, "y", 1, 0), 1);
  EXPECT_EQ(read_file(fs / "f"), "y");
}

TEST(Coherence, MergedDirectoryHasTheXattrsOfItsTopmostLayer) {
  OverlayFixture fs({.lower = {{"d", Dir{.xattrs = {{"user.low", "1"}}}}, {"d/x", File{}}},
                     .upper = {{"d", Dir{.xattrs = {{"user.up", "1"}}}}}});
  EXPECT_EQ(list_xattrs(fs / "d"), (Names{"user.up"}));
}

TEST(Coherence, SgidIsClearedByAChmodOfAStranger) {
  NOT_ON(kVellumUser, "a plain user owns one uid only");
  OverlayFixture fs({.lower = {{"f", File{.content = "x", .mode = 0755, .uid = 7, .gid = 99}}}});
  EXPECT_EQ(as_ids(7, 7, [&] { return ::chmod((fs / "f").c_str(), 02755) < 0 ? errno : 0; }), 0);
  EXPECT_EQ(octal(mode_of(fs / "f")), "0755");
}

TEST(Coherence, NofollowOfASymlinkIsEloop) {
  OverlayFixture fs({.lower = {{"l", Symlink{"f"}}, {"f", File{"x"}}}});
  EXPECT_EQ(open_errno(fs / "l", O_RDONLY | O_NOFOLLOW), ELOOP);
  EXPECT_EQ(open_errno(fs / "l", O_WRONLY | O_CREAT | O_EXCL), EEXIST);
  EXPECT_EQ(open_errno(fs / "f", O_RDONLY | O_DIRECTORY), ENOTDIR);
}

}  // namespace
}  // namespace vellum::test
