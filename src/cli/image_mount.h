// From a command to a mounted image, in one of three ways:
//   the kernel alone     EROFS below overlayfs; nothing stays running. Needs CAP_SYS_ADMIN in the first user namespace
//   FUSE and overlayfs   we serve the metadata, the kernel's overlayfs finds the data; CAP_SYS_ADMIN in any namespace
//   standalone           we serve everything, and check objects ourselves where the kernel has no fs-verity
// Unless the user says which, the first that works is taken, and a line says why one did not.
// Threads: main() only.
#pragma once

#include <span>
#include <string>

#include "cli/image_mount_options.h"

namespace vellum::cli {

// With the words behind the program's name. The exit status.
int image_mount_main(const std::string& program, std::span<const std::string> arguments);
int mount_image(const std::string& program, const ImageMountCommand& command);

}  // namespace vellum::cli
