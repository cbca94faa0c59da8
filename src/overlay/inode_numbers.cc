#include "overlay/inode_numbers.h"

#include <algorithm>

namespace vellum::overlay {
namespace {

// 10 bits hold 500 layers' devices and some found below them; real numbers rarely need the rest.
constexpr unsigned kDeviceShift = 53;
constexpr std::uint64_t kHashed = 1ULL << 63;

// For real numbers that leave no room for the index. Fixed constants: the same after a remount.
std::uint64_t mix(std::uint64_t index, std::uint64_t ino) {
  std::uint64_t x = ino + (index + 1) * 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

void InodeNumbers::add_device(dev_t device) {
  WriteLock lock(mutex_);
  if (std::find(devices_.begin(), devices_.end(), device) == devices_.end()) devices_.push_back(device);
}

std::uint64_t InodeNumbers::device_index(dev_t device) {
  {
    ReadLock lock(mutex_);
    auto found = std::find(devices_.begin(), devices_.end(), device);
    if (found != devices_.end()) return static_cast<std::uint64_t>(found - devices_.begin());
  }
  // A file system mounted inside a layer.
  WriteLock lock(mutex_);
  auto found = std::find(devices_.begin(), devices_.end(), device);
  if (found == devices_.end()) found = devices_.insert(devices_.end(), device);
  return static_cast<std::uint64_t>(found - devices_.begin());
}

std::uint64_t InodeNumbers::present(dev_t device, std::uint64_t ino) {
  std::uint64_t index = device_index(device);
  if (ino32_) return sequential(index, ino);
  if (index == 0 && mode_ != XinoMode::kOff) {
    if ((ino >> kDeviceShift) == 0) return ino;
  } else if (mode_ == XinoMode::kOff) {
    bool one_device;
    {
      ReadLock lock(mutex_);
      one_device = devices_.size() <= 1;
    }
    return one_device ? ino : sequential(index, ino);
  }
  if ((ino >> kDeviceShift) == 0 && index < 512) return ino | (index << kDeviceShift);
  if (index == 0) {
    ReadLock lock(mutex_);
    if (devices_.size() <= 1) return ino;
  }
  return kHashed | mix(index, ino);
}

std::optional<std::uint64_t> InodeNumbers::scheme(dev_t device) {
  const std::uint64_t index = device_index(device);
  const ReadLock lock(mutex_);
  const bool one_device = devices_.size() <= 1;
  if (ino32_ || (mode_ == XinoMode::kOff && !one_device)) return std::nullopt;
  return 2 * index + (one_device ? 1 : 0);
}

std::uint64_t InodeNumbers::sequential(std::uint64_t index, std::uint64_t ino) {
  WriteLock lock(mutex_);
  auto [slot, inserted] = sequence_.try_emplace({index, ino}, next_);
  if (inserted && ++next_ > 0xffffffffULL && ino32_) next_ = 2;
  return slot->second;
}

void InodeNumbers::adopt(std::uint64_t upper_ino, std::uint64_t presented) {
  WriteLock lock(mutex_);
  adopted_[upper_ino] = presented;
}

void InodeNumbers::disown(std::uint64_t upper_ino) {
  WriteLock lock(mutex_);
  adopted_.erase(upper_ino);
}

std::optional<std::uint64_t> InodeNumbers::adopted(std::uint64_t upper_ino) const {
  ReadLock lock(mutex_);
  if (auto found = adopted_.find(upper_ino); found != adopted_.end()) return found->second;
  return std::nullopt;
}

}  // namespace vellum::overlay
