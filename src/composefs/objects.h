// The object directories of a mount that serves content itself: opens the object behind a file of the image, and
// checks it before anybody reads a byte.
//
// Checking. The kernel is asked for the object's fs-verity digest; where it has none, the digest is computed from the
// content, once: the verdict holds for that identity (device, inode, size, mtime, ctime). What fs-verity protects
// cannot change afterwards; for the rest the check is as good as the object directory's permissions: whoever may write
// there can map an object and write later, which no time stamp tells.
// Objects are found beneath the directories, through no symlink and into no other mount, in the order given.
// Threads: safe. Errors: EIO for whatever is wrong with an object, with a line in the log that says what; EMFILE,
// ENFILE without a line: it is not the object's fault.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "composefs/verity.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace vellum::composefs {

// What an image says of a file's content. Views into the image.
struct ObjectName {
  std::string_view path;  // relative to an object directory
  std::uint64_t size = 0;
  std::optional<Digest> digest;  // which the image says it has
};

// Reads what the image's overlay xattrs say. EIO: they are malformed.
Result<ObjectName> parse_object_name(std::string_view redirect, std::string_view metacopy, std::uint64_t size);

// An object, not checked, from the first directory that has it; ENOENT: none has.
Result<sys::UniqueFd> open_object(std::span<const sys::UniqueFd> directories, std::string_view path);

enum class Verify {
  kNo,
  kTry,      // files for which the image has a digest
  kRequire,  // and no others are handed out
};

class Objects {
 public:
  Objects(std::vector<sys::UniqueFd> directories, Verify verify);

  // Another value than before: the object is another, or was written to, or may have been.
  using Fingerprint = std::uint64_t;
  struct Checked {
    Fingerprint fingerprint = 0;
    bool has_name = true;  // still; perhaps another lies in its place by now
  };
  struct Opened {
    sys::UniqueFd file;
    Fingerprint fingerprint = 0;
  };
  Result<Opened> open(const ObjectName& object);
  // One that open() gave earlier, before it is handed out again: it may have changed.
  Result<Checked> recheck(const ObjectName& object, sys::FdRef file) { return check(object, file); }
  // How many objects were read from end to end for a digest.
  std::uint64_t measured() const;

 private:
  struct Identity {
    std::uint64_t dev = 0, ino = 0, size = 0;
    std::int64_t mtime = 0, ctime = 0;
    std::int64_t mtime_nsec = 0, ctime_nsec = 0;
    std::uint8_t digest_size = 0;  // which hash it is the verdict of
    friend bool operator==(const Identity&, const Identity&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const Identity& i) {
      return H::combine(std::move(state), i.dev, i.ino, i.size, i.mtime, i.ctime, i.mtime_nsec, i.ctime_nsec,
                        i.digest_size);
    }
  };
  static Identity identity_of(const sys::Statx& st, std::uint8_t digest_size);
  Result<Checked> check(const ObjectName& object, sys::FdRef file);
  Status check_digest(const ObjectName& object, sys::FdRef file, const sys::Statx& st);

  const std::vector<sys::UniqueFd> directories_;
  const Verify verify_;
  mutable Mutex mutex_;
  absl::flat_hash_map<Identity, Digest> verdicts_ VELLUM_GUARDED_BY(mutex_);
  std::uint64_t measured_ VELLUM_GUARDED_BY(mutex_) = 0;
  std::atomic<std::uint64_t> unsettled_{0};
};

}  // namespace vellum::composefs
