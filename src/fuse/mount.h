// Making a FUSE mount and taking it away: with mount(2) where this process may (root, or root of a user
// namespace), else with the setuid program fusermount3.
//
// mount() only connects; the mount answers nobody before Session::run() serves its device.
// Errors carry a line for people: what failed, on which path, what to do.
// Threads: plain values; unmount() is safe from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <string>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/mount_calls.h"

namespace vellum::fuse {

struct MountOptions {
  std::string mountpoint = {};
  std::string subtype = {};          // the type shown is fuse.SUBTYPE; empty: fuse
  std::string source = {};           // the first column of /proc/mounts; empty: the subtype, or "fuse"
  std::string selinux_context = {};  // the label of every file, if the kernel takes one; empty: the policy's
  sys::MountFlags flags = {};
  bool allow_other = false;
  bool default_permissions = true;
  std::uint32_t max_read = 0;  // 0: as large as negotiated
};

struct MountError {
  Errno error;
  std::string message;
};

class Mount {
 public:
  Mount() = default;
  Mount(Mount&& other) noexcept;
  Mount& operator=(Mount&& other) noexcept;
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  ~Mount();  // unmounts, unless that was done or kept

  // The connection, for a DeviceChannel. To be taken once.
  sys::UniqueFd take_device() { return std::move(device_); }
  const std::string& path() const { return path_; }
  // Takes it out of the tree at once, wherever it lies by now; users that have it open keep it until they are done.
  // A mount that is gone already is no error, and another that lies in or on its place is left alone.
  Status unmount();
  // Writes out what the kernel holds of it, while it is served. Waits for the server.
  Status sync() const;
  // The mount is gone or somebody else's: the destructor leaves it alone.
  void forget() { mounted_ = false; }

 private:
  friend std::expected<Mount, MountError> mount(const MountOptions& options);
  sys::UniqueFd device_;
  // Where it is now, if it can be reached there; ENOENT otherwise.
  Result<std::string> place() const;
  std::string path_;  // absolute: the daemon may change its directory
  sys::MountId id_;
  bool by_program_ = false;
  std::atomic<bool> mounted_ = false;
};

std::expected<Mount, MountError> mount(const MountOptions& options);

}  // namespace vellum::fuse
