// What changed from one tree to another, by names. Threads: safe.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "composefs/tree.h"

namespace vellum::composefs {

enum class Change { kAdded, kRemoved, kChanged };
// For kChanged `what` names the attributes: "mode, content". The contents of a directory that is on one side only are
// told name by name.
using ChangeSink = std::function<void(Change change, std::string_view path, std::string_view what)>;

void diff(const Tree& from, const Tree& to, const ChangeSink& sink);

}  // namespace vellum::composefs
