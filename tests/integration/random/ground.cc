#include "ground.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "sandbox.h"

namespace vellum::random_test {

Ground::Ground() : base_(fresh_directory()), other_(fresh_directory(kOtherScratch)) {
  for (const char* name : {"mounted", "mounted/m", "plain", "plain/p"}) ::mkdir((base_ + "/" + name).c_str(), 0755);
}

Ground::~Ground() {
  remove_tree(base_);
  remove_tree(other_);
}

Layers write_layers(const LayerPlan& plan, const Ground& ground) {
  Layers layers;
  layers.upper = ground.base() + "/upper";
  layers.work = ground.base() + "/work";
  ::mkdir(layers.upper.c_str(), 0755);
  ::mkdir(layers.work.c_str(), 0755);
  const std::size_t lowers = plan.trees.size() - (plan.last_is_upper ? 1 : 0);
  for (std::size_t i = 0; i < lowers; ++i) {
    const std::string& base = plan.spans_devices && i % 2 == 1 ? ground.other_device() : ground.base();
    const std::string path = fmt::format("{}/lower{}", base, i);
    ::mkdir(path.c_str(), 0755);
    write_tree(plan.trees[i], path, plan.style);
    layers.lowers.insert(layers.lowers.begin(), path);
  }
  write_tree(plan.last_is_upper ? plan.trees.back() : Tree{}, layers.upper, WhiteoutStyle::kDevice);
  return layers;
}

}  // namespace vellum::random_test
