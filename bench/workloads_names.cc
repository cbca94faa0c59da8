#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>

#include "files.h"
#include "workload_loops.h"

namespace vellum::bench {
namespace {

using Paths = std::vector<std::string>;

// The same order in every run, and not that of any listing.
void shuffle(Paths& paths) { std::shuffle(paths.begin(), paths.end(), std::mt19937(4711)); }

Paths tree_files(const Scene& scene, unsigned count) {
  Paths paths;
  for (unsigned i = 0; i < count; ++i) paths.push_back(scene.mount + "/" + tree_file(scene.sizes, i));
  shuffle(paths);
  return paths;
}

// Names that are not there yet, in the directories of tree/, which every layer has.
Paths new_names(const Scene& scene, unsigned count, const char* stem) {
  Paths paths;
  for (unsigned i = 0; i < count; ++i) {
    paths.push_back(fmt::format("{}/{}/{}{:06}", scene.mount, tree_dir(i % scene.sizes.directories), stem, i));
  }
  return paths;
}

// One call per path.
Loop loop_over(Paths paths, void (*act)(const std::string& path)) {
  const auto shared = std::make_shared<Paths>(std::move(paths));
  return {.steps = shared->size(), .ops = shared->size(), .run = [shared, act](std::uint64_t from, std::uint64_t to) {
            for (std::uint64_t i = from; i < to; ++i) act((*shared)[i]);
          }};
}

void stat_path(const std::string& path) {
  struct stat status;
  must(::stat(path.c_str(), &status), "stat", path);
}

void stat_missing(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0 || errno != ENOENT) throw Failure(path + ": should not be there");
}

void open_read_close(const std::string& path) {
  char buffer[8192];
  const int fd = static_cast<int>(must(::open(path.c_str(), O_RDONLY | O_CLOEXEC), "open", path));
  const ssize_t got = ::read(fd, buffer, sizeof buffer);
  ::close(fd);
  must(got > 0 ? 0 : -1, "read", path);
}

void create_write_close(const std::string& path) {
  static const std::string content(4096, 'c');
  const int fd =
      static_cast<int>(must(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644), "create", path));
  const ssize_t written = ::write(fd, content.data(), content.size());
  must(::close(fd), "close", path);
  must(written == 4096 ? 0 : -1, "write", path);
}

void make_dir(const std::string& path) { must(::mkdir(path.c_str(), 0755), "mkdir", path); }
void remove_dir(const std::string& path) { must(::rmdir(path.c_str()), "rmdir", path); }
void unlink_path(const std::string& path) { must(::unlink(path.c_str()), "unlink", path); }
void rename_path(const std::string& path) { must(::rename(path.c_str(), (path + "-new").c_str()), "rename", path); }
void chmod_path(const std::string& path) { must(::chmod(path.c_str(), 0600), "chmod", path); }
void chown_path(const std::string& path) { must(::chown(path.c_str(), 7, 7), "chown", path); }

std::uint64_t walk(int dir_fd, const char* name) {
  const int fd = ::openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* dir = fd < 0 ? nullptr : ::fdopendir(fd);
  if (dir == nullptr) must(-1, "open directory", name);
  std::uint64_t seen = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    struct stat status;
    must(::fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW), "lstat", entry->d_name);
    ++seen;
    if (S_ISDIR(status.st_mode)) seen += walk(fd, entry->d_name);
  }
  ::closedir(dir);
  return seen;
}

Loop walk_tree(const Scene& scene) {
  const std::uint64_t expected = scene.sizes.files + scene.sizes.directories;
  return {.ops = expected, .run = [root = scene.mount + "/tree", expected](std::uint64_t, std::uint64_t) {
            if (walk(AT_FDCWD, root.c_str()) != expected) throw Failure("the walk did not see every file");
          }};
}

Loop list_many(const Scene& scene) {
  const std::uint64_t expected = scene.sizes.many;
  return {.ops = expected, .run = [path = scene.mount + "/many", expected](std::uint64_t, std::uint64_t) {
            DIR* dir = ::opendir(path.c_str());
            if (dir == nullptr) must(-1, "open directory", path);
            std::uint64_t seen = 0;
            while (::readdir(dir) != nullptr) ++seen;
            ::closedir(dir);
            if (seen != expected + 2) throw Failure("the listing did not have every name");
          }};
}

