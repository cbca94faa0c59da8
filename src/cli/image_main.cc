#include "cli/image_main.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string_view>

#include "cli/command_line.h"
#include "cli/image_create.h"
#include "cli/image_listing.h"
#include "composefs/check.h"
#include "composefs/diff.h"
#include "composefs/dump.h"
#include "sys/file.h"
#include "sys/process.h"

namespace vellum::cli {
namespace {

int complain(std::string_view problem) {
  fmt::print(stderr, "vellum image: {}\n", problem);
  return 1;
}

int output_done(int status) { return finish_output() ? status : complain("cannot write: " + Errno::last().message()); }

struct Command {
  ImageCreate create;
  bool digest_only = false;
  std::vector<std::string> paths;
  std::vector<std::string> only;
  std::vector<std::string> basedirs;
  std::string digest;
  std::string algorithm = "sha256";
  unsigned block_size = 4096;
  unsigned threads = 0;
  bool json = false;
  bool quiet = false;
};

struct Counts {
  std::uint64_t directories = 0, files = 0, symlinks = 0, devices = 0, whiteouts = 0, others = 0, links = 0;
  std::uint64_t inline_files = 0, bytes = 0;
  std::set<std::string> objects;
};

Counts count(const composefs::Tree& tree) {
  Counts counts;
  for (std::uint32_t i = 0; i < tree.size(); ++i) {
    const composefs::Node& node = tree[composefs::NodeId{i}];
    if (node.link != composefs::kNoNode)
      ++counts.links;
    else if (node.is_dir())
      ++counts.directories;
    else if (node.is_symlink())
      ++counts.symlinks;
    else if (node.is_whiteout())
      ++counts.whiteouts;
    else if (node.is_device())
      ++counts.devices;
    else if (!node.is_regular())
      ++counts.others;
    else {
      ++counts.files;
      counts.bytes += node.size;
      if (node.content != nullptr) ++counts.inline_files;
    }
  }
  collect_objects(tree, counts.objects);
  return counts;
}

int show_info(const Command& command) {
  for (const std::string& path : command.paths) {
    const auto opened = read_image(path);
    if (!opened) return complain(opened.error());
    const erofs::Image& image = opened->file->image();
    const Counts counts = count(opened->tree);
    const std::string digest =
        composefs::digest_of_bytes(opened->file->bytes(), {}, composefs::default_threads()).hex();
    const std::uint32_t version = image.composefs()->composefs_version;
    if (command.json) {
      const nlohmann::ordered_json json = {
          {"image", path},
          {"version", version},
          {"digest", digest},
          {"size", opened->file->bytes().size()},
          {"inodes", image.inodes()},
          {"directories", counts.directories},
          {"files", counts.files},
          {"inline_files", counts.inline_files},
          {"symlinks", counts.symlinks},
          {"devices", counts.devices},
          {"whiteouts", counts.whiteouts},
          {"others", counts.others},
          {"hard_links", counts.links},
          {"objects", counts.objects.size()},
          {"content_bytes", counts.bytes},
      };
      // Paths may hold any byte; JSON may not.
      put(json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
      continue;
    }
    put(fmt::format("{}\n  version     {}\n  digest      {}\n  size        {} bytes, {} inodes\n", path, version,
                    digest, opened->file->bytes().size(), image.inodes()));
    put(fmt::format("  directories {}\n  files       {} ({} in the image), {} bytes\n  symlinks    {}\n",
                    counts.directories, counts.files, counts.inline_files, counts.bytes, counts.symlinks));
    put(fmt::format(
        "  others      {} devices, {} whiteouts, {} pipes and sockets, {} further names\n  objects     {}\n",
        counts.devices, counts.whiteouts, counts.others, counts.links, counts.objects.size()));
  }
  return output_done(0);
}

int show_trees(const Command& command, bool (*print)(const composefs::Tree&)) {
  for (const std::string& path : command.paths) {
    const auto opened = read_image(path, {.only = command.only});
    if (!opened) return complain(opened.error());
    if (!print(opened->tree)) break;
  }
  return output_done(0);
}

int show_differences(const Command& command) {
  const auto from = read_image(command.paths[0]);
  if (!from) return complain(from.error());
  const auto to = read_image(command.paths[1]);
  if (!to) return complain(to.error());
  bool differ = false;
  composefs::diff(from->tree, to->tree, [&](composefs::Change change, std::string_view path, std::string_view what) {
    differ = true;
    if (command.quiet) return;
    std::string line = change == composefs::Change::kAdded ? "+ " : change == composefs::Change::kRemoved ? "- " : "~ ";
    composefs::append_escaped(line, path, {.spaces_stay = true});
    if (!what.empty()) line.append(": ").append(what);
    put(line + "\n");
  });
  return output_done(differ ? 1 : 0);
}

std::string describe(const composefs::BadObject& bad) {
  std::string line;
  switch (bad.fault) {
    case composefs::Fault::kMissing: line = "missing    "; break;
    case composefs::Fault::kUnreadable: line = "unreadable "; break;
    case composefs::Fault::kSize: line = "truncated  "; break;
    case composefs::Fault::kDigest: line = "altered    "; break;
    case composefs::Fault::kNoDigest: line = "unchecked  "; break;
  }
  composefs::append_escaped(line, bad.object.empty() ? "(no object)" : bad.object, {.spaces_stay = true});
  line += "  (";
  composefs::append_escaped(line, bad.path, {.spaces_stay = true});
  line += ')';
  if (bad.fault == composefs::Fault::kNoDigest)
    line += ": the image has no digest of it";
  else if (!bad.detail.empty() && bad.fault != composefs::Fault::kMissing)
    line += ": " + bad.detail;
  return line + "\n";
}

int verify(const Command& command) {
  const auto opened = read_image(command.paths[0]);
  if (!opened) return complain(opened.error());
  if (!command.digest.empty()) {
    const auto expected = composefs::parse_digest(command.digest);
    if (!expected || expected->size != 32) return complain("--digest takes 64 hex digits");
    const auto found = composefs::digest_of_bytes(opened->file->bytes(), {}, composefs::default_threads());
    if (found != *expected)
      return complain(fmt::format("{}: digest expected {}, found {}", command.paths[0], expected->hex(), found.hex()));
  }
  std::vector<sys::UniqueFd> directories;
  for (const std::string& path : command.basedirs) {
    auto directory = sys::open(path.c_str(), O_PATH | O_DIRECTORY);
    if (!directory) return complain(fmt::format("{}: {}", path, directory.error().message()));
    directories.push_back(std::move(*directory));
  }
  const bool show_progress = !command.quiet && sys::is_terminal(sys::FdRef(2));
  auto last = std::chrono::steady_clock::now();
  composefs::CheckOptions options;
  options.threads = command.threads;
  options.bad = [&](const composefs::BadObject& bad) {
    if (show_progress) fmt::print(stderr, "\r\x1b[K");
    put(describe(bad));
  };
  options.progress = [&](const composefs::CheckCounts& done, std::uint64_t objects, std::uint64_t bytes) {
    const auto now = std::chrono::steady_clock::now();
    if (!show_progress || now - last < std::chrono::milliseconds(100)) return;
    last = now;
    fmt::print(stderr, "\r\x1b[K{}/{} objects, {}/{} MiB", done.objects, objects, done.bytes >> 20, bytes >> 20);
  };
  const composefs::CheckCounts counts = composefs::check_objects(opened->tree, directories, options);
  if (show_progress) fmt::print(stderr, "\r\x1b[K");
  if (!command.quiet) put(fmt::format("{} objects, {} bytes: {} bad\n", counts.objects, counts.bytes, counts.bad));
  return output_done(counts.bad == 0 ? 0 : 1);
}

int measure(const Command& command) {
  composefs::VerityFormat format;
  if (command.algorithm == "sha512") format.hash = composefs::Hash::kSha512;
  format.block_bits = command.block_size == 65536 ? 16 : 12;
  for (const std::string& path : command.paths) {
    const auto file = sys::open(path.c_str(), O_RDONLY);
    if (!file) return complain(fmt::format("{}: {}", path, file.error().message()));
    const unsigned threads = composefs::default_threads();
    const auto status = sys::statx(*file, "");
    if (!status) return complain(fmt::format("{}: {}", path, status.error().message()));
    // What the kernel says is only good for its usual block size.
    const auto digest = format.block_bits == 12 ? composefs::measure_digest(*file, format, threads)
                                                : composefs::compute_digest(*file, status->size, format, threads);
    if (!digest) return complain(fmt::format("{}: {}", path, digest.error().message()));
    put(command.paths.size() == 1 ? digest->hex() + "\n" : fmt::format("{}  {}\n", digest->hex(), path));
  }
  return output_done(0);
}

CLI::App* add_create(CLI::App& app, Command& command) {
  ImageCreate& create = command.create;
  CLI::App* sub = app.add_subcommand("create", "Make an image of a directory, or of a dump file");
  sub->add_option("SOURCE", create.source, "the directory, or with --from-dump the dump file (-: standard input)")
      ->required();
  sub->add_option("IMAGE", create.image, "the image (-: standard output)");
  sub->add_option("--digest-store", create.digest_store, "copy the content of files to this directory of objects");
  sub->add_flag("--from-dump", create.from_dump, "SOURCE is a dump file (composefs-dump(5))");
  sub->add_flag("--hard-links", create.scan.hard_links, "names of one file stay hard links (mkcomposefs drops them)");
  sub->add_flag("--use-epoch", create.scan.use_epoch, "all times become 0");
  sub->add_flag("--skip-devices", create.scan.skip_devices, "leave device nodes out");
  CLI::Option* none = sub->add_flag("--skip-xattrs", create.scan.skip_xattrs, "leave xattrs out");
  sub->add_flag("--user-xattrs", create.scan.user_xattrs, "leave xattrs out, except user.*")->excludes(none);
  sub->add_flag("--print-digest", create.print_digest, "print the image's digest");
  sub->add_flag("--digest-only", command.digest_only, "print the image's digest, and write no image");
  sub->add_option("--min-version", create.versions.least, "the lowest format version")->check(CLI::Range(0, 1));
  sub->add_option("--max-version", create.versions.most, "the highest format version")->check(CLI::Range(0, 1));
  sub->add_option("--threads", create.scan.threads, "how many threads read files")->check(CLI::Range(1, 4096));
  return sub;
}

int run_create(Command& command) {
  ImageCreate& create = command.create;
  if (create.image.empty() != command.digest_only)
    return complain(command.digest_only ? "--digest-only writes no IMAGE" : "IMAGE is missing (or --digest-only)");
  create.print_digest = create.print_digest || command.digest_only;
  create.versions.most = std::max(create.versions.least, create.versions.most);
  return create_image("vellum image", create);
}

}  // namespace

int image_main(const std::vector<std::string>& arguments) {
  Command command;
  CLI::App app("Images of file trees: small files that hold all metadata, beside a directory of objects",
               "vellum image");
  app.require_subcommand(1);
  app.footer("Mounting: vellum image mount --help");
  const CLI::App* create = add_create(app, command);
  CLI::App* info = app.add_subcommand("info", "What an image holds");
  CLI::App* ls = app.add_subcommand("ls", "The names in an image");
  CLI::App* dump = app.add_subcommand("dump", "An image as text (composefs-dump(5))");
  CLI::App* diff = app.add_subcommand("diff", "What changed from one image to another");
  CLI::App* check = app.add_subcommand("verify", "Check every object of an image");
  CLI::App* digest = app.add_subcommand("measure", "The fs-verity digest of files");
  app.add_subcommand("mount", "Mount an image (vellum image mount --help)");

  info->add_option("IMAGE", command.paths)->required();
  info->add_flag("--json", command.json, "as JSON");
  for (CLI::App* each : {ls, dump}) {
    each->add_option("IMAGE", command.paths)->required();
    each->add_option("--filter", command.only, "only this name at the top; may come several times")
        ->allow_extra_args(false);
  }
  diff->add_option("IMAGES", command.paths, "the older one, and the newer one")->required()->expected(2);
  diff->add_flag("-q,--quiet", command.quiet, "only the exit status");
  check->add_option("IMAGE", command.paths)->required()->expected(1);
  check->add_option("--basedir", command.basedirs, "the directory of objects; may come several times")
      ->required()
      ->allow_extra_args(false);
  check->add_option("--digest", command.digest, "what the image's own digest must be");
  check->add_option("--threads", command.threads, "how many threads read objects")->check(CLI::Range(1, 4096));
  check->add_flag("-q,--quiet", command.quiet, "no progress, no summary");
  digest->add_option("FILE", command.paths)->required();
  digest->add_option("--algorithm", command.algorithm, "sha256 or sha512")->check(CLI::IsMember({"sha256", "sha512"}));
  digest->add_option("--block-size", command.block_size, "4096 or 65536")->check(CLI::IsMember({4096, 65536}));

  if (const auto said = parse_words(app, arguments)) return *said;
  if (*create) return run_create(command);
  if (*info) return show_info(command);
  if (*ls) return show_trees(command, print_names);
  if (*dump) return show_trees(command, print_dump);
  if (*diff) return show_differences(command);
  if (*check) return verify(command);
  return measure(command);
}

}  // namespace vellum::cli
