#include "systems.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "files.h"
#include "stage.h"

namespace vellum::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

bool is_installed(const std::string& program) {
  return std::system(("command -v " + program + " > /dev/null 2>&1").c_str()) == 0;
}

std::string joined(const std::vector<std::string>& words, const std::string& suffix) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ":") + word + suffix;
  return text;
}

std::string filled_in(std::string command, const Room& room) {
  const std::pair<const char*, std::string> values[] = {{"{lower}", joined(room.lower, "")},
                                                        {"{lower_ro}", joined(room.lower, "=RO")},
                                                        {"{upper}", room.upper},
                                                        {"{work}", room.work},
                                                        {"{mnt}", room.mount},
                                                        {"{image}", room.image},
                                                        {"{objects}", room.objects}};
  for (const auto& [placeholder, value] : values) {
    for (std::size_t at = 0; (at = command.find(placeholder, at)) != std::string::npos; at += value.size()) {
      command.replace(at, std::string(placeholder).size(), value);
    }
  }
  return command;
}

bool is_mounted(const std::string& path) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string word;
    for (int i = 0; i < 5; ++i) words >> word;
    if (word == path) return true;
  }
  return false;
}

std::vector<pid_t> children() {
  std::ifstream list(fmt::format("/proc/self/task/{}/children", ::getpid()));
  std::vector<pid_t> pids;
  for (pid_t pid = 0; list >> pid;) pids.push_back(pid);
  return pids;
}

bool ended(pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) != 0; }

// Whether all have ended within the time.
bool wait_for_end(std::vector<pid_t>& pids, milliseconds time) {
  for (const auto deadline = Clock::now() + time;;) {
    std::erase_if(pids, ended);
    if (pids.empty()) return true;
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
}

}  // namespace

std::vector<System> make_systems(const Settings& settings, const std::vector<Ours>& ours,
                                 const std::vector<Ours>& views, const std::vector<std::string>& more) {
  std::vector<System> systems{{.name = "native", .kind = System::Kind::kNative},
                              {.name = "kernel", .kind = System::Kind::kKernel}};
  if (is_installed("fuse-overlayfs")) {
    systems.push_back({.name = "fuse-overlayfs",
                       .command = "fuse-overlayfs -o lowerdir={lower},upperdir={upper},workdir={work} {mnt}",
                       .read_only_command = "fuse-overlayfs -o lowerdir={lower} {mnt}"});
  } else {
    fmt::print(stderr, "fuse-overlayfs is not installed: left out\n");
  }
  if (is_installed("unionfs-fuse")) {
    systems.push_back({.name = "unionfs-fuse",
                       .command = "unionfs-fuse -o cow,max_files=15000 {upper}=RW:{lower_ro} {mnt}",
                       .read_only_command = "unionfs-fuse -o max_files=15000 {lower_ro} {mnt}"});
  } else {
    fmt::print(stderr, "unionfs-fuse is not installed: left out\n");
  }
  for (const Ours& one : ours) {
    const std::string start = shell_quoted(settings.binary) + " overlay -o lowerdir={lower}";
    const std::string options = one.options.empty() ? "" : "," + one.options;
    systems.push_back({.name = one.name,
                       .command = start + ",upperdir={upper},workdir={work}" + options + " {mnt}",
                       .read_only_command = start + options + " {mnt}"});
  }
  for (const Ours& one : views) {
    const std::string start = shell_quoted(settings.binary) + " views " +
                              (one.options.empty() ? "" : "-o " + shell_quoted(one.options) + " ") + "{mnt}";
    systems.push_back({.name = one.name,
                       .command = start,
                       .read_only_command = start,
                       .environment = {"WRAPPER_LOWER={lower}", "WRAPPER_UPPER={upper}", "WRAPPER_WORK={work}"},
                       .read_only_environment = {"WRAPPER_LOWER={lower}"}});
  }
  for (const std::string& text : more) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) throw Failure("--system " + text + ": expected NAME=COMMAND");
    systems.push_back({.name = text.substr(0, equals), .command = text.substr(equals + 1)});
  }
  return systems;
}

std::vector<System> make_image_systems(const Settings& settings) {
  const std::string ours = shell_quoted(settings.binary);
  const std::string mount = ours + " image mount -o basedir={objects} ";
  std::vector<System> systems{
      {.name = "native", .kind = System::Kind::kNative},
      {.name = "kernel", .command = mount + "--fuse=no {image} {mnt}"},
      {.name = "vellum",
       .command = mount + "--standalone {image} {mnt}",
       .maker = shell_quoted(settings.binary.substr(0, settings.binary.rfind('/') + 1) + "mkcomposefs")},
      {.name = "vellum-overlay", .command = mount + "--fuse=yes {image} {mnt}"}};
  if (!settings.c_tools.empty()) {
    const std::string tools = shell_quoted(settings.c_tools);
    systems.push_back({.name = "c-tools",
                       .command = tools + "/composefs-fuse -o source={image},basedir={objects} {mnt}",
                       .maker = tools + "/mkcomposefs"});
  }
  return systems;
}