Loop look_up(const Scene& scene) { return loop_over(tree_files(scene, scene.sizes.files), stat_path); }
Loop miss(const Scene& scene) { return loop_over(new_names(scene, scene.sizes.files, "missing"), stat_missing); }
Loop open_all(const Scene& scene) { return loop_over(tree_files(scene, scene.sizes.files), open_read_close); }
Loop create(const Scene& scene) { return loop_over(new_names(scene, scene.sizes.changes, "new"), create_write_close); }
Loop make_all_dirs(const Scene& scene) { return loop_over(new_names(scene, scene.sizes.changes, "dir"), make_dir); }

// What the loop takes away is made through the mount, before the clock runs: its names are known to the kernel.
Loop made_before(const Scene& scene, void (*make)(const std::string&), void (*act)(const std::string&)) {
  const Paths paths = new_names(scene, scene.sizes.changes, "mine");
  for (const std::string& path : paths) make(path);
  return loop_over(paths, act);
}

Loop rename_all(const Scene& scene) { return made_before(scene, create_write_close, rename_path); }
Loop unlink_all(const Scene& scene) { return made_before(scene, create_write_close, unlink_path); }

// Directories in directories, each with ten.
Loop remove_dirs(const Scene& scene) {
  Paths paths;
  for (unsigned i = 0; i < scene.sizes.changes / 11; ++i) {
    const std::string top = fmt::format("{}/tree/d000/t{:04}", scene.mount, i);
    paths.push_back(top);
    for (unsigned j = 0; j < 10; ++j) paths.push_back(fmt::format("{}/s{}", top, j));
  }
  for (const std::string& path : paths) make_dir(path);
  std::reverse(paths.begin(), paths.end());
  return loop_over(std::move(paths), remove_dir);
}

Loop on_lower_files(const Scene& scene, void (*act)(const std::string&)) {
  return loop_over(tree_files(scene, std::min(scene.sizes.changes, scene.sizes.files)), act);
}
Loop chmod_lower(const Scene& scene) { return on_lower_files(scene, chmod_path); }
Loop chown_lower(const Scene& scene) { return on_lower_files(scene, chown_path); }
Loop unlink_lower(const Scene& scene) { return on_lower_files(scene, unlink_path); }

}  // namespace

std::vector<Workload> name_workloads() {
  return {
      {"walk_stat_cold", "list every directory and lstat every name, fresh mount", kTree, {}, walk_tree},
      {"walk_stat_warm", "the same again", kTree, {.warm = true, .passes = 4}, walk_tree},
      {"lookup_cold", "stat known paths in random order, fresh mount", kTree, {.threads = true}, look_up},
      {"lookup_warm", "the same again", kTree, {.warm = true, .passes = 4}, look_up},
      {"miss_cold", "stat names that do not exist, fresh mount", kTree, {}, miss},
      {"miss_warm", "the same again", kTree, {.warm = true, .passes = 4}, miss},
      {"readdir_100k", "list a directory with very many names, fresh mount", kMany, {}, list_many},
      {"readdir_100k_warm", "the same again", kMany, {.warm = true}, list_many},
      {"open_read_close_cold", "open, read and close 4 KiB files, fresh mount", kTree, {.threads = true}, open_all},
      {"open_read_close_warm", "the same again", kTree, {.warm = true}, open_all},
      {"open_read_close_ro_warm",
       "the same, without an upper layer",
       kTree,
       {.warm = true, .read_only = true},
       open_all},
      {"create_write_4k", "create a file, write 4 KiB, close it", kTree, {.changes = true}, create},
      {"mkdir", "make directories", kTree, {.changes = true}, make_all_dirs},
      {"rename", "rename new files within their directory", kTree, {.changes = true}, rename_all},
      {"unlink", "remove new files", kTree, {.changes = true}, unlink_all},
      {"rmdir_tree", "remove new directories, two levels", kTree, {.changes = true}, remove_dirs},
      {"chmod_lower", "chmod of lower files: copy-up", kTree, {.changes = true}, chmod_lower},
      {"chown_lower", "chown of lower files: copy-up", kTree, {.changes = true, .needs_root = true}, chown_lower},
      {"unlink_lower", "remove lower files: whiteouts", kTree, {.changes = true}, unlink_lower},
  };
}

}  // namespace vellum::bench
