#include "views/markers.h"

#include <fmt/format.h>

namespace vellum::views {
namespace {

constexpr std::size_t kLongest = 32 * 4096;  // MAX_ARG_STRLEN

}  // namespace

std::string default_work_dir(std::string_view upper) {
  while (upper.ends_with('/')) upper.remove_suffix(1);
  const auto slash = upper.rfind('/');
  if (slash == std::string_view::npos) return "";
  return fmt::format("{}/.{}.vellum-work", upper.substr(0, slash), upper.substr(slash + 1));
}

std::vector<std::string> split_layers(std::string_view text) {
  std::vector<std::string> layers;
  std::string layer;
  for (std::size_t at = 0; at <= text.size(); ++at) {
    if (at == text.size() || text[at] == ':') {
      if (!layer.empty()) layers.push_back(std::move(layer));
      layer.clear();
    } else {
      if (text[at] == '\\' && at + 1 < text.size()) ++at;
      layer += text[at];
    }
  }
  return layers;
}

std::string join_layers(const std::vector<std::string>& layers) {
  std::string text;
  for (const std::string& layer : layers) {
    if (!text.empty()) text += ':';
    for (const char c : layer) {
      if (c == ':' || c == '\\') text += '\\';
      text += c;
    }
  }
  return text;
}

bool is_environment(std::string_view text) {
  return text.empty() || text.substr(0, text.find('\0')).find('=') != std::string_view::npos;
}

std::optional<Markers> parse_markers(std::string_view environment, std::string_view prefix) {
  Markers markers;
  while (!environment.empty()) {
    const auto end = std::min(environment.find('\0'), environment.size());
    std::string_view variable = environment.substr(0, end);
    environment.remove_prefix(std::min(end + 1, environment.size()));
    if (!variable.starts_with(prefix)) continue;
    variable.remove_prefix(prefix.size());
    const auto value = [&variable](std::string_view name) -> std::optional<std::string_view> {
      return variable.starts_with(name) ? std::optional(variable.substr(name.size())) : std::nullopt;
    };
    if (variable.size() > kLongest) {
      markers.too_long |= value("_LOWER=") || value("_UPPER=") || value("_WORK=");
      continue;
    }
    // Where a name is there twice, getenv(3) finds the first.
    if (auto lowers = value("_LOWER="); lowers && markers.lowers.empty()) markers.lowers = split_layers(*lowers);
    if (auto upper = value("_UPPER="); upper && markers.upper.empty()) markers.upper = *upper;
    if (auto work = value("_WORK="); work && markers.work.empty()) markers.work = *work;
  }
  if (markers.lowers.empty() && markers.upper.empty() && !markers.too_long) return std::nullopt;
  return markers;
}

}  // namespace vellum::views
