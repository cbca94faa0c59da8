// A tree from code to an image and back: composefs_example prints its dump and its digest.
#include <cstdio>
#include <string>

#include "vellum/composefs.h"

int main() {
  using namespace vellum::composefs;
  Tree tree;
  tree[tree.add(kNoNode, "")].mode = 040755;
  const NodeId hello = tree.add(kRoot, "hello");
  tree[hello].mode = 0100644;
  tree.set_content(tree[hello], "hello, world\n");
  tree.set_xattrs(hello, {{tree.intern_xattr("user.language", "en")}});
  const NodeId link = tree.add(kRoot, "a-link");
  tree[link].mode = 0120777;
  tree[link].payload = tree.keep("hello");
  tree[link].size = tree[link].payload.size();
  if (const auto finished = tree.finish(); !finished) {
    std::fprintf(stderr, "%s\n", finished.error().c_str());
    return 1;
  }

  const auto bytes = build_image(tree);
  if (!bytes) return 1;
  const auto image = vellum::erofs::Image::open(*bytes);
  if (!image) return 1;
  const auto again = load_tree(*image);
  if (!again) return 1;
  write_dump(*again,
             [](std::string_view text) { return std::fwrite(text.data(), 1, text.size(), stdout) == text.size(); });
  std::puts(digest_of_bytes(*bytes).hex().c_str());
  return 0;
}
