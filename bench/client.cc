#include "client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <nlohmann/json.hpp>
#include <thread>

#include "files.h"
#include "stage.h"

namespace vellum::bench {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using Counts = std::map<std::string, double>;

constexpr const char* kEnvironmentPlace = "VELLUM_BENCH_ENVIRONMENT";
constexpr std::size_t kEnvironmentSize = 32768;

// All threads of each daemon, to the nanosecond.
double cpu_seconds(const std::vector<pid_t>& daemons) {
  double seconds = 0;
  for (const pid_t pid : daemons) {
    clockid_t clock{};
    timespec time{};
    if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &time) < 0) continue;
    seconds += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  }
  return seconds;
}

long peak_kib(const std::vector<pid_t>& daemons) {
  long sum = 0;
  for (const pid_t pid : daemons) {
    const std::string status = read_file(fmt::format("/proc/{}/status", pid));
    const std::size_t at = status.find("VmHWM:");
    if (at != std::string::npos) sum += std::atol(status.c_str() + at + 6);
  }
  return sum;
}

// From the virtual xattr of our mounts; nothing for others.
std::optional<Counts> requests_so_far(const std::string& mount) {
  std::string text(65536, '\0');
  const ssize_t size = ::getxattr(mount.c_str(), "system.vellum.stats", text.data(), text.size());
  if (size <= 0) return std::nullopt;
  const Json stats = Json::parse(text.substr(0, static_cast<std::size_t>(size)), nullptr, false);
  if (!stats.is_object() || !stats.contains("operations")) return std::nullopt;
  Counts counts;
  for (const auto& [operation, row] : stats["operations"].items()) counts[operation] = row.value("count", 0.0);
  return counts;
}

Counts operator-(const Counts& later, const Counts& earlier) {
  Counts difference;
  for (const auto& [operation, count] : later) {
    const auto before = earlier.find(operation);
    const double more = count - (before == earlier.end() ? 0 : before->second);
    if (more != 0) difference[operation] = more;
  }
  return difference;
}

double seconds_between(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double>(end - start).count();
}

// From the first thread's start to the last one's end.
double timed(const Loop& loop, unsigned threads, unsigned passes) {
  if (threads == 1) {
    const auto start = Clock::now();
    for (unsigned pass = 0; pass < passes; ++pass) loop.run(0, loop.steps);
    return seconds_between(start, Clock::now());
  }
  std::barrier ready(static_cast<std::ptrdiff_t>(threads));
  std::vector<std::exception_ptr> errors(threads);
  std::vector<Clock::time_point> starts(threads), ends(threads);
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      ready.arrive_and_wait();
      starts[i] = Clock::now();
      try {
        for (unsigned pass = 0; pass < passes; ++pass)
          loop.run(loop.steps * i / threads, loop.steps * (i + 1) / threads);
      } catch (...) {
        errors[i] = std::current_exception();
      }
      ends[i] = Clock::now();
    });
  }
  for (std::thread& thread : running) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return seconds_between(std::ranges::min(starts), std::ranges::max(ends));
}

Json client(const Workload& workload, const Scene& scene, unsigned threads, const std::vector<pid_t>& daemons,
            int ready_pipe) {
  const Loop loop = workload.prepare(scene);
  if (workload.traits.warm) loop.run(0, loop.steps);
  // What asking costs is seen by asking twice.
  const auto asked_once = daemons.empty() ? std::nullopt : requests_so_far(scene.mount);
  const auto before = asked_once ? requests_so_far(scene.mount) : std::nullopt;
  const double cpu_before = cpu_seconds(daemons);
  must(::write(ready_pipe, "r", 1), "write", "pipe");
  const double seconds = timed(loop, threads, workload.traits.passes);
  Json result{
      {"seconds", seconds}, {"ops", loop.ops * workload.traits.passes}, {"cpu", cpu_seconds(daemons) - cpu_before}};
  if (before) {
    if (const auto after = requests_so_far(scene.mount)) {
      result["requests"] = (*after - *before) - (*before - *asked_once);
    }
  }
  result["peak"] = peak_kib(daemons);
  return result;
}

