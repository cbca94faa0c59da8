#include "views/resolver.h"

#include <algorithm>

#include "base/log.h"

namespace vellum::views {
namespace {

constexpr unsigned kMostGenerations = 256;

}  // namespace

// What /proc says of a process.
template <class Read>
auto Resolver::ask(Read read, pid_t pid) -> decltype(read(pid)) {
  return views_.with_room([&] { return read(pid); });
}

std::optional<Resolver::Known> Resolver::find(pid_t pid) {
  Shard& home = shard(pid);
  const MutexLock lock(home.mutex);
  const auto found = home.processes.find(pid);
  return found == home.processes.end() ? std::nullopt : std::optional(found->second);
}

void Resolver::remember(pid_t pid, Known known) {
  Shard& home = shard(pid);
  const MutexLock lock(home.mutex);
  home.processes.insert_or_assign(pid, std::move(known));
}

bool Resolver::still_true(const Known& known, pid_t pid, const sys::ProcessImage& image, std::uint32_t uid) {
  if (known.uid != uid || known.image != image) return false;
  if (known.random) return true;
  const auto environment = sys::process_environ(pid);
  return environment && absl::HashOf(*environment) == known.environment;
}

Result<ViewRef> Resolver::stranger() const {
  if (settings_.strict) return fail(EACCES);
  return views_.original();
}

Result<ViewRef> Resolver::view_of(const fuse::Caller& caller) {
  if (caller.pid == 0) return stranger();  // in a pid namespace that we do not see into
  const auto pid = static_cast<pid_t>(caller.pid);
  // As whoever the thread acts as already: a user may look at their own, and who may not look learns nothing.
  if (const auto known = find(pid); known && known->random && known->uid == caller.uid) {
    const auto program = sys::process_program(pid);
    if (program && program->mark == known->program) return known->view;
  }
  TRY(sys::act_as(nullptr));
  return resolve(pid, caller.uid, 0);
}

// `generation` 0: the requester itself; above: its ancestors, which lend their view but are refused nothing.
Result<ViewRef> Resolver::resolve(pid_t pid, std::uint32_t uid, unsigned generation) {
  const bool itself = generation == 0;
  const auto nobody = [&] { return itself ? stranger() : Result<ViewRef>(views_.original()); };
  const auto unknown = [&](Errno error) {
    const bool untold = out_of_sight(error) || (!itself && error == E2BIG);
    return untold ? nobody() : Result<ViewRef>(fail(error));
  };
  const auto stat = ask(sys::process_stat, pid);
  if (!stat) return unknown(stat.error());
  const auto known = find(pid);
  if (known && still_true(*known, pid, stat->image, uid)) return known->view;

  // In the middle of an execve() there is no environment yet, and where the main thread has ended no more.
  const bool same_process = known && known->uid == uid && known->image.start == stat->image.start;
  if (stat->image.environ_end == 0 && same_process) return known->view;
  const auto program = ask(sys::process_program, pid);
  if (!program) return unknown(program.error());
  const auto ids = ask(sys::process_ids, pid);
  if (!ids) return unknown(ids.error());
  if (ids->process == sys::this_process()) return views_.original();
  // A program that runs with other rights than those of who started it takes no orders from that environment.
  if (!ids->one_uid() || !ids->one_gid() || ids->uid != uid || program->secure) return nobody();
  if (itself && !settings_.denied.empty()) {
    const auto command = ask(sys::process_command, pid);
    if (!command) return unknown(command.error());
    if (std::ranges::find(settings_.denied, *command) != settings_.denied.end()) return fail(ENOTSUP);
  }
  const auto environment = ask(sys::process_environ, pid);
  if (!environment) return unknown(environment.error());
  const auto markers = parse_markers(*environment, settings_.prefix);
  if (markers && !sys::shares_root(pid)) return nobody();

  Known now{.image = stat->image,
            .program = program->mark,
            .uid = uid,
            .inherited = !markers,
            .random = sys::addresses_are_random(pid),
            .environment = absl::HashOf(*environment),
            .view = nullptr};
  if (markers) {
    const auto around = [&] { return view_around(*stat, uid, *markers, generation); };
    auto view = views_.with_room([&] { return views_.view_for(*markers, *ids, around); });
    ignore(sys::act_as(nullptr));
    if (!view) {
      log::debug("pid {}: its view cannot be opened: {}", pid, view.error().message());
      return view;
    }
    now.view = *view;
  } else if (same_process && known->inherited) {
    now.view = known->view;
  } else {
    now.view = TRY(inherit(*stat, uid, generation));
    if (!may_use(*now.view, *ids)) return fail(EACCES);
  }
  const ViewRef view = now.view;
  if (stat->image.environ_end != 0) remember(pid, std::move(now));
  return view;
}

Result<ViewRef> Resolver::inherit(const sys::ProcessStat& stat, std::uint32_t uid, unsigned generation) {
  if (stat.parent <= 0 || generation >= kMostGenerations) return views_.original();
  return resolve(stat.parent, uid, generation + 1);
}

// What a process would see without its markers: the view of the nearest ancestor that has others, or none.
Result<ViewRef> Resolver::view_around(sys::ProcessStat stat, std::uint32_t uid, const Markers& markers,
                                      unsigned generation) {
  for (; generation < kMostGenerations && stat.parent > 0; ++generation) {
    const auto environment = ask(sys::process_environ, stat.parent);
    if (!environment && !out_of_sight(environment.error()) && environment.error() != E2BIG)
      return fail(environment.error());
    const auto theirs = environment ? parse_markers(*environment, settings_.prefix) : std::nullopt;
    if (theirs != markers) return resolve(stat.parent, uid, generation + 1);
    const auto above = ask(sys::process_stat, stat.parent);
    if (!above && !out_of_sight(above.error())) return fail(above.error());
    if (!above) break;
    stat = *above;
  }
  return views_.original();
}

void Resolver::sweep() {
  ignore(sys::act_as(nullptr));
  for (Shard& home : shards_) {
    std::vector<std::pair<pid_t, std::uint64_t>> all;
    {
      const MutexLock lock(home.mutex);
      for (const auto& [pid, known] : home.processes) all.emplace_back(pid, known.image.start);
    }
    for (const auto& [pid, start] : all) {
      const auto stat = ask(sys::process_stat, pid);
      if (!stat && !out_of_sight(stat.error())) continue;
      if (stat && stat->image.start == start && !stat->ended) continue;
      Known gone;  // let go of outside the lock
      const MutexLock lock(home.mutex);
      const auto found = home.processes.find(pid);
      if (found == home.processes.end() || found->second.image.start != start) continue;
      gone = std::move(found->second);
      home.processes.erase(found);
    }
  }
}

absl::flat_hash_map<ViewIndex, std::vector<pid_t>> Resolver::processes() const {
  absl::flat_hash_map<ViewIndex, std::vector<pid_t>> result;
  for (const Shard& home : shards_) {
    const MutexLock lock(home.mutex);
    for (const auto& [pid, known] : home.processes) result[known.view->index].push_back(pid);
  }
  return result;
}

}  // namespace vellum::views
