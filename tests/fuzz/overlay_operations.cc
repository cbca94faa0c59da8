// Operations on an overlay of a tiny tree, through Client and Session: nothing may crash, stay counted or stay open,
// and workdir must end empty. The first byte chooses the options.
//
// Never drive the engine here without the Session: its decoder and the engine's own check both refuse names with a
// slash, and a fuzzer that runs as root should not depend on one of the two.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "fuzz/fuse_drive.h"
#include "overlay/overlay.h"

namespace {

namespace fs = std::filesystem;
using vellum::overlay::Options;
using vellum::overlay::Overlay;

// The layers; lower ones are made once, upper and workdir anew for each input.
class Layers {
 public:
  Layers() {
    root_ = fs::exists("/dev/shm") ? "/dev/shm/vellum-fuzz-XXXXXX" : "/tmp/vellum-fuzz-XXXXXX";
    if (::mkdtemp(root_.data()) == nullptr) std::abort();
    for (const char* layer : {"/plain", "/linked", "/low"}) {
      fs::create_directories(root_ + layer + "/dir/b/c");
      for (const char* name : {"/a", "/dir/a", "/dir/b/a", "/dir/b/c/a"}) {
        std::ofstream(root_ + layer + name) << std::string(5000, 'x') << layer << name;
      }
      fs::create_symlink("a", root_ + layer + "/c");
    }
    fs::create_hard_link(root_ + "/linked/a", root_ + "/linked/b");
    fs::create_hard_link(root_ + "/linked/a", root_ + "/linked/dir/c");
    std::ofstream(root_ + "/linked/dir/.wh..wh..opq") << "";
    std::ofstream(root_ + "/plain/.wh.c") << "";
    fs::remove(root_ + "/plain/c");
  }
  ~Layers() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  Layers(const Layers&) = delete;
  Layers& operator=(const Layers&) = delete;

  Options fresh(bool linked) const {
    for (const char* name : {"/upper", "/work"}) {
      fs::remove_all(root_ + name);
      fs::create_directory(root_ + name);
    }
    Options options;
    options.lower_dirs = {root_ + (linked ? "/linked" : "/plain"), root_ + "/low"};
    options.upper_dir = root_ + "/upper";
    options.work_dir = root_ + "/work";
    options.fsync = false;
    return options;
  }
  bool work_is_empty() const { return fs::is_empty(root_ + "/work/work"); }

 private:
  std::string root_;
};

void check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Layers layers;
  const unsigned choice = size > 0 ? data[0] : 0;
  const bool linked = (choice & 1U) != 0;
  Options options = layers.fresh(linked);
  constexpr vellum::overlay::WhiteoutStyle kStyles[] = {
      vellum::overlay::WhiteoutStyle::kAuto, vellum::overlay::WhiteoutStyle::kDevice,
      vellum::overlay::WhiteoutStyle::kDotWh, vellum::overlay::WhiteoutStyle::kXattr};
  options.whiteouts = kStyles[(choice >> 1) & 3U];
  constexpr vellum::overlay::RedirectDir kRedirects[] = {
      vellum::overlay::RedirectDir::kOff, vellum::overlay::RedirectDir::kOn, vellum::overlay::RedirectDir::kCopy,
      vellum::overlay::RedirectDir::kOn};
  options.redirect_dir = kRedirects[(choice >> 3) & 3U];
  options.metacopy = (choice & 32U) != 0;
  if ((choice & 64U) != 0) options.xattr_permissions = vellum::overlay::XattrPermissions::kContainers;

  auto overlay = Overlay::create(options);
  check(overlay.has_value());
  vellum::fuzz::drive_through_client(**overlay, std::as_bytes(std::span(data, size)));
  const auto stats = (*overlay)->stats();
  check(stats.open_handles == 0);
  // A lower file with several links keeps its node for the life of the mount.
  check(linked || stats.nodes == 1);
  (*overlay)->destroy();
  check(layers.work_is_empty());
  return 0;
}
