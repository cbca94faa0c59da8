// Which view a process sees: the one its environment names, else the one of its nearest ancestor with a view.
//
// The answer is remembered under (pid, start time, program image), so a pid that is used again and an execve() with
// other markers are both noticed. Each request asks for the program alone, the quicker half; sweep() asks for the
// start time. Between two sweeps a pid can only come back to a fork of the same program, which has the same view.
// A process without markers keeps what it got from its ancestors when these are gone.
// A thread sees what the first thread of its process does.
// Whose environment counts: processes whose four uids all are the requester's, whose four gids are one, and whose root
// directory and mount namespace are ours, or the same environment's an ancestor's for whom they are. Everybody else is
// a stranger: passed through, or refused with EACCES where `strict`; so is who wrote something else over it.
// Markers that name what cannot be opened give the error, never another view; so does what we have no descriptor or
// memory to look at, and a process of the daemon's own user that the daemon may not look at (EACCES).
// Threads: safe.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "fuse/filesystem.h"
#include "sys/capabilities.h"
#include "sys/proc.h"
#include "views/view.h"

namespace vellum::views {

class Resolver {
 public:
  struct Settings {
    std::string prefix = "WRAPPER";
    bool strict = false;
    std::vector<std::string> denied;  // executables that get ENOTSUP
  };
  Resolver(Settings settings, ViewTable& views) : settings_(std::move(settings)), views_(views) {}

  Result<ViewRef> view_of(const fuse::Caller& caller);
  // Forgets processes that are gone.
  void sweep();
  // Processes remembered, by view.
  absl::flat_hash_map<ViewIndex, std::vector<pid_t>> processes() const;

 private:
  struct Known {
    sys::ProcessImage image;
    std::size_t program = 0;
    std::uint32_t uid = 0;
    bool inherited = false;  // not from its own markers
    // Without addresses of its own (setarch -R) an image cannot tell an execve(): then the environment has to be the
    // same.
    bool random = true;
    std::size_t environment = 0;
    ViewRef view;
  };
  struct Shard {
    mutable Mutex mutex;
    absl::flat_hash_map<pid_t, Known> processes VELLUM_GUARDED_BY(mutex);
  };
  Shard& shard(pid_t pid) { return shards_[static_cast<std::size_t>(pid) % kShards]; }
  std::optional<Known> find(pid_t pid);
  template <class Read>
  auto ask(Read read, pid_t pid) -> decltype(read(pid));
  static bool still_true(const Known& known, pid_t pid, const sys::ProcessImage& image, std::uint32_t uid);
  void remember(pid_t pid, Known known);
  // What counts of an environment; the text itself may be large.
  struct Environment {
    std::optional<Markers> markers;
    std::size_t hash = 0;
    bool rewritten = false;
  };
  Result<Environment> environment_of(pid_t pid);
  // On the way up from the requester.
  struct Step {
    pid_t pid = 0;
    bool itself = false;  // the requester, or its first thread
    bool told = false;    // so, or it is below in the same environment: then nothing but a view will do where `strict`
  };
  struct Looked {
    ViewRef view;  // null: that of who is above
    Step above;
    Known known;  // to remember, with the view
    bool keep = false;
    sys::ProcessIds ids;
  };
  Result<ViewRef> stranger() const;
  Result<ViewRef> resolve(pid_t pid, std::uint32_t uid, unsigned generation);
  Result<Looked> look(const Step& at, std::uint32_t uid, unsigned generation);
  Result<bool> is_denied(pid_t process);
  bool is_hidden(pid_t pid, Errno error, std::uint32_t uid);
  Result<ViewRef> view_around(sys::ProcessStat stat, std::uint32_t uid, const Markers& markers, unsigned generation);

  const Settings settings_;
  const std::uint32_t self_ = sys::privileges().euid;
  ViewTable& views_;
  static constexpr std::size_t kShards = 16;
  std::array<Shard, kShards> shards_;
};

}  // namespace vellum::views
