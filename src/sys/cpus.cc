#include "sys/cpus.h"

#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace vellum::sys {
namespace {

Result<std::vector<unsigned>> read_cpu_list(const char* path) {
  std::FILE* const file = std::fopen(path, "re");
  if (file == nullptr) return fail_errno();
  char line[4096];
  const bool read = std::fgets(line, sizeof line, file) != nullptr;
  std::fclose(file);
  if (!read) return fail(ENOENT);
  return parse_cpu_list(line);
}

}  // namespace

Result<std::vector<unsigned>> parse_cpu_list(const char* text) {
  constexpr unsigned long kMost = 65535;  // a queue's number has 16 bits
  std::vector<unsigned> cpus;
  const char* at = text;
  while (true) {
    char* end = nullptr;
    if (*at < '0' || *at > '9') return fail(EINVAL);
    const unsigned long first = std::strtoul(at, &end, 10);
    unsigned long last = first;
    at = end;
    if (*at == '-') {
      if (at[1] < '0' || at[1] > '9') return fail(EINVAL);
      last = std::strtoul(at + 1, &end, 10);
      at = end;
    }
    if (first > last || last > kMost) return fail(EINVAL);
    for (unsigned long cpu = first; cpu <= last; ++cpu) cpus.push_back(static_cast<unsigned>(cpu));
    if (*at == '\n' || *at == '\0') return cpus;
    if (*at != ',') return fail(EINVAL);
    ++at;
  }
}

Result<unsigned> possible_cpus() {
  const auto cpus = TRY(read_cpu_list("/sys/devices/system/cpu/possible"));
  // The kernel's number of queues is the count; a hole in the list would leave numbers above it.
  if (cpus.back() + 1 != cpus.size()) return fail(EINVAL);
  return static_cast<unsigned>(cpus.size());
}

Result<std::vector<unsigned>> online_cpus() { return read_cpu_list("/sys/devices/system/cpu/online"); }

unsigned allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // More CPUs than the set has room for: the call fails; some parallelism is better than none.
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? static_cast<unsigned>(count) : 1;
}

Status stay_on_cpu(unsigned cpu) {
  const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(cpu + 1), [](cpu_set_t* s) { CPU_FREE(s); });
  if (!set) return fail(ENOMEM);
  const std::size_t size = CPU_ALLOC_SIZE(cpu + 1);
  CPU_ZERO_S(size, set.get());
  CPU_SET_S(cpu, size, set.get());
  if (::sched_setaffinity(0, size, set.get()) != 0) return fail_errno();
  return {};
}

}  // namespace vellum::sys
