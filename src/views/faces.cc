#include "views/faces.h"

#include "views/numbers.h"

namespace vellum::views {

using fuse::NodeId;

namespace {

// Both are longer than from an answer of ours to what the kernel makes of it: the one than ever, the other than as a
// rule.
constexpr std::chrono::seconds kContest{1};
constexpr std::chrono::milliseconds kOnTheWay{10};

}  // namespace

Faces::Faces(unsigned depth) : depth_(depth) {
  auto root = std::make_unique<Face>();
  root->id = NodeId::kRoot;
  root->lookups = 1;
  faces_.emplace(raw(NodeId::kRoot), std::move(root));
}

const Faces::Face* Faces::find(NodeId id) const {
  const auto found = faces_.find(raw(id));
  return found == faces_.end() ? nullptr : found->second.get();
}

Faces::Face* Faces::find(NodeId id) {
  const auto found = faces_.find(raw(id));
  return found == faces_.end() ? nullptr : found->second.get();
}

std::optional<NodeId> Faces::bound(NodeId face, ViewIndex view) const {
  if (face == NodeId::kRoot) return NodeId::kRoot;
  const MutexLock lock(mutex_);
  const Face* at = find(face);
  if (at == nullptr) return std::nullopt;
  const auto found = at->bound.find(view);
  return found == at->bound.end() ? std::nullopt : std::optional(found->second.node);
}

Result<Faces::Place> Faces::place(NodeId face) const {
  const MutexLock lock(mutex_);
  const Face* at = find(face);
  if (at == nullptr || at->parent == nullptr) return fail(ESTALE);
  return Place{.parent = at->parent->id, .name = at->name};
}

NodeId Faces::bind_locked(Face& face, ViewIndex view, NodeId node, Released& released) {
  const auto [slot, fresh] = face.bound.try_emplace(view, Binding{.node = node});
  if (fresh) {
    by_node_[raw(outer(view, node))] = &face;
  } else {
    released.emplace_back(view, node);
  }
  return slot->second.node;
}

void Faces::unbind_locked(const Face& face, ViewIndex view, NodeId node) {
  const auto found = by_node_.find(raw(outer(view, node)));
  if (found != by_node_.end() && found->second == &face) by_node_.erase(found);
}

Result<NodeId> Faces::bind(NodeId face, ViewIndex view, NodeId node, Released& released) {
  const MutexLock lock(mutex_);
  Face* at = find(face);
  if (at == nullptr || at->parent == nullptr) {
    released.emplace_back(view, node);
    return fail(ESTALE);
  }
  return bind_locked(*at, view, node, released);
}

std::optional<NodeId> Faces::show(NodeId parent, std::string_view name, ViewIndex view, NodeId node,
                                  Released& released) {
  const MutexLock lock(mutex_);
  Face* in = find(parent);
  if (in == nullptr || in->depth >= depth_ || in->apart.contains(std::pair(std::string(name), view))) {
    return std::nullopt;
  }
  Face*& child = in->children[std::string(name)];
  if (child == nullptr) {
    auto made = std::make_unique<Face>();
    made->id = NodeId{kFaceBit | ++next_};
    made->parent = in;
    made->name = name;
    made->depth = in->depth + 1;
    child = made.get();
    faces_.emplace(raw(made->id), std::move(made));
  } else if (const auto bound = child->bound.find(view); bound != child->bound.end() && bound->second.node != node) {
    // Whoever is in the directory that had the name before stays there.
    bound->second.left = true;
    in->apart.emplace(std::string(name), view);
    return std::nullopt;
  }
  ++child->lookups;
  bind_locked(*child, view, node, released);
  return child->id;
}

Faces::Binding* Faces::binding(const Face& in, std::string_view name, ViewIndex view) {
  const auto child = in.children.find(std::string(name));
  if (child == in.children.end()) return nullptr;
  const auto found = child->second->bound.find(view);
  return found == child->second->bound.end() ? nullptr : &found->second;
}

bool Faces::has_face(NodeId parent, std::string_view name, ViewIndex view) const {
  const MutexLock lock(mutex_);
  const Face* in = find(parent);
  return in != nullptr && binding(*in, name, view) != nullptr;
}

bool Faces::shows_face(NodeId parent, std::string_view name, ViewIndex view) const {
  const MutexLock lock(mutex_);
  const Face* in = find(parent);
  return in != nullptr && !in->apart.contains(std::pair(std::string(name), view)) &&
         binding(*in, name, view) != nullptr;
}

void Faces::set_apart(NodeId parent, std::string_view name, ViewIndex view) {
  const MutexLock lock(mutex_);
  if (Face* in = find(parent)) in->apart.emplace(std::string(name), view);
}

bool Faces::is_apart(NodeId parent, std::string_view name, ViewIndex view) const {
  const MutexLock lock(mutex_);
  const Face* in = find(parent);
  return in != nullptr && in->apart.contains(std::pair(std::string(name), view));
}

void Faces::vacate(NodeId parent, std::string_view name, ViewIndex view) {
  const MutexLock lock(mutex_);
  Face* in = find(parent);
  if (in == nullptr) return;
  in->apart.erase(std::pair(std::string(name), view));
  if (Binding* const bound = binding(*in, name, view)) bound->left = true;
}

bool Faces::is_double(NodeId face, ViewIndex view) const {
  const MutexLock lock(mutex_);
  // Below a directory that is a node of the view's own, all are.
  for (const Face* at = find(face); at != nullptr && at->parent != nullptr; at = at->parent) {
    const auto bound = at->bound.find(view);
    if (bound != at->bound.end() && bound->second.left) return true;
    if (at->parent->apart.contains(std::pair(at->name, view))) return true;
  }
  return false;
}

void Faces::drop_unused(Face* face, Released& released) {
  while (face->parent != nullptr && face->lookups == 0 && face->children.empty()) {
    for (const auto& [view, bound] : face->bound) {
      released.emplace_back(view, bound.node);
      unbind_locked(*face, view, bound.node);
    }
    Face* parent = face->parent;
    parent->children.erase(face->name);
    faces_.erase(raw(face->id));
    face = parent;
  }
}

void Faces::forget(NodeId id, std::uint64_t count, Released& released) {
  const MutexLock lock(mutex_);
  Face* face = find(id);
  if (face == nullptr || face->parent == nullptr) return;
  face->lookups -= std::min(face->lookups, count);
  drop_unused(face, released);
}

void Faces::shown(NodeId parent, std::string_view name, NodeId node) {
  const MutexLock lock(shown_mutex_);
  Shown& shown = shown_[raw(node)];
  shown.place = {.parent = parent, .name = std::string(name)};
  ++shown.lookups;
}

void Faces::forgotten(NodeId node, std::uint64_t count) {
  const MutexLock lock(shown_mutex_);
  const auto found = shown_.find(raw(node));
  if (found == shown_.end()) return;
  if (found->second.lookups <= count) {
    shown_.erase(found);
  } else {
    found->second.lookups -= count;
  }
}

void Faces::moved(NodeId node, NodeId parent, std::string_view name) {
  const MutexLock lock(shown_mutex_);
  if (const auto found = shown_.find(raw(node)); found != shown_.end())
    found->second.place = {.parent = parent, .name = std::string(name)};
}

std::vector<Faces::Place> Faces::shown_by(ViewIndex view) const {
  const MutexLock lock(shown_mutex_);
  std::vector<Place> places;
  for (const auto& [node, shown] : shown_) {
    if (view_of(NodeId{node}) == view) places.push_back(shown.place);
  }
  return places;
}

Faces::Telling Faces::tell(NodeId id, const fuse::Attr& attr, std::uint32_t caller, Time now) {
  const std::size_t rights = absl::HashOf(attr.uid, attr.gid, attr.mode & (S_IRWXU | S_IRWXG | S_IRWXO));
  const MutexLock lock(mutex_);
  if (Face* face = find(id)) {
    auto& [last, other] = face->told;
    if (last.rights != rights) {
      std::swap(last, other);
      last.rights = rights;
      last.owner_rights = absl::HashOf(attr.uid, attr.mode & S_IRWXU);
    }
    last.when = now;
    if (caller != 0) face->user = now;
    if (caller != 0 && caller != attr.uid) face->stranger = now;
    // While only owners ask, nothing but the owner's part matters.
    const bool differ = last.owner_rights != other.owner_rights || now - face->stranger < kContest;
    if (differ && now - other.when < kContest && now - face->user < kContest) {
      if (now >= contest_end_) contest_start_ = now;
      contest_end_ = now + kContest;
    }
  }
  if (now >= contest_end_) return Telling::kTruth;
  return now - contest_start_ < kOnTheWay ? Telling::kStarting : Telling::kContested;
}

bool Faces::contested(Time now) const {
  const MutexLock lock(mutex_);
  return now < contest_end_ + kContest;
}

std::optional<NodeId> Faces::face_of(ViewIndex view, NodeId node) const {
  if (node == NodeId::kRoot) return node;
  const MutexLock lock(mutex_);
  const auto found = by_node_.find(raw(outer(view, node)));
  return found == by_node_.end() ? std::nullopt : std::optional(found->second->id);
}

void Faces::drop(ViewIndex view) {
  {
    const MutexLock lock(shown_mutex_);
    absl::erase_if(shown_, [&](const auto& entry) { return view_of(NodeId{entry.first}) == view; });
  }
  const MutexLock lock(mutex_);
  for (const auto& [id, face] : faces_) {
    if (const auto found = face->bound.find(view); found != face->bound.end()) {
      unbind_locked(*face, view, found->second.node);
      face->bound.erase(found);
    }
    absl::erase_if(face->apart, [&](const auto& entry) { return entry.second == view; });
  }
}

std::size_t Faces::size() const {
  const MutexLock lock(mutex_);
  return faces_.size();
}

}  // namespace vellum::views
