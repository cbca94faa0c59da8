// The systems that are compared, and how each is mounted and ended. A new one is a line in make_systems(), or
// --system 'NAME=COMMAND' on the command line. Errors: Failure.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "settings.h"

namespace vellum::bench {

struct System {
  enum class Kind { kNative, kKernel, kCommand };
  std::string name;
  Kind kind = Kind::kCommand;
  // Shell commands with the placeholders {lower} (A:B…, the topmost first), {lower_ro} (A=RO:B=RO…), {upper}, {work}
  // and {mnt}; without the second the system has no mounts without an upper layer.
  std::string command{};
  std::string read_only_command{};
  // A composefs system: a shell command that is mkcomposefs. Empty: it makes no images.
  std::string maker{};
  // What a client has in its environment, with the same placeholders: of a mount that shows each process its own view.
  std::vector<std::string> environment{};
  std::vector<std::string> read_only_environment{};
};

struct Ours {
  std::string name;
  std::string options;  // for -o, besides the layers
};

// `views` are `vellum views` instead of `vellum overlay`; `more` are NAME=COMMAND. Systems whose program is not
// installed are left out, with a line on stderr.
std::vector<System> make_systems(const Settings& settings, const std::vector<Ours>& ours,
                                 const std::vector<Ours>& views, const std::vector<std::string>& more);

// Systems that mount or make composefs images; {image} and {objects} are placeholders in their commands.
std::vector<System> make_image_systems(const Settings& settings);

// The directories of one mount.
struct Room {
  std::vector<std::string> lower;  // the topmost first
  std::string upper, work, mount;
  std::string image{}, objects{};
};

// A mounted system; unmounts, ends and waits for its processes when it goes.
class Mounted {
 public:
  Mounted(const System& system, Room room, Who who, bool read_only);
  ~Mounted();
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

  const std::string& path() const { return room_.mount; }
  const std::vector<pid_t>& daemons() const { return daemons_; }
  const std::vector<std::string>& environment() const { return environment_; }
  // The command that would mount the same elsewhere; empty where it is no command.
  std::string command_for(const std::string& mount) const;

 private:
  void mount_kernel(Who who, bool read_only);
  void start(const std::string& command, Who who);

  const System& system_;
  Room room_;
  bool mounted_ = false;
  std::vector<std::string> environment_;
  std::vector<pid_t> daemons_;
};

}  // namespace vellum::bench
