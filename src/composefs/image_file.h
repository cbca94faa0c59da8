// The file that holds an image: opened, identified, and brought into memory that cannot change.
//
// What nobody can change (fs-verity, a sealed memfd) is mapped, and shared by all mounts of it. Who serves it for long
// maps other files, too, under a lease if there can be one: whoever wants to write to the file then waits until it is
// copied. The rest is copied first. A server's mapping is guarded: a page that cannot be read is not its end.
// A digest is of the very bytes that are served: the kernel's word for a file with fs-verity, else computed here.
// Threads: plain values. Errors are lines for people, without the image's path.
#pragma once

#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "composefs/verity.h"
#include "erofs/image.h"
#include "sys/fault_guard.h"
#include "sys/fd.h"
#include "sys/lease.h"
#include "sys/mapping.h"
#include "sys/signals.h"

namespace vellum::composefs {

class ImageFile {
 public:
  // `expected`: the image must have that digest.
  static std::expected<std::unique_ptr<ImageFile>, std::string> load(sys::FdRef file,
                                                                     const std::optional<Digest>& expected);
  // The same for a server, before it makes threads: the file may stay mapped, and so open. If the bytes cannot be kept
  // from changing after all, the process gets SIGTERM.
  static std::expected<std::unique_ptr<ImageFile>, std::string> hold(sys::FdRef file,
                                                                     const std::optional<Digest>& expected);
  ~ImageFile();
  const erofs::Image& image() const { return *image_; }
  // All of the file, which its digest is of; held without a digest, no more than the image takes.
  std::span<const std::byte> bytes() const { return mapping_.bytes(); }
  // Of what is read there, if it is the file itself and held; else null.
  sys::FaultGuard* guard() const { return guard_.get(); }

 private:
  // While the file is mapped under a lease: waits for the signal that somebody wants to write to it.
  struct Held {
    sys::ReadLease lease;
    sys::SignalQueue asked;
    std::thread watcher;
  };

  ImageFile() = default;
  static std::expected<std::unique_ptr<ImageFile>, std::string> load(sys::FdRef file,
                                                                     const std::optional<Digest>& expected,
                                                                     bool serves);
  Status take_lease(sys::FdRef file);
  void watch();

  sys::FileMapping mapping_;
  std::unique_ptr<sys::FaultGuard> guard_;
  std::optional<erofs::Image> image_;
  std::optional<Held> held_;
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
