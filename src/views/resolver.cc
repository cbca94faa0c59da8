#include "views/resolver.h"

#include <algorithm>
#include <ranges>
#include <utility>

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

Result<Resolver::Environment> Resolver::environment_of(pid_t pid) {
  const std::string text = TRY(ask(sys::process_environ, pid));
  return Environment{
      .markers = parse_markers(text, settings_.prefix), .hash = absl::HashOf(text), .rewritten = !is_environment(text)};
}

// Up to the first with a view of its own, then down again. `generation` 0: the requester itself; above: its ancestors,
// which lend their view but are refused nothing.
Result<ViewRef> Resolver::resolve(pid_t pid, std::uint32_t uid, unsigned generation) {
  std::vector<std::pair<pid_t, Looked>> below;
  Step at{.pid = pid, .itself = generation == 0, .told = generation == 0};
  ViewRef view;
  for (; !view; ++generation) {
    Looked looked = TRY(look(at, uid, generation));
    view = looked.view;
    const pid_t seen = std::exchange(at, looked.above).pid;
    below.emplace_back(seen, std::move(looked));
    if (!view && (at.pid <= 0 || generation >= kMostGenerations)) view = views_.original();
  }
  for (auto& [process, looked] : below | std::views::reverse) {
    if (!looked.view && !may_use(*view, looked.ids)) return fail(EACCES);
    looked.known.view = view;
    if (looked.keep) remember(process, std::move(looked.known));
  }
  return view;
}

Result<bool> Resolver::is_denied(pid_t process) {
  if (settings_.denied.empty()) return false;
  const std::string command = TRY(ask(sys::process_command, process));
  return std::ranges::find(settings_.denied, command) != settings_.denied.end();
}

// One of our own user's that only root may look at (PR_SET_DUMPABLE, a program that may be run but not read): it may
// have markers.
bool Resolver::is_hidden(pid_t pid, Errno error, std::uint32_t uid) {
  if ((error != EACCES && error != EPERM) || uid != self_) return false;
  const auto ids = ask(sys::process_ids, pid);
  return ids && ids->one_uid() && ids->uid == self_;
}

Result<Resolver::Looked> Resolver::look(const Step& at, std::uint32_t uid, unsigned generation) {
  const pid_t pid = at.pid;
  const auto sees = [](ViewRef view) {
    Looked looked;
    looked.view = std::move(view);
    return looked;
  };
  const auto nobody = [&]() -> Result<Looked> { return sees(at.told ? TRY(stranger()) : views_.original()); };
  const auto unknown = [&](Errno error) -> Result<Looked> {
    if (at.itself && is_hidden(pid, error, uid)) return fail(EACCES);
    const bool untold = out_of_sight(error) || (!at.itself && error == E2BIG);
    return untold ? nobody() : Result<Looked>(fail(error));
  };
  const auto stat = ask(sys::process_stat, pid);
  if (!stat) return unknown(stat.error());
  const auto known = find(pid);
  if (known && still_true(*known, pid, stat->image, uid)) return sees(known->view);

  // In the middle of an execve() there is no environment yet, and where the main thread has ended no more.
  const bool same_process = known && known->uid == uid && known->image.start == stat->image.start;
  if (stat->image.environ_end == 0 && same_process) return sees(known->view);
  const auto program = ask(sys::process_program, pid);
  if (!program) return unknown(program.error());
  auto ids = ask(sys::process_ids, pid);
  if (!ids) return unknown(ids.error());
  if (ids->process == sys::this_process()) return sees(views_.original());
  // A program that runs with other rights than those of who started it takes no orders from that environment.
  if (!ids->one_uid() || !ids->one_gid() || ids->uid != uid || program->secure) return nobody();
  const auto denied = is_denied(ids->process);
  if (!denied) return unknown(denied.error());
  if (at.itself && *denied) return fail(ENOTSUP);
  const auto environment = environment_of(pid);
  if (!environment) return unknown(environment.error());

  Looked looked;
  looked.above.pid = stat->parent;
  looked.known = {.image = stat->image,
                  .program = program->mark,
                  .uid = uid,
                  .inherited = true,
                  .random = sys::addresses_are_random(pid),
                  .environment = environment->hash,
                  .view = nullptr};
  looked.keep = stat->image.environ_end != 0 && !*denied;
  looked.ids = std::move(*ids);
  const std::optional<Markers>& markers = environment->markers;
  if (markers && !sys::shares_root(pid)) {
    // Paths mean something else there; what an ancestor said before means what it meant to that.
    const auto parents = environment_of(stat->parent);
    if (!parents && !out_of_sight(parents.error())) return fail(parents.error());
    if (!parents || parents->markers != markers) return sees(TRY(stranger()));
    looked.above.told = true;
    if (same_process && known->inherited) looked.view = known->view;
    return looked;
  }
  if (markers) {
    std::optional<Result<ViewRef>> found;
    const auto around = [&] {
      if (!found) found = view_around(*stat, uid, *markers, generation);
      return *found;
    };
    auto view = views_.with_room([&] { return views_.view_for(*markers, looked.ids, around); });
    ignore(sys::act_as(nullptr));
    if (!view) {
      log::debug("pid {}: its view cannot be opened: {}", pid, view.error().message());
      return fail(view.error());
    }
    looked.known.inherited = false;
    looked.view = std::move(*view);
    return looked;
  }
  if (same_process && (known->inherited || (environment->rewritten && known->program == program->mark))) {
    looked.view = known->view;
  } else if (looked.ids.process != pid) {
    looked.above = {.pid = looked.ids.process, .itself = at.itself, .told = at.told};
  } else if (at.told && environment->rewritten && settings_.strict) {
    return fail(EACCES);
  }
  return looked;
}

// What a process would see without its markers: the view of the nearest ancestor that has others, or none.
Result<ViewRef> Resolver::view_around(sys::ProcessStat stat, std::uint32_t uid, const Markers& markers,
                                      unsigned generation) {
  for (; generation < kMostGenerations && stat.parent > 0; ++generation) {
    const auto environment = environment_of(stat.parent);
    if (!environment && !out_of_sight(environment.error()) && environment.error() != E2BIG)
      return fail(environment.error());
    if (!environment || environment->markers != markers) return resolve(stat.parent, uid, generation + 1);
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
