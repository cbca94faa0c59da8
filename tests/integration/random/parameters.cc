#include "parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>

#include "mounts.h"

namespace vellum::random_test {
namespace {

Parameters current;

bool set(const std::string& name, const std::string& value) {
  if (name == "seed")
    current.seed = std::strtoull(value.c_str(), nullptr, 0);
  else if (name == "sequences")
    current.sequences = std::strtoull(value.c_str(), nullptr, 0);
  else if (name == "ops")
    current.ops = std::strtoull(value.c_str(), nullptr, 0);
  else if (name == "seconds")
    current.seconds = std::strtod(value.c_str(), nullptr);
  else if (name == "backend") {
    const std::optional<Backend> backend = parse_backend(value);
    if (!backend) return false;
    set_tested_backend(*backend);
  } else {
    return false;
  }
  return true;
}

std::string upper_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

}  // namespace

const Parameters& parameters() { return current; }

bool parse_parameters(int argc, char** argv) {
  current.seed = std::random_device{}();
  for (const std::string name : {"seed", "sequences", "ops", "seconds", "backend"})
    if (const char* value = std::getenv(("VELLUM_TEST_" + upper_case(name)).c_str())) set(name, value);
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name.starts_with("--")) name.erase(0, 2);
    std::string value;
    if (const auto equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (i + 1 < argc) {
      value = argv[++i];
    }
    if (!set(name, value)) {
      fmt::print(stderr, "unknown argument or value: --{} {}\n", name, value);
      return false;
    }
  }
  if (const char* shorter = std::getenv("VELLUM_TEST_SHORTER")) current.seconds /= std::strtod(shorter, nullptr);
  return true;
}

}  // namespace vellum::random_test
