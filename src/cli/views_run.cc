#include "cli/views_run.h"

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "base/result.h"
#include "cli/option_text.h"
#include "cli/views_list.h"
#include "sys/file.h"
#include "sys/mount_calls.h"
#include "sys/process.h"
#include "views/markers.h"

namespace vellum::cli {
namespace {

constexpr int kCannotRun = 125, kNotExecutable = 126, kNotFound = 127;  // as env(1) and timeout(1)
constexpr const char* kSelf = "/proc/self/exe";
constexpr auto kFromTerminal = {SIGINT, SIGQUIT};
constexpr auto kToCommand = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};

int refuse(const std::string& why) {
  fmt::print(stderr, "vellum run: {}\n", why);
  return kCannotRun;
}

std::string absolute(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

// The mount that the working directory is in.
std::string serving_mount_above(const std::string& directory) {
  for (std::filesystem::path at = directory;; at = at.parent_path()) {
    if (serves_views(at.string())) return at.string();
    if (at == at.parent_path()) return "";
  }
}

Status run_to_end(const std::vector<std::string>& arguments) {
  sys::Child child = TRY(sys::start_program(arguments, {}, sys::FdRef()));
  constexpr std::size_t kMost = 4096;
  const std::string said = sys::read_to_end(child.errors, kMost);
  const sys::ChildExit exit = TRY(sys::wait_for(child.pid));
  if (!said.empty()) fmt::print(stderr, "{}", said);
  return exit.success() ? Status{} : fail(ECHILD);
}

// Of those who find nothing mounted there at the same time one mounts; the others wait for that. The lock is on the
// directory itself, so whoever comes later opens what was mounted, and finds that it serves views.
std::string mount_once(const RunCommand& run) {
  constexpr auto kStep = std::chrono::milliseconds(20);
  constexpr int kTries = 500;
  if (serves_views(run.at)) return "";
  const auto directory = sys::open(run.at.c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory) return fmt::format("{}: {}", run.at, directory.error().message());
  for (int tries = 0; !sys::lock_exclusive(*directory); ++tries) {
    if (tries == kTries) return fmt::format("cannot mount at {}: somebody else has locked it", run.at);
    std::this_thread::sleep_for(kStep);
  }
  if (serves_views(run.at) || run_to_end({kSelf, "views", "--env-prefix", run.prefix, run.at})) return "";
  return fmt::format("cannot mount at {}", run.at);
}

int status_of(const sys::ChildExit& exit) {
  constexpr int kSignalled = 128;
  return exit.exited ? exit.code : kSignalled + exit.code;
}

[[noreturn]] void become_command(const RunCommand& run) {
  // By path once more: the directory that was inherited is that of the view around this one.
  if (!run.inside.empty()) {
    if (const Status entered = sys::change_directory(run.inside); !entered) {
      sys::exit_now(refuse(fmt::format("{}: {}", run.inside, entered.error().message())));
    }
  }
  const Errno error = sys::exec_program(run.command);
  fmt::print(stderr, "vellum run: {}: {}\n", run.command.front(), error.message());
  sys::exit_now(error == ENOENT ? kNotFound : kNotExecutable);
}

[[noreturn]] void keep(const RunCommand& run, sys::UniqueFd word) {
  sys::new_process_name("vellum-keeper");
  ignore(sys::become_subreaper());  // without it daemons keep the view by their own environment
  sys::ignore_signals(kFromTerminal);
  const auto command = sys::fork_child();
  if (command && *command == 0) {
    word.reset();
    sys::default_signals(kFromTerminal);
    become_command(run);
  }
  const pid_t pid = command.value_or(0);
  ignore(sys::write_all(word, fmt::format("{}\n", pid)));
  // Who waits for the end of our output waits for the command's, not for ours.
  ignore(sys::standard_streams_to_null());
  ignore(sys::change_to_root_directory());
  while (const auto ended = sys::wait_any()) {
    if (ended->first != pid) continue;
    ignore(sys::write_all(word, fmt::format("{}\n", status_of(ended->second))));
    word.reset();
  }
  sys::exit_now(0);
}

int run_inside(const RunCommand& run) {
  auto word = sys::make_pipe();
  if (!word) return refuse(word.error().message());
  auto [reader, writer] = std::move(*word);
  const auto keeper = sys::fork_child();
  if (!keeper) return refuse(keeper.error().message());
  if (*keeper == 0) {
    reader.reset();
    keep(run, std::move(writer));
  }
  writer.reset();
  // ^C is the command's to answer; what only we get is passed on.
  sys::ignore_signals(kFromTerminal);
  constexpr std::size_t kLine = 32;
  const std::string first = sys::read_line(reader, kLine);
  sys::forward_signals(kToCommand, std::atoi(first.c_str()));
  const std::string status = sys::read_line(reader, kLine);
  return status.empty() ? kCannotRun : std::atoi(status.c_str());
}

int run_in_namespace(const RunCommand& run, const std::string& cwd) {
  if (const Status entered = sys::enter_own_namespaces(); !entered) {
    return refuse(fmt::format("cannot make a mount namespace: {}", entered.error().message()));
  }
  std::string lowers;
  for (const std::string& lower : run.lowers) lowers += (lowers.empty() ? "" : ":") + escape(lower);
  std::string options = "lowerdir=" + (lowers.empty() ? escape(run.at) : lowers);
  if (!run.upper.empty()) options += ",upperdir=" + escape(run.upper);
  if (!run.upper.empty()) {
    const std::string work = run.work.empty() ? views::default_work_dir(run.upper) : run.work;
    std::error_code error;
    std::filesystem::create_directory(work, error);
    options += ",workdir=" + escape(work);
  }
  if (!run_to_end({kSelf, "overlay", "-o", options, run.at})) return refuse(fmt::format("cannot mount at {}", run.at));
  const auto child = sys::fork_child();
  if (!child) return refuse(child.error().message());
  if (*child == 0) {
    RunCommand inner = run;
    inner.inside = cwd;
    become_command(inner);
  }
  sys::ignore_signals(kFromTerminal);
  sys::forward_signals(kToCommand, *child);
  const auto ended = sys::wait_for(*child);
  ignore(sys::unmount_detached(run.at));  // the mount lives on for as long as a daemon is in it
  return ended ? status_of(*ended) : kCannotRun;
}

}  // namespace

int run_in_view(RunCommand run) {
  if (run.command.empty()) return refuse("no command; vellum run --upper DIR -- COMMAND...");
  if (!run.inside.empty()) return run_inside(run);
  if (run.lowers.empty() && run.upper.empty())
    return refuse("name an upper directory with --upper, or lower ones with --lower");
  // The command is to start in it, in the view: that takes its path.
  const auto cwd = sys::current_directory();
  if (!cwd) return refuse(fmt::format("the working directory cannot be told: {}", cwd.error().message()));
  for (std::string& lower : run.lowers) lower = absolute(lower);
  for (std::string* path : {&run.upper, &run.work, &run.at}) {
    if (!path->empty()) *path = absolute(*path);
  }
  if (run.at.empty() && !run.own_namespace) run.at = serving_mount_above(*cwd);
  if (run.at.empty()) return refuse("the working directory is in no vellum views mount: name one with --at");
  if (run.own_namespace) return run_in_namespace(run, *cwd);
  if (const std::string wrong = mount_once(run); !wrong.empty()) return refuse(wrong);
  const auto set = [&run](const char* name, const std::string& value) {
    return sys::set_environment(run.prefix + name, value.empty() ? nullptr : &value);
  };
  if (!set("_LOWER", views::join_layers(run.lowers)) || !set("_UPPER", run.upper) || !set("_WORK", run.work)) {
    return refuse("no room for the environment");
  }
  std::vector<std::string> again = {kSelf, "run", "--inside", *cwd, "--"};
  again.insert(again.end(), run.command.begin(), run.command.end());
  return refuse(sys::exec_program(again).message());
}

}  // namespace vellum::cli
