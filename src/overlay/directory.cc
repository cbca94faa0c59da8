// Names: the index of the lower layers, the merged listing, readdir.
#include <dirent.h>
#include <fmt/format.h>

#include <chrono>

#include "overlay/overlay.h"

namespace vellum::overlay {
namespace {

constexpr std::size_t kAttributesUpTo = 10'000;  // names in a directory

struct RawName {
  std::string name;
  std::uint64_t ino;
  std::uint8_t type;
};

}  // namespace

std::shared_ptr<const LowerIndex> Overlay::known_index(const Node& dir) {
  MutexLock lock(cache_mutex(dir));
  return dir.dir->index;
}

Result<std::shared_ptr<const LowerIndex>> Overlay::lower_index(Node& dir) {
  if (auto known = known_index(dir)) return known;
  const auto keep = [&](std::shared_ptr<const LowerIndex> index) {
    MutexLock lock(cache_mutex(dir));
    if (!dir.dir->index) dir.dir->index = std::move(index);
    return dir.dir->index;
  };
  auto key = index_key(dir);
  if (key) {
    if (auto known = common_->indexes.find(*key)) return keep(std::move(known));
  }
  auto index = std::make_shared<LowerIndex>();
  const auto& lowers = dir.dir->lowers;
  for (std::size_t position = 0; position < lowers.size(); ++position) {
    const Layer& in = layer(lowers[position].layer);
    DirFd fd = TRY(dir_fd(dir, in.index));
    sys::UniqueFd readable = TRY(open_for_reading(*fd));
    // Layers between that have marks for this directory, but not the directory.
    const LayerIndex above = position == 0 ? LayerIndex{0} : lowers[position - 1].layer;
    for (auto between = static_cast<LayerIndex>(above + 1); between < in.index; ++between) {
      TRY(for_each_deleted(dir, between, [&](std::string_view name) {
        index->add(name, LowerEntry{.position = static_cast<std::uint16_t>(position), .hidden = true});
      }));
    }
    std::vector<std::string> hidden;
    std::vector<RawName> unsure;  // whiteouts cannot be told by their type alone
    LowerEntry entry{.position = static_cast<std::uint16_t>(position)};
    auto status = sys::read_dir(readable, [&](std::string_view name, std::uint64_t ino, unsigned char type) {
      if (is_deleted_tree(dir, name)) return true;
      if (is_dot_wh(name)) {
        if (name != kWhOpaque) hidden.emplace_back(name.substr(kWhPrefix.size()));
        return true;
      }
      bool check = type == DT_UNKNOWN || type == DT_CHR || (type == DT_REG && lowers[position].xattr_whiteouts) ||
                   !in.override_name.empty();
      if (check) {
        if (index->find(name) == nullptr) unsure.push_back({std::string(name), ino, type});
        return true;
      }
      entry.type = type;
      entry.ino = numbers_.present(in.device, ino);
      entry.hidden = false;
      index->add(name, entry);
      return true;
    });
    if (!status) return fail(status.error());
    TRY(for_each_deleted(dir, in.index, [&](std::string_view name) { hidden.emplace_back(name); }));
    for (const RawName& raw : unsure) {
      CName at(raw.name);
      auto st = stat_at(in, *fd, at);
      if (!st && st.error() == ENOENT) continue;
      if (!st) return fail(st.error());  // what is not listed would not be missed by rmdir
      if (st->dev != in.device) key = fail(EXDEV);
      entry.hidden = is_device_whiteout(*st);
      if (!entry.hidden && lowers[position].xattr_whiteouts && may_be_xattr_whiteout(*st)) {
        entry.hidden = TRY(read_marks(in, *fd, at)).whiteout;
      }
      entry.type = dirent_type(st->mode);
      entry.ino = numbers_.present(st->dev, st->ino);
      index->add(raw.name, entry);
    }
    for (const std::string& name : hidden) {
      index->add(name, LowerEntry{.position = static_cast<std::uint16_t>(position), .hidden = true});
    }
  }
  index->shrink();
  if (!index_pays(dir)) return std::shared_ptr<const LowerIndex>(index);
  if (key && key != index_key(dir)) key = fail(EAGAIN);  // changed meanwhile, as may have what is made of the numbers
  return keep(key ? common_->indexes.add(*key, std::move(index)) : std::move(index));
}

// What an index is of: other overlays of the process may have the same. Any error: it is nobody else's.
// Layers do not change while they are mounted, but one overlay may be made before a change and another after it.
Result<std::string> Overlay::index_key(Node& dir) {
  if (!options_.common || !index_pays(dir) || options_.whiteouts == WhiteoutStyle::kDeletedTree)
    return fail(EOPNOTSUPP);
  // A change within a tick of the file system's clock from the last one would not show in the times.
  constexpr std::chrono::seconds kSettled(2);
  std::string key = options_.rights;
  for (const LowerDir& lower : dir.dir->lowers) {
    const Layer& in = layer(lower.layer);
    const DirFd fd = TRY(dir_fd(dir, in.index));
    const sys::Statx st = TRY(sys::statx(*fd, ""));
    const auto numbers = numbers_.scheme(in.device);
    // Where a name is a whiteout, or what type it has, by an attribute of its own, the directory's times do not tell
    // it.
    if (lower.xattr_whiteouts || !in.override_name.empty()) return fail(EOPNOTSUPP);
    if (!in.local || st.dev != in.device || !numbers) return fail(EOPNOTSUPP);
    if (sys::age(st.ctime) < kSettled) return fail(EAGAIN);
    key += fmt::format(",{:x}.{:x}.{}.{}.{}.{}.{}{}{}", st.dev, st.ino, st.mtime.tv_sec, st.mtime.tv_nsec,
                       st.ctime.tv_sec, st.ctime.tv_nsec, *numbers, int{in.has_xattrs}, int{in.trusted});
  }
  return key;
}

// With one lower layer a lookup costs one call anyway, and a million names would be a hundred megabytes.
bool Overlay::index_pays(const Node& dir) { return dir.dir->lowers.size() > 1; }

void Overlay::names_changed(Node& dir) {
  MutexLock lock(cache_mutex(dir));
  dir.dir->listing_stale = true;
}

// Calls visit(name, presented ino, type, hidden) for each name in the directory's upper part, whiteouts included.
template <class Visit>
Status Overlay::for_each_upper(Node& dir, Visit visit) {
  DirFd fd = TRY(dir_fd(dir, 0));
  sys::UniqueFd readable = TRY(open_for_reading(*fd));
  std::vector<RawName> unsure;
  std::vector<std::string> dot_wh;
  bool xattr_whiteouts = dir.dir->upper_xattr_whiteouts;
  auto status = sys::read_dir(readable, [&](std::string_view name, std::uint64_t ino, unsigned char type) {
    if (is_deleted_tree(dir, name)) return true;
    if (hides(name)) {
      if (name != kWhOpaque) dot_wh.emplace_back(name.substr(kWhPrefix.size()));
      return true;
    }
    bool check = type == DT_UNKNOWN || type == DT_CHR || (type == DT_REG && xattr_whiteouts) ||
                 !upper_->override_name.empty() || dir.dir->upper_impure;
    if (check) {
      unsure.push_back({std::string(name), ino, type});
    } else {
      visit(name, numbers_.adopted(ino).value_or(numbers_.present(upper_->device, ino)), type, false);
    }
    return true;
  });
  if (!status) return status;
  TRY(for_each_deleted(dir, 0, [&](std::string_view name) { dot_wh.emplace_back(name); }));
  for (const RawName& raw : unsure) {
    if (raw.type != DT_UNKNOWN && raw.type != DT_CHR && upper_->override_name.empty() && !xattr_whiteouts) {
      // A directory with copied-up objects in it: most numbers are known without asking.
      if (auto known = numbers_.adopted(raw.ino)) {
        visit(raw.name, *known, raw.type, false);
        continue;
      }
    }
    CName at(raw.name);
    auto st = stat_at(*upper_, *fd, at);
    if (!st && st.error() == ENOENT) continue;
    if (!st) return fail(st.error());
    Found found;
    found.st = *st;
    found.in_upper = true;
    found.marks = read_marks(*upper_, *fd, at).value_or(Marks{});
    bool hidden = xattr_whiteouts ? is_whiteout(*st, found.marks) : is_whiteout(*st);
    visit(raw.name, presented_ino(found), dirent_type(st->mode), hidden);
  }
  for (const std::string& name : dot_wh) visit(name, 0, std::uint8_t{DT_UNKNOWN}, true);
  return {};
}

Status Overlay::for_each_upper_name(Node& dir, const std::function<void(std::string_view name, bool hidden)>& visit) {
  return for_each_upper(dir,
                        [&](std::string_view name, std::uint64_t, std::uint8_t, bool hidden) { visit(name, hidden); });
}

Result<std::shared_ptr<const Listing>> Overlay::listing_of(Node& dir) {
  std::shared_ptr<const Listing> before;
  {
    MutexLock lock(cache_mutex(dir));
    before = dir.dir->listing;
    if (before && !dir.dir->listing_stale) return before;
  }
  auto listing = std::make_shared<Listing>();
  listing->add(".", dir.ino, DT_DIR);
  listing->add("..", dir.parent != nullptr ? dir.parent->ino : dir.ino, DT_DIR);
  if (dir.nameless.load(std::memory_order_acquire)) return std::shared_ptr<const Listing>(listing);

  std::shared_ptr<const LowerIndex> below;
  if (!dir.dir->lowers.empty()) below = TRY(lower_index(dir));
  absl::flat_hash_set<std::string_view> covered;  // lower names (in `below`) that upper shows itself or hides
  if (dir.in_upper.load(std::memory_order_acquire)) {
    auto status = for_each_upper(dir, [&](std::string_view name, std::uint64_t ino, std::uint8_t type, bool hidden) {
      const LowerEntry* entry = below ? below->find(name) : nullptr;
      if (entry != nullptr) covered.insert(below->name(*entry));
      if (!hidden) listing->add(name, ino, type);
    });
    if (!status) return fail(status.error());
  } else if (below && upper_ != nullptr) {
    TRY(for_each_deleted(dir, 0, [&](std::string_view name) {
      if (const LowerEntry* entry = below->find(name)) covered.insert(below->name(*entry));
    }));
  }
  if (below) {
    for (const LowerEntry& entry : below->entries()) {
      if (entry.hidden) continue;
      std::string_view name = below->name(entry);
      if (!covered.empty() && covered.contains(name)) continue;
      listing->add(name, entry.ino, entry.type);
    }
  }
  if (before) listing->follow(*before);
  listing->shrink();
  MutexLock lock(cache_mutex(dir));
  if (dir.dir->listing && !dir.dir->listing_stale) return dir.dir->listing;  // somebody else was faster
  dir.dir->listing = listing;
  dir.dir->listing_stale = false;
  return std::shared_ptr<const Listing>(listing);
}

Result<bool> Overlay::is_empty(Node& dir) { return TRY(listing_of(dir))->entries().size() <= 2; }

Result<fuse::OpenReply> Overlay::opendir(const fuse::Caller&, fuse::NodeId id, int) {
  NodeRef dir = TRY(dir_for(id));
  if (no_opendir_) return fail(ENOSYS);
  auto handle = std::make_shared<Handle>(std::move(dir), false);
  fuse::OpenReply reply;
  reply.handle = handles_.add(std::move(handle));
  reply.cache_dir = true;
  reply.keep_cache = true;
  return reply;
}

void Overlay::releasedir(fuse::NodeId, fuse::HandleId id) {
  auto handle = handles_.get(id);
  if (handle && (*handle)->node->is_dir()) handles_.remove(id);
}

// The directory to read, and its names: the start takes a fresh look (rewinddir), the rest goes on with what there is.
Result<Overlay::Reading> Overlay::reading_of(fuse::NodeId id, fuse::HandleId handle, std::uint64_t offset) {
  Reading reading;
  if (handle == fuse::HandleId::kNone) {
    reading.dir = TRY(dir_for(id));
  } else {
    reading.dir = TRY(handles_.get(handle))->node.share();
    if (!reading.dir->is_dir()) return fail(ENOTDIR);
  }
  if (offset != 0) {
    MutexLock lock(cache_mutex(*reading.dir));
    reading.listing = reading.dir->dir->listing;
  }
  if (!reading.listing) {
    ReadLock tree(tree_mutex_);
    ReadLock lock(reading.dir->mutex);
    reading.listing = TRY(listing_of(*reading.dir));
  }
  return reading;
}

Status Overlay::readdir(const fuse::Caller&, fuse::NodeId id, fuse::HandleId handle, std::uint64_t offset,
                        fuse::DirSink& sink) {
  Reading reading = TRY(reading_of(id, handle, offset));
  const auto& entries = reading.listing->entries();
  for (std::size_t at = reading.listing->after(offset); at < entries.size(); ++at) {
    const ListingEntry& entry = entries[at];
    if (!sink.add(reading.listing->name(entry), entry.ino, entry.type, reading.listing->cookie(at))) break;
  }
  return {};
}

Status Overlay::readdirplus(const fuse::Caller&, fuse::NodeId id, fuse::HandleId handle, std::uint64_t offset,
                            fuse::DirPlusSink& sink) {
  Reading reading = TRY(reading_of(id, handle, offset));
  Node& dir = *reading.dir;
  ReadLock tree(tree_mutex_);
  ReadLock lock(dir.mutex);
  const auto& entries = reading.listing->entries();
  // Attributes cost a system call here, and an inode in the kernel, for each name; not to have them costs who wants
  // them a LOOKUP for each. Those who list a huge directory mostly want names, unless they have shown otherwise.
  bool attributes = entries.size() <= kAttributesUpTo || offset == 0 || dir.dir->looked_into.exchange(false);
  for (std::size_t at = reading.listing->after(offset); at < entries.size(); ++at) {
    const ListingEntry& entry = entries[at];
    std::string_view name = reading.listing->name(entry);
    if (!sink.fits(name.size())) break;
    fuse::Entry answer;
    answer.attr.ino = entry.ino;
    answer.attr.mode = static_cast<std::uint32_t>(entry.type) << 12;
    if (at >= 2 && attributes) {
      auto child = find_child(dir, name);
      if (child && !*child) continue;  // gone since the listing was made
      if (child) {
        if (auto known = entry_for(**child)) answer = *known;
      }
    }
    if (!sink.add(name, answer, reading.listing->cookie(at))) {
      if (answer.node != fuse::NodeId::kNone) nodes_.forget(answer.node, 1);
      break;
    }
  }
  return {};
}

Status Overlay::fsyncdir(const fuse::Caller&, fuse::NodeId id, fuse::HandleId, bool data_only) {
  if (no_fsync_) return fail(ENOSYS);
  if (!syncs()) return {};
  NodeRef dir = TRY(dir_for(id));
  ReadLock tree(tree_mutex_);
  ReadLock lock(dir->mutex);
  if (!dir->in_upper.load(std::memory_order_acquire) || dir->nameless.load(std::memory_order_acquire)) return {};
  DirFd fd = TRY(dir_fd(*dir, 0));
  sys::UniqueFd readable = TRY(open_for_reading(*fd));
  return sys::fsync(readable, data_only);
}

}  // namespace vellum::overlay
