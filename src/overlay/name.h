// File names. A name is 1 to 255 bytes without '/' and NUL, neither "." nor "..": bytes, not text.
// CName is such a name as a C string on the stack, for system calls; NodeName owns one in as few bytes as it can.
// Threads: plain values.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <string_view>

namespace vellum::overlay {

constexpr std::size_t kNameMax = 255;

inline bool valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMax && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

class CName {
 public:
  explicit CName(std::string_view name) : CName("", name) {}
  CName(std::string_view prefix, std::string_view name) {
    std::size_t a = std::min(prefix.size(), bytes_.size() - 1);
    std::size_t b = std::min(name.size(), bytes_.size() - 1 - a);
    std::memcpy(bytes_.data(), prefix.data(), a);
    std::memcpy(bytes_.data() + a, name.data(), b);
    bytes_[a + b] = '\0';
  }
  const char* c_str() const { return bytes_.data(); }
  operator const char*() const { return bytes_.data(); }

 private:
  std::array<char, kNameMax + 17> bytes_;
};

class NodeName {
 public:
  NodeName() = default;
  explicit NodeName(std::string_view name) : bytes_(new char[name.size() + 2]) {
    bytes_[0] = static_cast<char>(static_cast<unsigned char>(name.size()));
    std::memcpy(bytes_.get() + 1, name.data(), name.size());
    bytes_[name.size() + 1] = '\0';
  }
  std::string_view view() const {
    return bytes_ ? std::string_view(bytes_.get() + 1, static_cast<unsigned char>(bytes_[0])) : std::string_view();
  }
  const char* c_str() const { return bytes_ ? bytes_.get() + 1 : ""; }
  bool empty() const { return bytes_ == nullptr; }

 private:
  std::unique_ptr<char[]> bytes_;  // length byte, the name, NUL
};

}  // namespace vellum::overlay
