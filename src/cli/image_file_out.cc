#include "cli/image_file_out.h"

#include <fmt/format.h>

#include <filesystem>
#include <random>
#include <string_view>
#include <utility>

#include "sys/mount_calls.h"
#include "sys/process.h"

namespace vellum::cli {
namespace {

constexpr sys::FdRef kStandardOutput(1), kHere(AT_FDCWD);
constexpr mode_t kNew = 0666, kPrivate = 0600;
constexpr std::uint32_t kLeave = ~0U;

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent;
}

// As short as to fit wherever the path itself does.
std::string temporary_beside(const std::string& path) {
  return fmt::format("{}/.tmp{:x}", directory_of(path), std::random_device()());
}

}  // namespace

std::expected<ImageFileOut, std::string> ImageFileOut::open(const std::string& path) {
  ImageFileOut out;
  out.path_ = path;
  if (path == "-") {
    if (sys::is_terminal(kStandardOutput)) return std::unexpected("stdout is a tty.  Refusing to use it");
    return out;
  }
  // Through a symlink to what it stands for, which is replaced.
  if (const auto real = sys::real_path(path)) out.path_ = *real;
  const auto there = sys::statx_path(out.path_.c_str());
  if (there) out.old_ = *there;
  if ((!there || there->is_regular()) && out.open_beside()) return out;
  auto file = sys::open(out.path_.c_str(), there ? O_WRONLY : O_WRONLY | O_CREAT, kNew);
  if (!file) return std::unexpected(fmt::format("failed to open output file: {}", file.error().message()));
  out.file_ = std::move(*file);
  return out;
}

// A new file in the same directory, without a name where the file system has such.
bool ImageFileOut::open_beside() {
  const mode_t mode = old_ ? kPrivate : kNew;
  auto fresh = sys::openat(kHere, directory_of(path_).c_str(), O_TMPFILE | O_WRONLY, mode);
  nameless_ = fresh.has_value();
  if (!fresh) {
    std::string name = temporary_beside(path_);
    fresh = sys::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL, mode);
    if (!fresh) return false;
    temporary_ = std::move(name);
  }
  file_ = std::move(*fresh);
  return true;
}

ImageFileOut::~ImageFileOut() {
  if (file_ && !temporary_.empty()) ignore(sys::unlink(kHere, temporary_.c_str()));
}

// Nobody gets to read it who could not read the old one.
void ImageFileOut::become_like_old() {
  mode_t mode = old_->mode & 0777;
  if (!sys::chown(file_, "", old_->uid, old_->gid) && !sys::chown(file_, "", kLeave, old_->gid)) {
    const auto now = sys::statx(file_, "");
    const mode_t others = mode & 07;
    if (!now || now->gid != old_->gid) mode &= 0700 | others << 3 | others;
  }
  ignore(sys::chmod(file_, "", mode));  // or it stays private
}

// A name cannot be given over an old one in one step, but a rename goes over it.
Status ImageFileOut::name() {
  if (nameless_ && sys::link_fd(file_, kHere, path_.c_str())) return {};
  if (nameless_) {
    std::string name = temporary_beside(path_);
    TRY(sys::link_fd(file_, kHere, name.c_str()));
    temporary_ = std::move(name);
  }
  TRY(sys::rename(kHere, temporary_.c_str(), kHere, path_.c_str()));
  temporary_.clear();
  return {};
}

Status ImageFileOut::put(std::span<const std::byte> image) {
  const sys::FdRef to = file_ ? sys::FdRef(file_) : kStandardOutput;
  const bool beside = nameless_ || !temporary_.empty();
  // A pipe or a device cannot be cut, and need not be.
  const bool regular = file_ && TRY(sys::statx(file_, "")).is_regular();
  if (regular && !beside) TRY(sys::truncate(to, 0));
  TRY(sys::write_all(to, {static_cast<const char*>(static_cast<const void*>(image.data())), image.size()}));
  if (beside && old_) become_like_old();
  // What comes to nothing only later (a full disk of another machine) is told now, before the old image goes.
  if (regular) TRY(sys::fsync(to));
  return beside ? name() : Status();
}

std::expected<void, std::string> ImageFileOut::write(std::span<const std::byte> image) {
  if (const Status written = put(image); !written)
    return std::unexpected(fmt::format("cannot write file: {}", written.error().message()));
  file_.reset();
  return {};
}

}  // namespace vellum::cli
