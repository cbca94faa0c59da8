// vellum-bench: see docs/benchmarks.md.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "client.h"
#include "files.h"
#include "report.h"
#include "rounds.h"
#include "scaling.h"
#include "stage.h"
#include "systems.h"
#include "workloads.h"

namespace vellum::bench {
namespace {

using Json = nlohmann::json;

struct CommandLine {
  Settings settings;
  std::vector<std::string> ours, views, more_systems, only_systems, who{"root"};
  std::string json, text, chart, from;
  bool list = false, quick = false, scaling = false, check_targets = false;
};

// Numbers that take a fiftieth of the time; for a look, not for a result.
void make_quick(Settings& settings) {
  settings.rounds = 1;
  settings.sizes = {.files = 1000,
                    .directories = 20,
                    .many = 10'000,
                    .changes = 400,
                    .data_mib = 64,
                    .big_mib = 64,
                    .io = 4000,
                    .unpack = 2000,
                    .source_files = 400};
}

std::string name_before_equals(const std::string& text) { return text.substr(0, text.find('=')); }

std::vector<System> chosen_systems(const CommandLine& line) {
  std::vector<Ours> ours;
  if (!line.settings.binary.empty()) ours.push_back({"vellum", ""});
  std::vector<Ours> views;
  const auto add = [](std::vector<Ours>& list, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      const std::string name = name_before_equals(text);
      list.push_back({name, text.size() > name.size() ? text.substr(name.size() + 1) : ""});
    }
  };
  add(ours, line.ours);
  add(views, line.views);
  std::vector<System> systems = line.settings.images ? make_image_systems(line.settings)
                                                     : make_systems(line.settings, ours, views, line.more_systems);
  std::vector<std::string> only = line.only_systems;
  if (only.empty() && line.scaling) {  // the others would take hours for a million of anything
    for (const System& system : systems) {
      if (system.name != "native" && system.name != "unionfs-fuse") only.push_back(system.name);
    }
  }
  if (!only.empty()) {
    for (const std::string& name : only) {
      if (std::ranges::none_of(systems, [&](const System& system) { return system.name == name; })) {
        throw Failure("--systems: there is no " + name);
      }
    }
    std::erase_if(systems, [&](const System& system) { return std::ranges::find(only, system.name) == only.end(); });
  }
  return systems;
}

Json machine(const Settings& settings) {
  utsname name{};
  ::uname(&name);
  return {{"kernel", name.release},
          {"cpus", std::thread::hardware_concurrency()},
          {"time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
          {"rounds", settings.rounds},
          {"files", settings.sizes.files},
          {"data_mib", settings.sizes.data_mib},
          {"big_mib", settings.sizes.big_mib}};
}

// As each of --who in turn; the results come back from their processes as JSON.
std::string measure(const CommandLine& line, const Stage& stage) {
  Settings settings = line.settings;
  if (!settings.binary.empty()) {  // where a plain user can reach it
    const std::string copy = stage.memory + "/vellum";
    run_shell("cp " + shell_quoted(settings.binary) + " " + shell_quoted(copy) + " && chmod 755 " + shell_quoted(copy) +
              " && ln -s vellum " + shell_quoted(stage.memory + "/mkcomposefs"));
    settings.binary = copy;
  }
  CommandLine own = line;
  own.settings = settings;
  const std::vector<System> systems = chosen_systems(own);
  const std::vector<Settings> points =
      line.scaling ? scaling_points(settings, line.quick) : std::vector<Settings>{settings};
  const auto runs_as = [&](Who who) {
    std::size_t runs = 0;
    for (const Settings& point : points) runs += count_runs(point, systems, who);
    return runs;
  };
  std::size_t steps = 0;
  for (const Who who : settings.who) steps += runs_as(who);
  if (steps == 0) throw Failure("no workload of that name; --list shows them");
  Progress progress(steps);
  Json cells = Json::array();
  for (const Who who : settings.who) {
    const std::string part = run_as(who, stage, [&](const Stage& place) {
      Results results;
      for (const Settings& point : points) run_rounds(point, systems, who, place, progress, results);
      return to_json(results.cells).dump(-1, ' ', false, Json::error_handler_t::replace);
    });
    progress.skip(runs_as(who));
    for (Json& cell : Json::parse(part)) cells.push_back(std::move(cell));
  }
  progress.finish();
  return Json{{"machine", machine(settings)}, {"cells", std::move(cells)}}.dump(1);
}

// The exit code: 1 for missed targets, if they are asked for.
int report(const CommandLine& line, const std::string& json) {
  const Json document = Json::parse(json);
  Results results;
  results.cells = cells_from_json(document["cells"]);
  const bool is_series = !results.cells.empty() && !results.cells[0].axis.empty();
  const Json& head = document["machine"];
  const std::string text =
      fmt::format("vellum-bench, {}, Linux {}, {} CPUs, {} rounds\n", head["time"].get<std::string>(),
                  head["kernel"].get<std::string>(), head["cpus"].get<int>(), head["rounds"].get<int>()) +
      (is_series ? scaling_text(results)
                 : report_text(results, {.base = line.settings.base, .check_targets = line.check_targets}));
  fmt::print("{}", text);
  if (!line.json.empty() && line.from.empty()) write_file(line.json, json + "\n");
  if (!line.text.empty()) write_file(line.text, text);
  if (!line.chart.empty() && !is_series) draw_chart(results, line.settings.base, line.chart);
  return line.check_targets && !missed_targets(results, line.settings.base).empty() ? 1 : 0;
}

void list_workloads(bool images) {
  for (const Workload& workload : images ? image_workloads() : all_workloads())
    fmt::print("{:24}  {}\n", workload.name, workload.what);
}

CommandLine parse(int argc, char** argv) {
  CommandLine line;
  Settings& settings = line.settings;
  CLI::App app("Times file systems on equal trees. See docs/benchmarks.md.", "vellum-bench");
  app.option_defaults()->always_capture_default();
  // Before the others, so that those given by hand win.
  app.add_flag("--quick", line.quick, "Small trees, one round: for a look")
      ->trigger_on_parse()
      ->each([&](const std::string&) { make_quick(settings); });
  app.add_option("--binary", settings.binary, "Our program (vellum)");
  app.add_option("--ours", line.ours, "NAME=OPTIONS: one more of ours, with these -o options")->allow_extra_args(false);
  app.add_option("--views", line.views, "NAME[=OPTIONS]: a view of `vellum views`, with these -o options")
      ->allow_extra_args(false);
  app.add_option("--system", line.more_systems, "NAME=COMMAND with {lower} {upper} {work} {mnt}: one more system")
      ->allow_extra_args(false);
  app.add_option("--systems", line.only_systems, "Only these, of all")->delimiter(',');
  app.add_option("--layers", settings.layers, "Numbers of lower layers")->delimiter(',');
  app.add_option("--on", settings.places, "tmpfs, disk")->delimiter(',')->check(CLI::IsMember({"tmpfs", "disk"}));
  app.add_option("--disk-dir", settings.disk, "Where the disk is");
  app.add_option("--who", line.who, "root, userns, user")
      ->delimiter(',')
      ->check(CLI::IsMember({"root", "userns", "user"}));
  app.add_option("--threads", settings.threads, "Numbers of client threads")->delimiter(',');
  app.add_option("--rounds", settings.rounds, "How often");
  app.add_option("--workloads", settings.workloads, "Names or globs, with commas between");
  app.add_flag("--images", settings.images, "composefs images instead of layers; wants --binary")
      ->trigger_on_parse()
      ->each([&](const std::string&) { settings.layers = {1}; });
  app.add_option("--c-tools", settings.c_tools,
                 "With --images: where composefs's own mkcomposefs and composefs-fuse are");
  app.add_flag("--scaling", line.scaling, "Series instead: files, names in a directory, layers");
  app.add_option("--base", settings.base, "The system that ratios are made to");
  app.add_option("--files", settings.sizes.files, "Small files in the tree");
  app.add_option("--data-mib", settings.sizes.data_mib, "Size of what is read and written");
  app.add_option("--big-file-mib", settings.sizes.big_mib, "Size of the file that an append copies up");
  app.add_option("--cap", settings.cap_seconds, "Seconds after which a run is stopped");
  app.add_option("--json", line.json, "Write the results here");
  app.add_option("--text", line.text, "Write the tables here, too");
  app.add_option("--chart", line.chart, "Write a chart (SVG) here; wants gnuplot");
  app.add_option("--from", line.from, "Measure nothing: tables and chart of the results in this file");
  app.add_flag("--check-targets", line.check_targets, "Mark missed targets, and exit with 1 if there are any");
  app.add_flag("--list", line.list, "Show the workloads");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  settings.who.clear();
  for (const std::string& name : line.who) {
    for (const Who who : {Who::kRoot, Who::kUserNamespace, Who::kPlainUser}) {
      if (name == name_of(who)) settings.who.push_back(who);
    }
  }
  return line;
}

int run(int argc, char** argv) {
  const CommandLine line = parse(argc, argv);
  if (line.list) {
    list_workloads(line.settings.images);
    return 0;
  }
  if (!line.from.empty()) return report(line, read_file(line.from));
  // The stage's process hands its results over in a file that has no name.
  std::FILE* file = std::tmpfile();
  if (file == nullptr) must(-1, "make", "a temporary file");
  const int status = run_on_stage(line.settings, [&](const Stage& stage) {
    const std::string json = measure(line, stage);
    return std::fwrite(json.data(), 1, json.size(), file) == json.size() && std::fflush(file) == 0 ? 0 : 1;
  });
  if (status != 0) return status;
  std::rewind(file);
  std::string json;
  std::array<char, 65536> buffer{};
  for (std::size_t got = 0; (got = std::fread(buffer.data(), 1, buffer.size(), file)) > 0;) {
    json.append(buffer.data(), got);
  }
  std::fclose(file);
  return report(line, json);
}

}  // namespace
}  // namespace vellum::bench

int main(int argc, char** argv) {
  try {
    vellum::bench::reserve_environment(argv);
    return vellum::bench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "vellum-bench: {}\n", error.what());
    return 1;
  }
}
