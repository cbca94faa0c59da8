#include "cli/image_listing.h"

#include <fmt/format.h>

#include <cstdio>

#include "composefs/dump.h"
#include "sys/file.h"

namespace vellum::cli {

std::expected<std::unique_ptr<composefs::ImageFile>, std::string> open_image(const std::string& path) {
  const auto file = sys::open(path.c_str(), O_RDONLY);
  if (!file) return std::unexpected(fmt::format("Failed to open '{}': {}", path, file.error().message()));
  auto loaded = composefs::ImageFile::load(*file, std::nullopt);
  if (!loaded) return std::unexpected(fmt::format("Failed to load '{}': {}", path, loaded.error()));
  if (!(*loaded)->image().composefs())
    return std::unexpected(fmt::format("Failed to load '{}': it is no image of composefs", path));
  return loaded;
}

std::expected<OpenedImage, std::string> read_image(const std::string& path, const composefs::LoadOptions& options) {
  auto file = open_image(path);
  if (!file) return std::unexpected(file.error());
  auto tree = composefs::load_tree((*file)->image(), options);
  if (!tree) return std::unexpected(fmt::format("Failed to load '{}': {}", path, tree.error()));
  return OpenedImage{.file = std::move(*file), .tree = std::move(*tree)};
}

bool put(std::string_view text) { return std::fwrite(text.data(), 1, text.size(), stdout) == text.size(); }
bool finish_output() { return std::fflush(stdout) == 0 && std::ferror(stdout) == 0; }

bool print_names(const composefs::Tree& tree) {
  constexpr std::size_t kPiece = 64 * 1024;
  std::string text;
  bool going = true;
  composefs::walk(tree, [&](composefs::NodeId id, std::string_view path) {
    if (path.empty() || !going) return;
    const composefs::Node& node = tree[id];
    composefs::append_escaped(text, path, {.spaces_stay = true});
    if (node.link != composefs::kNoNode) {
      // Further names stand alone.
    } else if (node.is_dir()) {
      text += "/\t";
    } else if (node.is_symlink()) {
      text += "\t-> ";
      composefs::append_escaped(text, node.payload);
    } else if (node.is_regular() && node.has_payload()) {
      text += "\t@ ";
      composefs::append_escaped(text, node.payload);
    }
    text += '\n';
    if (text.size() < kPiece) return;
    going = put(text);
    text.clear();
  });
  return going && put(text);
}

bool print_dump(const composefs::Tree& tree) {
  return composefs::write_dump(tree, [](std::string_view text) { return put(text); });
}

void collect_objects(const composefs::Tree& tree, std::set<std::string>& objects) {
  for (std::uint32_t i = 0; i < tree.size(); ++i) {
    const composefs::Node& node = tree[composefs::NodeId{i}];
    if (node.link == composefs::kNoNode && node.is_regular() && node.has_payload()) objects.emplace(node.payload);
  }
}

}  // namespace vellum::cli
