// `vellum image COMMAND`: making images and looking into them. (Mounting them is image_mount.h.)
// Exit status: 0; 1 for an error, a difference (diff), or an object that is not as it must be (verify).
// Threads: main() only.
#pragma once

#include <string>
#include <vector>

namespace vellum::cli {

// The words behind "image".
int image_main(const std::vector<std::string>& arguments);

}  // namespace vellum::cli
