// Where an image goes: a file or standard output. Nothing is written before there is a whole image; a file that was
// made for an image that came to nothing is taken away again. Threads: one.
#pragma once

#include <cstddef>
#include <expected>
#include <span>
#include <string>

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
  std::string path_;
  sys::UniqueFd file_;
  bool made_ = false, standard_ = false;
};

}  // namespace vellum::cli