Mounted::Mounted(const System& system, Room room, Who who, bool read_only) : system_(system), room_(std::move(room)) {
  switch (system.kind) {
    case System::Kind::kNative: break;
    case System::Kind::kKernel: mount_kernel(who, read_only); break;
    case System::Kind::kCommand: {
      const std::string& command = read_only ? system.read_only_command : system.command;
      if (command.empty()) throw Failure("no command for a mount without an upper layer");
      for (const std::string& marker : read_only ? system.read_only_environment : system.environment)
        environment_.push_back(filled_in(marker, room_));
      start(filled_in(command, room_), who);
    }
  }
}

std::string Mounted::command_for(const std::string& mount) const {
  Room other = room_;
  other.mount = mount;
  return filled_in(system_.command, other);
}

// With the calls that take one layer at a time: the string of mount(2) ends at a page.
void Mounted::mount_kernel(Who who, bool read_only) {
  const int context = static_cast<int>(must(::fsopen("overlay", FSOPEN_CLOEXEC), "fsopen", "overlay"));
  const auto set = [&](const char* key, const std::string& value) {
    must(::fsconfig(context, FSCONFIG_SET_STRING, key, value.c_str(), 0), key, value);
  };
  for (const std::string& layer : room_.lower) set("lowerdir+", layer);
  if (read_only && room_.lower.size() == 1) set("lowerdir+", room_.work);  // it wants two; this one is empty
  if (!read_only) {
    set("upperdir", room_.upper);
    set("workdir", room_.work);
  }
  if (who == Who::kUserNamespace) {
    must(::fsconfig(context, FSCONFIG_SET_FLAG, "userxattr", nullptr, 0), "set", "userxattr");
  }
  must(::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "create", "overlay");
  const int mount = static_cast<int>(must(::fsmount(context, FSMOUNT_CLOEXEC, 0), "fsmount", "overlay"));
  must(::move_mount(mount, "", AT_FDCWD, room_.mount.c_str(), MOVE_MOUNT_F_EMPTY_PATH), "mount on", room_.mount);
  ::close(mount);
  ::close(context);
  mounted_ = true;
}

void Mounted::start(const std::string& command, Who who) {
  const std::string log = room_.mount + ".log";
  const pid_t starter = static_cast<pid_t>(must(::fork(), "fork", ""));
  if (starter == 0) {
    const int null = ::open("/dev/null", O_RDONLY);
    const int out = ::open(log.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0666);
    ::dup2(null, 0);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::close_range(3, ~0U, 0);
    take_rights_of_client(who);
    ::execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), nullptr);
    std::_Exit(127);
  }
  // A daemon's starter ends when the mount is there; one in the foreground stays.
  bool starter_ended = false;
  int status = 0;
  for (const auto deadline = Clock::now() + std::chrono::seconds(15); !(mounted_ = is_mounted(room_.mount));) {
    starter_ended = starter_ended || ::waitpid(starter, &status, WNOHANG) == starter;
    if ((starter_ended && status != 0) || Clock::now() > deadline) {
      daemons_ = children();
      for (const pid_t pid : daemons_) ::kill(pid, SIGKILL);
      wait_for_end(daemons_, milliseconds(5000));
      throw Failure(fmt::format("{}: no mount: {}", command, read_file(log)));
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
  // The starter of a daemon is about to end; it must not be taken for the daemon.
  for (const auto deadline = Clock::now() + milliseconds(300); !starter_ended && Clock::now() < deadline;) {
    starter_ended = ::waitpid(starter, &status, WNOHANG) == starter;
    if (!starter_ended) std::this_thread::sleep_for(milliseconds(1));
  }
  daemons_ = children();
}

Mounted::~Mounted() {
  if (mounted_) {
    // Files that a client left open are closed a moment after its end.
    for (int i = 0; i < 200 && ::umount2(room_.mount.c_str(), 0) < 0 && errno == EBUSY; ++i) {
      std::this_thread::sleep_for(milliseconds(10));
    }
    if (is_mounted(room_.mount)) ::umount2(room_.mount.c_str(), MNT_DETACH | MNT_FORCE);
  }
  if (!wait_for_end(daemons_, milliseconds(10'000))) {
    fmt::print(stderr, "\na daemon of {} did not end by itself: killed\n", room_.mount);
    for (const pid_t pid : daemons_) ::kill(pid, SIGKILL);
    wait_for_end(daemons_, milliseconds(5000));
  }
}

}  // namespace vellum::bench
