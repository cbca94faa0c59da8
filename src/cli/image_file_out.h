// Where an image goes: a file or standard output. A file gets its name, and takes the place of an old one, when the
// image is complete and on the disk. It has the old one's mode, and its owner if we may give that.
//
// What is no file (a pipe, a device), and a file in a directory that takes no new ones, is written in place.
// Threads: one.
#pragma once

#include <cstddef>
#include <expected>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace vellum::cli {

class ImageFileOut {
 public:
  // "-": standard output. The error is a line for people.
  static std::expected<ImageFileOut, std::string> open(const std::string& path);
  ImageFileOut(ImageFileOut&&) noexcept = default;
  ~ImageFileOut();

  std::expected<void, std::string> write(std::span<const std::byte> image);

 private:
  ImageFileOut() = default;
  bool open_beside();
  Status put(std::span<const std::byte> image);
  void become_like_old();
  Status name();

  std::string path_;
  sys::UniqueFd file_;               // none: standard output
  std::string temporary_;            // a name of its own until it is complete
  bool nameless_ = false;            // or none
  std::optional<sys::Statx> old_{};  // what it takes the place of
};

}  // namespace vellum::cli
