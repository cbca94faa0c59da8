#include "cli/image_file_out.h"

#include <fmt/format.h>

#include <string_view>

#include "sys/file.h"
#include "sys/process.h"

namespace vellum::cli {
namespace {

constexpr sys::FdRef kStandardOutput(1);

}  // namespace

std::expected<ImageFileOut, std::string> ImageFileOut::open(const std::string& path) {
  ImageFileOut out;
  out.path_ = path;
  if (path == "-") {
    if (sys::is_terminal(kStandardOutput)) return std::unexpected("stdout is a tty.  Refusing to use it");
    out.standard_ = true;
    return out;
  }
  auto file = sys::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666);
  out.made_ = file.has_value();
  if (!file && file.error() == EEXIST) file = sys::open(path.c_str(), O_WRONLY | O_CREAT, 0666);
  if (!file) return std::unexpected(fmt::format("failed to open output file: {}", file.error().message()));
  out.file_ = std::move(*file);
  return out;
}

ImageFileOut::~ImageFileOut() {
  if (file_ && made_) ignore(sys::unlink(sys::FdRef(AT_FDCWD), path_.c_str()));
}

std::expected<void, std::string> ImageFileOut::write(std::span<const std::byte> image) {
  const auto failed = [](Errno error) {
    return std::unexpected(fmt::format("cannot write file: {}", error.message()));
  };
  if (!standard_) {
    // A pipe or a device cannot be cut, and need not be.
    const auto status = sys::statx(file_, "");
    if (status && status->is_regular())
      if (const Status cut = sys::truncate(file_, 0); !cut) return failed(cut.error());
  }
  const std::string_view text(static_cast<const char*>(static_cast<const void*>(image.data())), image.size());
  const Status written = sys::write_all(standard_ ? kStandardOutput : sys::FdRef(file_), text);
  if (!written) return failed(written.error());
  made_ = false;
  file_.reset();
  return {};
}

}  // namespace vellum::cli
