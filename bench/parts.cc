#include "parts.h"

#include <fmt/format.h>
#include <unistd.h>

#include "files.h"

namespace vellum::bench {
namespace {

constexpr unsigned kHeaders = 200;

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

void make_tree(const std::vector<std::string>& roots, const Sizes& sizes) {
  for (const std::string& root : roots) {
    for (unsigned i = 0; i < sizes.directories; ++i) make_dirs(root + "/" + tree_dir(i));
  }
  for (unsigned i = 0; i < sizes.files; ++i) {
    std::string content = fmt::format("file {}\n", i);
    content.resize(sizes.file_bytes, 'x');
    write_file(roots[i % roots.size()] + "/" + tree_file(sizes, i), content);
  }
}

void make_many(const std::vector<std::string>& roots, const Sizes& sizes) {
  for (const std::string& root : roots) make_dirs(root + "/many");
  for (unsigned i = 0; i < sizes.many; ++i) {
    write_file(fmt::format("{}/many/name-{:07}", roots[i % roots.size()], i), "");
  }
}

void make_sources(const std::string& root) {
  make_dirs(root + "/src/include");
  std::string all;
  for (unsigned i = 0; i < kHeaders; ++i) {
    write_file(fmt::format("{}/src/include/h{:03}.h", root, i),
               fmt::format("#pragma once\ninline int f{0}(int x) {{ return x + {0}; }}\n", i));
    all += fmt::format("#include \"h{:03}.h\"\n", i);
  }
  write_file(root + "/src/main.cc", all + "int main() { return f1(0) - 1; }\n");
}

}  // namespace

std::string tree_dir(unsigned i) { return fmt::format("tree/d{:03}", i); }

std::string tree_file(const Sizes& sizes, unsigned i) {
  const unsigned per_dir = (sizes.files + sizes.directories - 1) / sizes.directories;
  return fmt::format("{}/f{:07}", tree_dir(i / per_dir), i);
}

void make_repo_seed(const Seeds& seeds, const Sizes& sizes) {
  const std::string repo = seeds.dir + "/repo";
  if (is_there(repo)) return;
  make_dirs(repo);
  const auto write_sources = [&](const char* version) {
    for (unsigned i = 0; i < sizes.source_files; ++i) {
      const std::string dir = fmt::format("{}/m{:02}", repo, i / 50);
      if (i % 50 == 0) make_dirs(dir);
      write_file(fmt::format("{}/s{:04}.c", dir, i), fmt::format("/* {} of {} */\n", i % 2 == 0 ? version : "old", i));
    }
  };
  const std::string git = "git -C " + shell_quoted(repo) + " ";
  write_sources("old");
  // Inode numbers and change times are another file system's: git must not compare them, or it reads every file again.
  run_shell(git + "-c init.defaultBranch=one init -q && " + git + "config core.checkStat minimal && " + git +
            "config core.trustctime false && " + git + "config gc.auto 0 && " + git + "config user.name bench && " +
            git + "config user.email bench@example.org && " + git + "add -A && " + git + "commit -qm one");
  write_sources("new");
  run_shell(git + "checkout -q -b two && " + git + "commit -qam two && " + git + "checkout -q one");
  // git trusts a time stamp only once it is older than the index.
  run_shell("sleep 1.1; find " + shell_quoted(repo) + "/m* -type f -exec touch -d '1 hour ago' {} +; " + git +
            "update-index -q --refresh");
}

void make_archive_seed(const Seeds& seeds, const Sizes& sizes) {
  if (is_there(seeds.archive())) return;
  const std::string dir = seeds.dir + "/unpack";
  for (unsigned i = 0; i < sizes.unpack; ++i) {
    const std::string package = fmt::format("{}/p{:03}/lib", dir, i / 40);
    if (i % 40 == 0) make_dirs(package);
    write_file(fmt::format("{}/m{:05}.js", package, i), std::string(200 + i % 3000, 'j'));
  }
  run_shell("cd " + shell_quoted(dir) + " && tar cf " + shell_quoted(seeds.archive()) + " .");
  remove_tree(dir);
}

void make_package_seed(const Seeds& seeds) {
  if (is_there(seeds.package())) return;
  const std::string dir = seeds.dir + "/package";
  make_dirs(dir + "/DEBIAN");
  write_file(dir + "/DEBIAN/control",
             "Package: vellum-bench\nVersion: 1\nArchitecture: all\nMaintainer: bench <bench@example.org>\n"
             "Description: files for a bench\n");
  for (unsigned i = 0; i < 300; ++i) {
    const std::string folder = fmt::format("{}/usr/share/vellum-bench/{:02}", dir, i / 20);
    if (i % 20 == 0) make_dirs(folder);
    write_file(fmt::format("{}/f{:03}", folder, i), std::string(1000 + i * 10, 'p'));
  }
  run_shell("dpkg-deb --root-owner-group -Znone --build " + shell_quoted(dir) + " " + shell_quoted(seeds.package()));
  remove_tree(dir);
}

void make_part(Part part, const std::vector<std::string>& roots, const Sizes& sizes, const Seeds& seeds) {
  const std::string& lowest = roots.back();
  constexpr std::uint64_t mib = 1U << 20U;
  switch (part) {
    case kNothing: return;
    case kTree: return make_tree(roots, sizes);
    case kMany: return make_many(roots, sizes);
    case kData: make_dirs(lowest + "/data"); return write_big_file(lowest + "/data/read.bin", sizes.data_mib * mib);
    case kBig: make_dirs(lowest + "/data"); return write_big_file(lowest + "/data/big.bin", sizes.big_mib * mib);
    case kRepo:
      make_repo_seed(seeds, sizes);
      return run_shell("cp -a " + shell_quoted(seeds.dir + "/repo") + " " + shell_quoted(lowest) + "/");
    case kDpkg:
      for (const char* dir : {"info", "updates", "triggers", "alternatives"})
        make_dirs(lowest + "/var/lib/dpkg/" + dir);
      for (const char* file : {"status", "available", "diversions", "statoverride"})
        write_file(lowest + "/var/lib/dpkg/" + file, "");
      return;
    case kSources: return make_sources(lowest);
  }
}

}  // namespace vellum::bench
