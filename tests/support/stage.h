// The place where a test program that mounts things runs: a mount and a pid namespace of its own, with a fresh
// /proc, a tmpfs at /mnt for everything it makes, a ramfs and small ext4, xfs and btrfs file systems on loop devices
// beneath it, and the rights of the chosen backend (root, root of a user namespace, or a plain user). When the program
// ends, however it ends, its namespaces take every mount, loop device and daemon with them.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

namespace vellum::test {

// The body of main(): takes --backend=NAME, --vellum=PATH and gtest's own arguments, builds the stage, runs all
// tests in it and returns the exit status.
int run_on_stage(int argc, char** argv);

// Where a layer lies; ramfs is the one without xattrs. kDefault is tmpfs, for an upper layer what VELLUM_TEST_UPPER
// names.
enum class Store { kDefault, kTmpfs, kExt4, kXfs, kBtrfs, kRamfs };
std::string store_path(Store store);
// The store that kDefault means for an upper layer.
Store default_upper_store();

// Runs `act` with the rights of the machine's root where the backend gives a way to them (the plain user does: a
// thread of the test keeps them); elsewhere with the caller's.
void as_root(const std::function<void()>& act);

// Drops what the kernel has cached of dentries and inodes, which takes the machine's root in every backend.
void drop_machine_caches();

// Runs `act` in a child process with these ids and no others. `act` returns an errno (0 for success), as does this.
int as_ids(uid_t uid, gid_t gid, const std::function<int()>& act);

// Ids the plain user's backend runs with.
inline constexpr uid_t kPlainUid = 4242;
inline constexpr gid_t kPlainGid = 4242;

}  // namespace vellum::test
