#include "rounds.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

namespace vellum::bench {
namespace {

// The trees of one set of circumstances. What reading workloads see is made once; what is changed, afresh for each run.
class Trees {
 public:
  Trees(std::string dir, unsigned layers, const Settings& settings, Who who)
      : dir_(std::move(dir)), settings_(settings), who_(who), seeds_{dir_ + "/seeds"} {
    for (unsigned i = 0; i < layers; ++i) layers_.push_back(fmt::format("{}/l{}", dir_, i));
    do_as_client(who_, [&] {
      for (const std::string& layer : layers_) make_dirs(layer);
      make_dirs(native());
      make_dirs(seeds_.dir);
    });
  }
  ~Trees() { remove_tree(dir_); }
  Trees(const Trees&) = delete;
  Trees& operator=(const Trees&) = delete;

  const Seeds& seeds() const { return seeds_; }
  std::string dump() const { return dir_ + "/dump"; }

  void need_layers(unsigned parts) {
    if (settings_.images) parts |= kTree | kData;  // one image for all workloads
    if ((parts & ~made_) == 0) return;
    make(parts & ~made_, layers_);
    made_ |= parts;
    if (settings_.images) do_as_client(who_, [&] { make_image(); });
  }

  // The directories for one run, the upper ones empty.
  Room room(const System& system, const Workload& workload) {
    Room room{layers_, dir_ + "/upper", dir_ + "/work", dir_ + "/mnt", dir_ + "/image", dir_ + "/objects"};
    do_as_client(who_, [&] {
      for (const std::string& path : {room.upper, room.work, room.mount}) make_dirs(path);
    });
    if (system.kind != System::Kind::kNative) return room;
    if (workload.traits.changes) {
      make(workload.parts, {room.mount});
    } else {
      room.mount = native();
      make(workload.parts & ~made_native_, {native()});
      made_native_ |= workload.parts;
    }
    return room;
  }

  void clean(const Room& room) {
    for (const std::string& path : {room.upper, room.work, room.mount, room.mount + ".log"}) {
      if (path != native()) remove_tree(path);
    }
  }

 private:
  std::string native() const { return dir_ + "/native"; }

  void make_image() {
    const std::string ours = shell_quoted(settings_.binary) + " image ";
    run_shell(fmt::format("{} create --digest-store={}/objects {} {}/image", ours, dir_, layers_[0], dir_));
    run_shell(fmt::format("{} dump {}/image > {}/dump", ours, dir_, dir_));
  }

  void make(unsigned parts, const std::vector<std::string>& roots) {
    if (parts == kNothing) return;
    do_as_client(who_, [&] {
      std::vector<std::string> all = roots;
      if (roots.size() == 1 && roots != layers_) all.assign(layers_.size(), roots[0]);  // same order of making
      for (unsigned part = 1; part < kAllParts; part *= 2) {
        if ((parts & part) != 0) make_part(static_cast<Part>(part), all, settings_.sizes, seeds_);
      }
    });
  }

  std::string dir_;
  const Settings& settings_;
  Who who_;
  Seeds seeds_;
  std::vector<std::string> layers_;
  unsigned made_ = 0, made_native_ = 0;
};

Run run_once(const System& system, const Planned& planned, Trees& trees, const Settings& settings, Who who) {
  const Workload& workload = *planned.workload;
  Run run;
  const Room room = trees.room(system, workload);
  try {
    const Mounted mounted(system, room, who, workload.traits.read_only);
    ::sync();  // what was made before is not to be written while the clock runs
    Scene scene{mounted.path(), who, settings.sizes, trees.seeds()};
    if (settings.images) {
      // Beside what is made for this run, and removed with it.
      scene.second_mount = room.upper;
      scene.mount_command = mounted.command_for(scene.second_mount);
      scene.maker = system.maker;
      scene.source = room.lower[0];
      scene.dump = trees.dump();
      scene.scratch = room.work;
    }
    run = run_client(workload, scene, planned.threads, mounted, settings.cap_seconds);
  } catch (const Failure& failure) {
    run.error = failure.what();
  }
  trees.clean(room);
  return run;
}

std::string circumstances(const Settings& settings, Who who, const std::string& place, unsigned layers) {
  std::string text = fmt::format("{}, {}, {} layer{}", name_of(who), place, layers, layers == 1 ? "" : "s");
  if (!settings.axis.empty() && settings.axis != "layers") {
    text += fmt::format(", {} {}", settings.axis_value, settings.axis);
  }
  return text;
}

}  // namespace

std::vector<Planned> plan(const Settings& settings, Who who) {
  std::vector<Planned> list;
  for (const Workload& workload : settings.images ? image_workloads() : all_workloads()) {
    if (workload.traits.needs_root && who == Who::kPlainUser) continue;
    for (const unsigned threads : settings.threads) {
      const std::string name = threads == 1 ? workload.name : fmt::format("{}_{}t", workload.name, threads);
      if (threads > 1 && !workload.traits.threads) continue;
      if (matches(settings.workloads, name)) list.push_back({&workload, threads, name});
    }
  }
  return list;
}

std::size_t count_runs(const Settings& settings, const std::vector<System>& systems, Who who) {
  return plan(settings, who).size() * systems.size() * settings.places.size() * settings.layers.size() *
         settings.rounds;
}

void run_rounds(const Settings& settings, const std::vector<System>& systems, Who who, const Stage& stage,
                Progress& progress, Results& results) {
  const std::vector<Planned> planned = plan(settings, who);
  for (const std::string& place : settings.places) {
    for (const unsigned layers : settings.layers) {
      const std::string where = circumstances(settings, who, place, layers);
      Trees trees(stage.place(place) + "/t", layers, settings, who);
      std::size_t turn = 0;
      for (unsigned round = 0; round < settings.rounds; ++round) {
        for (const Planned& one : planned) {
          trees.need_layers(one.workload->parts);
          for (std::size_t i = 0; i < systems.size(); ++i) {
            const System& system = systems[(turn + i) % systems.size()];
            progress.step(
                fmt::format("{}: round {} of {}: {} on {}", where, round + 1, settings.rounds, one.name, system.name));
            if (one.workload->traits.makes_image && system.maker.empty()) continue;
            if (one.workload->traits.mounts && system.command.empty()) continue;
            Cell& cell = results.cell(where, one.name, system.name);
            cell.axis = settings.axis;
            cell.axis_value = settings.axis_value;
            std::vector<Run>& runs = cell.runs;
            // What failed or took too long is not tried again.
            if (!runs.empty() && (runs[0].too_long || !runs[0].error.empty())) continue;
            runs.push_back(run_once(system, one, trees, settings, who));
          }
          ++turn;
        }
      }
    }
  }
}

}  // namespace vellum::bench
