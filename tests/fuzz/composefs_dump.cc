// A dump of any bytes gives a tree or a line that says why not. A tree makes an image or an errno, and that image is
// read back; as text it gives a tree again. Nothing takes more memory than the input accounts for.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "composefs/build.h"
#include "composefs/dump.h"
#include "composefs/load.h"
#include "erofs/image.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vellum;
  using namespace vellum::composefs;
  constexpr std::size_t kMost = 64 << 10;
  if (size > kMost) return 0;
  const std::string_view text(static_cast<const char*>(static_cast<const void*>(data)), size);
  ignore(parse_dump(text, {.strict = true}));
  const auto tree = parse_dump(text);
  if (!tree) return 0;
  std::string again;
  write_dump(*tree, [&](std::string_view piece) {
    again += piece;
    return true;
  });
  const auto image = build_image(*tree);
  if (!image) return 0;
  // Times of more than a second of nanoseconds are written as they came, and refused by the reader: a root's takes the
  // image with it.
  constexpr std::uint32_t kSecond = 1'000'000'000;
  const auto opened = erofs::Image::open(*image, {.report = nullptr});
  if (!opened && (*tree)[NodeId{0}].mtime_nsec < kSecond) std::abort();
  if (!opened) return 0;
  if (const auto loaded = load_tree(*opened); loaded && loaded->size() > tree->size()) std::abort();
  return 0;
}
