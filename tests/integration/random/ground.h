// The directories that one random run works in, and how its layers get there.
#pragma once

#include <string>
#include <vector>

#include "mounts.h"
#include "tree.h"

namespace vellum::random_test {

// Removed with everything in it at the end of its scope: unmount before.
class Ground {
 public:
  Ground();
  Ground(const Ground&) = delete;
  Ground& operator=(const Ground&) = delete;
  ~Ground();

  const std::string& base() const { return base_; }
  const std::string& other_device() const { return other_; }
  std::string mountpoint() const { return base_ + "/mounted/m"; }
  // Has a parent of its own, so that links to ../x from the two roots do not meet.
  std::string plain() const { return base_ + "/plain/p"; }

 private:
  std::string base_, other_;
};

struct LayerPlan {
  const std::vector<Tree>& trees;  // bottom first
  WhiteoutStyle style = WhiteoutStyle::kDevice;
  bool last_is_upper = false;  // otherwise the upper layer is empty
  bool spans_devices = false;
};

Layers write_layers(const LayerPlan& plan, const Ground& ground);

}  // namespace vellum::random_test
