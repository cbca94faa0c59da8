#include "cli/version.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <memory>

#include "fuse/abi.h"

namespace vellum::cli {
namespace {

constexpr const char* kPeerVersion = "1.17";

// The first line that `fusermount3 --version` prints, without its newline.
std::string fusermount_version() {
  struct Close {
    // Its exit status says nothing that an empty answer does not.
    void operator()(std::FILE* pipe) const { ::pclose(pipe); }
  };
  const std::unique_ptr<std::FILE, Close> pipe(::popen("fusermount3 --version 2>/dev/null", "re"));
  std::array<char, 256> line{};
  if (!pipe || std::fgets(line.data(), static_cast<int>(line.size()), pipe.get()) == nullptr) {
    return "fusermount3: not found (only mounts by plain users need it)";
  }
  std::string text(line.data());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

std::string vellum_version() { return VELLUM_VERSION; }

std::string overlay_version_text() {
  return fmt::format("fuse-overlayfs: version {} (vellum {})\n{}\nusing FUSE kernel interface version 7.{}\n",
                     kPeerVersion, vellum_version(), fusermount_version(), fuse::abi::kNewestMinor);
}

}  // namespace vellum::cli
