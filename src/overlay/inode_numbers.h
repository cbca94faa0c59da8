// The inode numbers callers see. Equal in stat and readdir, unchanged by copy-up while the mount lives.
//
//   one device     the real number
//   xino auto/on   the device's index in the top bits (upper or, without one, the first layer has index 0)
//   xino off       sequential numbers where layers span devices
//   ino32_t        sequential numbers of 32 bits always
//
// A copied-up object keeps the number it had: adopt() remembers it under the upper's real number.
// Threads: safe.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "overlay/options.h"

namespace vellum::overlay {

class InodeNumbers {
 public:
  InodeNumbers(XinoMode mode, bool ino32) : mode_(mode), ino32_(ino32) {}

  // Announces a device, in layer order, before the mount serves anything.
  void add_device(dev_t device);

  std::uint64_t present(dev_t device, std::uint64_t ino);
  // Equal in two overlays that present the device's numbers alike. Nothing: they depend on what was asked for before.
  std::optional<std::uint64_t> scheme(dev_t device);

  // The upper object `ino` shows as `presented` from now on, until disown(): call that when its last name is
  // gone and nothing holds it, since the file system may then reuse the number.
  void adopt(std::uint64_t upper_ino, std::uint64_t presented);
  void disown(std::uint64_t upper_ino);
  std::optional<std::uint64_t> adopted(std::uint64_t upper_ino) const;

 private:
  std::uint64_t sequential(std::uint64_t device_index, std::uint64_t ino);
  std::uint64_t device_index(dev_t device);

  const XinoMode mode_;
  const bool ino32_;
  mutable SharedMutex mutex_;
  std::vector<dev_t> devices_ VELLUM_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::uint64_t, std::uint64_t> adopted_ VELLUM_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> sequence_ VELLUM_GUARDED_BY(mutex_);
  std::uint64_t next_ VELLUM_GUARDED_BY(mutex_) = 2;  // 0 and 1 are reserved
};

}  // namespace vellum::overlay
