#include "support/backend.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

namespace vellum::test {
namespace {

constexpr std::array<std::pair<std::string_view, Backends>, 6> kNames{{{"vellum-root", kVellumRoot},
                                                                       {"vellum-userns", kVellumUserns},
                                                                       {"vellum-user", kVellumUser},
                                                                       {"kernel", kKernel},
                                                                       {"kernel-userns", kKernelUserns},
                                                                       {"peer", kPeer}}};
const std::pair<std::string_view, Backends>* chosen = nullptr;

using CasesByReason = std::map<std::string, std::vector<std::string>>;
CasesByReason& not_on() {
  static CasesByReason cases;
  return cases;
}

void print_to(std::FILE* out) {
  for (const auto& [reason, cases] : not_on()) {
    std::fprintf(out, "- not on %s: %s\n", std::string(backend_name()).c_str(), reason.c_str());
    for (const auto& name : cases) std::fprintf(out, "  - %s\n", name.c_str());
  }
}

}  // namespace

Backends current_backend() { return chosen->second; }
std::string_view backend_name() { return chosen->first; }

void choose_backend(std::string_view name) {
  for (const auto& entry : kNames) {
    if (entry.first == name) chosen = &entry;
  }
  if (chosen != nullptr) return;
  std::fprintf(stderr, "no backend named '%s'; there are:", std::string(name).c_str());
  for (const auto& entry : kNames) std::fprintf(stderr, " %s", std::string(entry.first).c_str());
  std::fprintf(stderr, "\n");
  std::exit(2);
}

bool excused(Backends backends) { return on(backends) && std::getenv("VELLUM_TEST_TRY_ALL") == nullptr; }

void note_not_on(std::string_view reason) {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  not_on()[std::string(reason)].push_back(std::string(info->test_suite_name()) + "." + info->name());
}

void print_not_on() {
  print_to(stdout);
  if (const char* path = std::getenv("VELLUM_TEST_NOT_ON_FILE"); path != nullptr) {
    if (std::FILE* out = std::fopen(path, "w"); out != nullptr) {
      print_to(out);
      std::fclose(out);
    }
  }
}

}  // namespace vellum::test
