#include "cli/image_create.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <vector>

#include "cli/image_file_out.h"
#include "composefs/dump.h"
#include "sys/file.h"
#include "sys/process.h"

namespace vellum::cli {
namespace {

std::expected<composefs::Tree, std::string> tree_of_dump(const std::string& path) {
  sys::UniqueFd file;
  sys::FdRef source(0);
  if (path != "-") {
    auto opened = sys::open(path.c_str(), O_RDONLY);
    if (!opened) return std::unexpected(fmt::format("open `{}`: {}", path, opened.error().message()));
    file = std::move(*opened);
    source = file;
  }
  return composefs::read_dump([source](std::span<std::byte> buffer) { return sys::read_some(source, buffer); },
                              {.strict = std::getenv("CFS_PARSE_STRICT") != nullptr});
}

std::expected<composefs::Tree, std::string> tree_of_directory(const ImageCreate& what) {
  composefs::ScanOptions options = what.scan;
  std::optional<composefs::Store> store;
  if (!what.digest_store.empty()) {
    auto opened = composefs::Store::open(what.digest_store);
    if (!opened)
      return std::unexpected(fmt::format("cannot fill store: {}: {}", what.digest_store, opened.error().message()));
    store.emplace(std::move(*opened));
    options.store = &*store;
  }
  return composefs::scan(what.source, options);
}

std::expected<void, std::string> create(const ImageCreate& what) {
  sys::raise_open_file_limit();  // every thread holds many new objects open until they are synced
  std::optional<ImageFileOut> out;
  if (!what.image.empty()) {
    auto opened = ImageFileOut::open(what.image);
    if (!opened) return std::unexpected(opened.error());
    out.emplace(std::move(*opened));
  }
  const auto tree = what.from_dump ? tree_of_dump(what.source) : tree_of_directory(what);
  if (!tree) return std::unexpected(tree.error());
  const auto image = composefs::build_image(*tree, what.versions);
  if (!image) return std::unexpected(fmt::format("cannot write file: {}", image.error().message()));
  if (out)
    if (auto written = out->write(*image); !written) return written;
  if (!what.print_digest) return {};
  const unsigned threads = what.scan.threads > 0 ? what.scan.threads : composefs::default_threads();
  fmt::print("{}\n", composefs::digest_of_bytes(*image, {}, threads).hex());
  if (std::fflush(stdout) != 0) return std::unexpected(fmt::format("cannot write: {}", Errno::last().message()));
  return {};
}

}  // namespace

int create_image(const std::string& program, const ImageCreate& what) {
  const auto done = create(what);
  if (done) return 0;
  fmt::print(stderr, "{}: {}\n", program, done.error());
  return 1;
}

}  // namespace vellum::cli
