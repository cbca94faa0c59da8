#include "base/result.h"

#include <cstring>

namespace vellum {

std::string Errno::message() const {
  std::string text = ::strerrordesc_np(value_) != nullptr ? ::strerrordesc_np(value_) : "Unknown error";
  if (const char* name = ::strerrorname_np(value_)) return text + " (" + name + ")";
  return text + " (" + std::to_string(value_) + ")";
}

}  // namespace vellum
