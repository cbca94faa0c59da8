#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>

#include "files.h"
#include "workload_loops.h"

namespace vellum::bench {
namespace {

namespace fs = std::filesystem;

Loop make_with(const Scene& scene, const std::string& arguments) {
  const std::string line = scene.maker + " " + arguments + " " + shell_quoted(scene.scratch + "/made");
  return {.ops = scene.sizes.files, .run = [line](std::uint64_t, std::uint64_t) { run_shell(line); }};
}

Loop create_from_dump(const Scene& scene) { return make_with(scene, "--from-file " + shell_quoted(scene.dump)); }
Loop create_from_dir(const Scene& scene) { return make_with(scene, shell_quoted(scene.source)); }
Loop create_with_store(const Scene& scene) {
  return make_with(scene,
                   "--digest-store=" + shell_quoted(scene.scratch + "/store") + " " + shell_quoted(scene.source));
}

// What is on a tmpfs stays in memory.
Loop create_from_dir_cold(const Scene& scene) {
  ::sync();
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(scene.source)) {
    if (!entry.is_regular_file()) continue;
    const int file = static_cast<int>(must(::open(entry.path().c_str(), O_RDONLY), "open", entry.path()));
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }
  return create_from_dir(scene);
}

void unmount(const std::string& mount) {
  for (int i = 0; ::umount2(mount.c_str(), 0) < 0; ++i) {
    if (errno != EBUSY || i == 200) must(-1, "unmount", mount);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Loop mount_to_first_byte(const Scene& scene) {
  const std::string file = scene.second_mount + "/" + tree_file(scene.sizes, 0);
  return {.ops = 10, .run = [scene, file](std::uint64_t, std::uint64_t) {
            for (int i = 0; i < 10; ++i) {
              run_shell(scene.mount_command);
              char byte = 0;
              const int fd = static_cast<int>(must(::open(file.c_str(), O_RDONLY), "open", file));
              must(::read(fd, &byte, 1), "read", file);
              ::close(fd);
              unmount(scene.second_mount);
            }
          }};
}

}  // namespace

std::vector<Workload> image_only_workloads() {
  constexpr Workload::Traits makes{.tool = true, .makes_image = true};
  return {
      {"create_from_dump", "an image of a dump file; per file", kNothing, makes, create_from_dump},
      {"create_from_dir", "an image of a directory, hashing its files; per file", kNothing, makes, create_from_dir},
      {"create_from_dir_cold", "the same, the files not in memory", kNothing, makes, create_from_dir_cold},
      {"create_with_store", "the same, and a store of their objects", kNothing, makes, create_with_store},
      {"mount_first_byte",
       "mount, read a byte, unmount",
       kNothing,
       {.tool = true, .mounts = true},
       mount_to_first_byte},
  };
}

}  // namespace vellum::bench
