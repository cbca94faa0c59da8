// Names of a directory in two forms, both immutable once built and shared by reference.
//
//   LowerIndex  the merged names of a directory's lower layers. Lower layers do not change while mounted, so with it
//               a lookup of a name they do not have costs no system call.
//   Listing     everything readdir answers. An offset is an entry's cookie, a number that the name keeps from one
//               Listing of the directory to the next, so that whoever reads on sees each entry that stays exactly
//               once, whatever comes and goes meanwhile, and without an open handle.
//
// Names lie end to end in one string each. Threads: immutable.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vellum::overlay {

struct LowerEntry {
  std::uint32_t name_at = 0;
  std::uint8_t name_length = 0;
  std::uint8_t type = 0;       // DT_*
  std::uint16_t position = 0;  // in DirState::lowers, where the name is topmost
  bool hidden = false;         // whited out at `position`
  std::uint64_t ino = 0;       // as presented
};

class LowerIndex {
 public:
  LowerIndex() : set_(0, Hash{this}, Equal{this}) {}
  LowerIndex(const LowerIndex&) = delete;
  LowerIndex& operator=(const LowerIndex&) = delete;

  const LowerEntry* find(std::string_view name) const {
    auto found = set_.find(name);
    return found == set_.end() ? nullptr : &entries_[*found];
  }
  // False if the name is there already: the layer above wins.
  bool add(std::string_view name, LowerEntry entry) {
    if (find(name) != nullptr) return false;
    entry.name_at = static_cast<std::uint32_t>(names_.size());
    entry.name_length = static_cast<std::uint8_t>(name.size());
    names_.append(name);
    entries_.push_back(entry);
    set_.insert(static_cast<std::uint32_t>(entries_.size() - 1));
    return true;
  }
  std::string_view name(const LowerEntry& entry) const {
    return std::string_view(names_).substr(entry.name_at, entry.name_length);
  }
  const std::vector<LowerEntry>& entries() const { return entries_; }
  // Gives back what growing left over.
  void shrink() {
    names_.shrink_to_fit();
    entries_.shrink_to_fit();
  }

 private:
  struct Hash {
    using is_transparent = void;
    const LowerIndex* index;
    std::size_t operator()(std::uint32_t at) const { return (*this)(index->name(index->entries_[at])); }
    std::size_t operator()(std::string_view name) const { return absl::Hash<std::string_view>{}(name); }
  };
  struct Equal {
    using is_transparent = void;
    const LowerIndex* index;
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      return name_of(a) == name_of(b);
    }
    std::string_view name_of(std::uint32_t at) const { return index->name(index->entries_[at]); }
    std::string_view name_of(std::string_view name) const { return name; }
  };

  std::string names_;
  std::vector<LowerEntry> entries_;
  absl::flat_hash_set<std::uint32_t, Hash, Equal> set_;
};

struct ListingEntry {
  std::uint32_t name_at = 0;
  std::uint8_t name_length = 0;
  std::uint8_t type = 0;
  std::uint64_t ino = 0;
};

class Listing {
 public:
  void add(std::string_view name, std::uint64_t ino, std::uint8_t type) {
    entries_.push_back({.name_at = static_cast<std::uint32_t>(names_.size()),
                        .name_length = static_cast<std::uint8_t>(name.size()),
                        .type = type,
                        .ino = ino});
    names_.append(name);
  }
  std::string_view name(const ListingEntry& entry) const {
    return std::string_view(names_).substr(entry.name_at, entry.name_length);
  }
  const std::vector<ListingEntry>& entries() const { return entries_; }
  // What readdir continues behind, and with which entry it does.
  std::uint64_t cookie(std::size_t at) const { return cookies_.empty() ? at + 1 : cookies_[at]; }
  std::size_t after(std::uint64_t cookie) const;
  // Puts the entries into the order of their cookies: those of the Listing before, then the new ones.
  void follow(const Listing& before);
  void shrink() {
    names_.shrink_to_fit();
    entries_.shrink_to_fit();
  }

 private:
  std::string names_;
  std::vector<ListingEntry> entries_;
  std::vector<std::uint32_t> cookies_;  // ascending; empty: each entry's is its place, counted from 1
};

}  // namespace vellum::overlay
