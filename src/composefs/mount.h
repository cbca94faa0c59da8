// The kernel's part of mounting an image: EROFS from a file, overlayfs over metadata and object directories. Both make
// detached mounts, which attach() puts in place; layers need never be seen anywhere.
//
// Older kernels take less: layers by path only (before 6.15: the layer is attached to a temporary directory for as
// long as it takes), EROFS from a block device only (before 6.12: a loop device).
// Threads: plain functions. Errors carry a line for people, with the kernel's own words where it said some.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "base/result.h"
#include "composefs/objects.h"
#include "sys/fd.h"
#include "sys/mount_api.h"

namespace vellum::composefs {

struct KernelMountError {
  Errno error;
  std::string message;
};
using KernelMount = std::expected<sys::UniqueFd, KernelMountError>;

struct ErofsMount {
  sys::FdRef image;
  bool acl = true;
  sys::MountFlags flags;      // and read-only
  sys::FdRef user_namespace;  // owners are shown as it maps them; none: as they are
};
KernelMount mount_erofs(const ErofsMount& what);

// A new FUSE file system on this device, shown as type fuse.SUBTYPE.
KernelMount mount_fuse(sys::FdRef device, const std::string& subtype, bool allow_other);

struct OverlayMount {
  sys::FdRef metadata;                                  // a detached mount
  const std::vector<sys::UniqueFd>* objects = nullptr;  // directories
  sys::FdRef upper, work;                               // directories: both, or none
  // The layers speak user.overlay.*: what a user namespace may mount. Else trusted.overlay.*.
  bool userxattr = false;
  Verify verify = Verify::kNo;  // by the kernel, which knows fs-verity only
  sys::MountFlags flags;
};
KernelMount mount_overlay(const OverlayMount& what);

}  // namespace vellum::composefs
