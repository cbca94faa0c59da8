// Where an image goes: a file or standard output. A file has no name, and an old one of its name stays, before the
// image is complete; only where the directory takes no nameless files (and for devices and pipes) it is written in
// place. Threads: one.
#pragma once

#include <cstddef>
#include <expected>
#include <span>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

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
  Status name();
  std::string path_;
  sys::UniqueFd file_;
  bool made_ = false, standard_ = false, nameless_ = false;
};

}  // namespace vellum::cli
