#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "workload_loops.h"

namespace vellum::bench {
namespace {

// A shell command in the mount. Its output is shown if it fails.
Loop shell(const Scene& scene, std::uint64_t ops, const std::string& command) {
  const std::string line = "cd " + shell_quoted(scene.mount) + " && " + command;
  return {.ops = ops, .run = [line](std::uint64_t, std::uint64_t) { run_shell(line); }};
}

Loop git_status(const Scene& scene) {
  return shell(scene, scene.sizes.source_files,
               "test -z \"$(GIT_OPTIONAL_LOCKS=0 git -c safe.directory='*' -C repo status --porcelain)\"");
}

Loop git_checkout(const Scene& scene) {
  return shell(scene, scene.sizes.source_files / 2, "git -c safe.directory='*' -C repo checkout -q two");
}

// Through a pipe: tar does not read what it would write to /dev/null.
Loop tar_c(const Scene& scene) { return shell(scene, scene.sizes.files, "tar cf - tree | cat > /dev/null"); }

Loop rm_rf(const Scene& scene) { return shell(scene, scene.sizes.files, "rm -rf tree"); }

Loop dpkg_i(const Scene& scene) {
  make_package_seed(scene.seeds);
  return shell(
      scene, 300,
      "PATH=$PATH:/usr/sbin:/sbin dpkg --root=\"$PWD\" --log=/dev/null -i " + shell_quoted(scene.seeds.package()));
}

Loop cxx_compile(const Scene& scene) { return shell(scene, 1, "c++ -Isrc/include -c src/main.cc -o src/main.o"); }

Loop unpack(const Scene& scene) {
  make_archive_seed(scene.seeds, scene.sizes);
  return shell(scene, scene.sizes.unpack,
               "mkdir tree/modules && tar xf " + shell_quoted(scene.seeds.archive()) + " -C tree/modules");
}

}  // namespace

std::vector<Workload> tool_workloads() {
  using Traits = Workload::Traits;
  constexpr Traits reads{.tool = true};
  constexpr Traits changes{.changes = true, .tool = true};
  return {
      {"git_status", "git status in a clean repository, fresh mount", kRepo, reads, git_status},
      {"git_checkout", "git checkout of a branch, half of the files differ", kRepo, changes, git_checkout},
      {"tar_c", "tar c of the small files, fresh mount", kTree, reads, tar_c},
      {"rm_rf", "rm -rf of the small lower files", kTree, changes, rm_rf},
      {"dpkg_i",
       "dpkg -i of a package with 300 files",
       kDpkg,
       {.changes = true, .needs_root = true, .tool = true},
       dpkg_i},
      {"cxx_compile", "compile a C++ file with 200 headers", kSources, changes, cxx_compile},
      {"unpack_20k", "tar x of 20,000 small files", kTree, changes, unpack},
  };
}

}  // namespace vellum::bench