// Makes this process, and what it starts, look as if it had been started with these: /proc/PID/environ shows what lies
// where the environment lay at the start, and there reserve_environment() keeps a place.
void show_environment(const std::vector<std::string>& variables) {
  char* place = ::secure_getenv(kEnvironmentPlace);
  ::unsetenv(kEnvironmentPlace);  // programs that are timed must not carry it
  if (variables.empty() || place == nullptr) return;
  const std::size_t size = std::strlen(place);
  std::string block;
  for (const std::string& variable : variables) block.append(variable).push_back('\0');
  if (block.size() > size) throw Failure("too many layers for the environment of a client");
  // The place's own name, and what is left of it, become a variable that nobody reads.
  std::memset(place, 'x', size);
  std::memcpy(place + size - block.size(), block.data(), block.size());
  place[size - block.size() - 1] = '\0';
  for (const std::string& variable : variables) {
    const std::size_t equals = variable.find('=');
    must(::setenv(variable.substr(0, equals).c_str(), variable.substr(equals + 1).c_str(), 1), "set", variable);
  }
}

// Waits for the pipe to have something to read, or to be closed.
bool readable(int fd, std::chrono::milliseconds time) {
  pollfd poll{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&poll, 1, static_cast<int>(time.count())) > 0;
}

}  // namespace

void reserve_environment(char** arguments) {
  if (::secure_getenv(kEnvironmentPlace) != nullptr) return;
  must(::setenv(kEnvironmentPlace, std::string(kEnvironmentSize, 'x').c_str(), 1), "set", kEnvironmentPlace);
  must(::execv("/proc/self/exe", arguments), "start", "/proc/self/exe");
}

Run run_client(const Workload& workload, const Scene& scene, unsigned threads, const Mounted& mounted,
               unsigned cap_seconds) {
  std::array<int, 2> pipe{};
  must(::pipe2(pipe.data(), O_CLOEXEC), "pipe", "");
  const pid_t child = static_cast<pid_t>(must(::fork(), "fork", ""));
  if (child == 0) {
    ::setpgid(0, 0);
    ::close(pipe[0]);
    std::string text;
    try {
      show_environment(mounted.environment());
      take_rights_of_client(scene.who);
      text = client(workload, scene, threads, mounted.daemons(), pipe[1]).dump();
    } catch (const std::exception& error) {
      text = Json{{"error", error.what()}}.dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    std::_Exit(::write(pipe[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(pipe[1]);

  Run run;
  std::string text;
  const auto read_some = [&](std::chrono::seconds time) {
    std::array<char, 65536> buffer{};
    if (!readable(pipe[0], time)) return false;
    const ssize_t got = ::read(pipe[0], buffer.data(), buffer.size());
    if (got > 0) text.append(buffer.data(), static_cast<std::size_t>(got));
    return got > 0;
  };
  // Preparing has a time of its own; the error of a preparation comes in place of the ready byte.
  const bool prepared = read_some(std::chrono::seconds(3 * cap_seconds));
  if (prepared && text == "r") read_some(std::chrono::seconds(cap_seconds));
  if (prepared && text.starts_with('r')) {
    text.erase(0, 1);
    if (text.empty()) run.too_long = true;
  } else if (!prepared) {
    run.error = "its preparation took too long";
  }
  ::kill(-child, SIGKILL);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  ::close(pipe[0]);
  if (run.too_long) run.seconds = cap_seconds;
  if (run.too_long || !run.error.empty()) return run;

  const Json result = Json::parse(text, nullptr, false);
  if (!result.is_object() || result.contains("error")) {
    run.error = result.is_object() ? result["error"].get<std::string>() : "the client died";
    return run;
  }
  run.seconds = result["seconds"];
  run.ops = result["ops"];
  run.daemon_cpu = result["cpu"];
  run.daemon_peak_kib = result["peak"];
  if (result.contains("requests")) run.requests = result["requests"].get<Counts>();
  return run;
}

void do_as_client(Who who, const std::function<void()>& act) {
  const pid_t child = static_cast<pid_t>(must(::fork(), "fork", ""));
  if (child == 0) {
    try {
      take_rights_of_client(who);
      act();
      std::_Exit(0);
    } catch (const std::exception& error) {
      fmt::print(stderr, "\n{}\n", error.what());
      std::_Exit(1);
    }
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) throw Failure("the preparation failed");
}

}  // namespace vellum::bench
