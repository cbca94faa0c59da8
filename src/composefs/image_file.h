// The file that holds an image: opened, identified, and brought into memory that cannot change.
//
// What nobody can change (fs-verity, a sealed memfd) is mapped, and shared by all mounts of it. Anything else is copied
// first: a mapped file that its owner cuts short would kill the server.
// A digest is of the very bytes that are served: the kernel's word for a file with fs-verity, else computed here.
// Threads: plain values. Errors are lines for people, without the image's path.
#pragma once

#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "composefs/verity.h"
#include "erofs/image.h"
#include "sys/fd.h"
#include "sys/mapping.h"

namespace vellum::composefs {

class ImageFile {
 public:
  // `expected`: the image must have that digest.
  static std::expected<std::unique_ptr<ImageFile>, std::string> load(sys::FdRef file,
                                                                     const std::optional<Digest>& expected);
  const erofs::Image& image() const { return *image_; }
  // All of the file: what its digest is of. image().bytes() ends where the image says that it ends.
  std::span<const std::byte> bytes() const { return mapping_.bytes(); }
  bool shared() const { return shared_; }  // mapped as it is

 private:
  ImageFile() = default;
  sys::FileMapping mapping_;
  std::optional<erofs::Image> image_;
  bool shared_ = false;
};

// What the kernel's own mount needs to know of an image, without reading it all.
struct ImageHeader {
  bool composefs = false;
  bool has_acl = false;
};
std::expected<ImageHeader, std::string> read_image_header(sys::FdRef file);

// Whether the kernel itself vouches for this digest of the file.
bool kernel_vouches(sys::FdRef file, const Digest& digest);
// Whether the file system behind a directory has fs-verity at all.
bool has_verity(sys::FdRef directory);

}  // namespace vellum::composefs
