#include "cli/image_file_out.h"

#include <fmt/format.h>

#include <filesystem>
#include <random>
#include <string_view>

#include "sys/file.h"
#include "sys/mount_calls.h"
#include "sys/process.h"

namespace vellum::cli {
namespace {

constexpr sys::FdRef kStandardOutput(1), kHere(AT_FDCWD);

}  // namespace

std::expected<ImageFileOut, std::string> ImageFileOut::open(const std::string& path) {
  ImageFileOut out;
  out.path_ = path;
  if (path == "-") {
    if (sys::is_terminal(kStandardOutput)) return std::unexpected("stdout is a tty.  Refusing to use it");
    out.standard_ = true;
    return out;
  }
  // Through a symlink to what it stands for, which is replaced.
  if (const auto real = sys::real_path(path)) out.path_ = *real;
  const auto there = sys::statx_path(out.path_.c_str());
  if (!there || there->is_regular()) {
    const std::string parent = std::filesystem::path(out.path_).parent_path();
    auto fresh = sys::openat(kHere, parent.empty() ? "." : parent.c_str(), O_TMPFILE | O_WRONLY, 0666);
    out.nameless_ = fresh.has_value();
    if (fresh) out.file_ = std::move(*fresh);
  }
  if (!out.nameless_) {
    auto file = sys::open(out.path_.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666);
    out.made_ = file.has_value();
    if (!file && file.error() == EEXIST) file = sys::open(out.path_.c_str(), O_WRONLY, 0666);
    if (!file) return std::unexpected(fmt::format("failed to open output file: {}", file.error().message()));
    out.file_ = std::move(*file);
  }
  return out;
}

ImageFileOut::~ImageFileOut() {
  if (file_ && made_) ignore(sys::unlink(kHere, path_.c_str()));
}

// A name cannot be given over an old one in one step, but a rename goes over it.
Status ImageFileOut::name() {
  if (sys::link_fd(file_, kHere, path_.c_str())) return {};
  const std::string temporary = fmt::format("{}.tmp{:x}", path_, std::random_device()());
  TRY(sys::link_fd(file_, kHere, temporary.c_str()));
  const Status renamed = sys::rename(kHere, temporary.c_str(), kHere, path_.c_str());
  if (!renamed) ignore(sys::unlink(kHere, temporary.c_str()));
  return renamed;
}

std::expected<void, std::string> ImageFileOut::write(std::span<const std::byte> image) {
  const auto failed = [](Errno error) {
    return std::unexpected(fmt::format("cannot write file: {}", error.message()));
  };
  if (!standard_ && !nameless_) {
    // A pipe or a device cannot be cut, and need not be.
    const auto status = sys::statx(file_, "");
    if (status && status->is_regular())
      if (const Status cut = sys::truncate(file_, 0); !cut) return failed(cut.error());
  }
  const std::string_view text(static_cast<const char*>(static_cast<const void*>(image.data())), image.size());
  const Status written = sys::write_all(standard_ ? kStandardOutput : sys::FdRef(file_), text);
  if (!written) return failed(written.error());
  if (nameless_)
    if (const Status named = name(); !named) return failed(named.error());
  made_ = false;
  file_.reset();
  return {};
}

}  // namespace vellum::cli
