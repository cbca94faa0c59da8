// An object store: files by the fs-verity digest of their content, "ab/cdef...", all of mode 0644.
//
// An object appears under its name only when its content is complete, on disk, and has that digest: it is written
// without a name (or as .tmp*), checked, synced together with others, then linked. Killed at any moment the store holds
// nothing false. An object that exists is left as it is. Content is shared with the source where the file system can
// (FICLONE). fs-verity is switched on where kernel and file system have it.
// Threads: a Store may be shared; each thread adds through a StoreWriter of its own.
// Errors: of the file system; EBUSY: the source changed while it was copied.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "composefs/verity.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace vellum::composefs {

class Store {
 public:
  // Makes the directory, and those above it.
  static Result<Store> open(const std::string& path);
  Store(Store&& other) noexcept : root_(std::move(other.root_)) {}

  bool has(const Digest& digest) const;
  // Objects keep their names, too, if power fails after this.
  Status sync() const;
  sys::FdRef root() const { return root_; }

 private:
  friend class StoreWriter;
  explicit Store(sys::UniqueFd root) : root_(std::move(root)) {}
  // How many files each writer may hold open: all together at most a quarter of what the process may have.
  std::size_t batch_files() const;
  sys::UniqueFd root_;
  const std::size_t descriptors_ = sys::open_file_limit() / 4;
  std::atomic<unsigned> writers_ = 0;
  std::atomic<bool> try_clone_ = true, try_verity_ = true, try_nameless_ = true;
  std::atomic<std::uint64_t> temporary_ = 0;
};

class StoreWriter {
 public:
  explicit StoreWriter(Store& store) : store_(store) { ++store_.writers_; }
  ~StoreWriter();
  StoreWriter(const StoreWriter&) = delete;
  StoreWriter& operator=(const StoreWriter&) = delete;

  // `digest` is that of the content.
  Status add(std::span<const std::byte> content, const Digest& digest);
  Status add(sys::FdRef source, std::uint64_t size, const Digest& digest, unsigned threads = 1);
  // Until now nothing is certain to be in the store; after it all is. (Whose names outlive a loss of power: sync().)
  Status flush();

 private:
  struct Pending {
    sys::UniqueFd file;
    std::string temporary;  // its name, if it has one
    std::string object;
  };
  Result<Pending> begin(const Digest& digest);
  Result<Pending> open_temporary(const Digest& digest);
  Status queue(Pending pending, std::uint64_t size);
  Status commit(Pending& pending);

  Store& store_;
  std::vector<Pending> pending_;
  std::uint64_t pending_bytes_ = 0;
  sys::UniqueFd spare_;  // given up when there are no more: a flush needs one
};

}  // namespace vellum::composefs
