#include "composefs/objects.h"

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "base/log.h"
#include "composefs/dump.h"

namespace vellum::composefs {
namespace {

// The value of overlay.metacopy: version, length of it all, flags, fs-verity's algorithm; then the digest.
constexpr std::size_t kMetacopyHeader = 4;
// About 100 bytes each; when there are more, all are measured anew when they are opened next.
constexpr std::size_t kMostVerdicts = 1 << 18;
// From here on several threads measure one object.
constexpr std::uint64_t kLarge = 8 << 20;
// Longer than the kernel's clock of time stamps takes from one value to the next (10 ms at most), and than file systems
// do that keep whole seconds.
constexpr std::chrono::milliseconds kTick(50), kCoarseTick(2100);

std::string_view without_slashes(std::string_view path) {
  path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
  return path;
}

// Whether a change now would give another time.
bool settled(const timespec& changed) {
  return std::chrono::abs(sys::age(changed)) > (changed.tv_nsec == 0 ? kCoarseTick : kTick);
}

// For the log: an image may say any bytes.
std::string shown(const ObjectName& object) {
  std::string text;
  append_escaped(text, object.path, {.spaces_stay = true});
  return text;
}

}  // namespace

Result<ObjectName> parse_object_name(std::string_view redirect, std::string_view metacopy, std::uint64_t size) {
  ObjectName object{.path = {}, .size = size, .digest = {}};
  if (!redirect.starts_with('/')) return fail(EIO);  // only absolute ones lead into object directories
  object.path = without_slashes(redirect);
  if (object.path.empty()) return fail(EIO);
  if (metacopy.empty()) return object;
  if (metacopy.size() < kMetacopyHeader) return fail(EIO);
  const auto byte = [metacopy](std::size_t at) { return static_cast<unsigned char>(metacopy[at]); };
  if (byte(0) != 0 || byte(1) != metacopy.size() || byte(2) != 0) return fail(EIO);
  if (metacopy.size() == kMetacopyHeader && byte(3) == 0) return object;
  const VerityFormat format{.hash = static_cast<Hash>(byte(3)), .block_bits = 12};
  if (format.hash != Hash::kSha256 && format.hash != Hash::kSha512) return fail(EIO);
  const std::string_view bytes = metacopy.substr(kMetacopyHeader);
  if (bytes.size() != format.digest_size()) return fail(EIO);
  object.digest.emplace();
  object.digest->size = static_cast<std::uint8_t>(bytes.size());
  std::memcpy(object.digest->bytes.data(), bytes.data(), bytes.size());
  return object;
}

Objects::Objects(std::vector<sys::UniqueFd> directories, Verify verify)
    : directories_(std::move(directories)), verify_(verify) {}

Objects::Identity Objects::identity_of(const sys::Statx& st, std::uint8_t digest_size) {
  return {.dev = st.dev,
          .ino = st.ino,
          .size = st.size,
          .mtime = st.mtime.tv_sec,
          .ctime = st.ctime.tv_sec,
          .mtime_nsec = st.mtime.tv_nsec,
          .ctime_nsec = st.ctime.tv_nsec,
          .digest_size = digest_size};
}

Result<sys::UniqueFd> open_object(std::span<const sys::UniqueFd> directories, std::string_view path) {
  path = without_slashes(path);
  if (path.empty()) return fail(ENOENT);
  Errno why(ENOENT);
  for (const sys::UniqueFd& directory : directories) {
    // An object that is a fifo must not hold us up.
    auto file = sys::open_beneath(directory, path, O_RDONLY | O_NONBLOCK, sys::MountsBelow::kRefused);
    if (file) return file;
    if (file.error() != ENOENT) why = file.error();
  }
  return fail(why);
}

Result<Objects::Opened> Objects::open(const ObjectName& object) {
  auto file = open_object(directories_, object.path);
  if (!file && (file.error() == EMFILE || file.error() == ENFILE)) return fail(file.error());
  if (!file) {
    log::error("object {}: {}", shown(object), file.error().message());
    return fail(EIO);
  }
  const Checked checked = TRY(check(object, *file));
  return Opened{.file = std::move(*file), .fingerprint = checked.fingerprint};
}

Result<Objects::Checked> Objects::check(const ObjectName& object, sys::FdRef file) {
  const sys::Statx st = TRY(sys::statx(file, ""));
  if (!st.is_regular()) {
    log::error("object {}: is no regular file", shown(object));
    return fail(EIO);
  }
  if (st.size != object.size) {
    log::error("object {}: has {} bytes, the image says {}", shown(object), st.size, object.size);
    return fail(EIO);
  }
  if (verify_ != Verify::kNo) TRY(check_digest(object, file, st));
  // What may yet change without another time is never the same twice.
  const std::uint64_t turn = settled(st.ctime) ? 0 : ++unsettled_;
  return Checked{.fingerprint = absl::HashOf(identity_of(st, 0), turn), .has_name = st.nlink != 0};
}

Status Objects::check_digest(const ObjectName& object, sys::FdRef file, const sys::Statx& st) {
  if (!object.digest) {
    if (verify_ == Verify::kTry) return {};
    log::error("object {}: the image has no digest for it, and only checked files may be read", shown(object));
    return fail(EIO);
  }
  const Identity identity = identity_of(st, object.digest->size);
  std::optional<Digest> found;
  {
    MutexLock lock(mutex_);
    if (const auto known = verdicts_.find(identity); known != verdicts_.end()) found = known->second;
  }
  if (!found) {
    const bool was_settled = settled(st.ctime);
    const Hash hash = object.digest->size == VerityFormat{}.digest_size() ? Hash::kSha256 : Hash::kSha512;
    const auto measured =
        measure_digest(file, {.hash = hash, .block_bits = 12}, st.size >= kLarge ? default_threads() : 1);
    if (!measured) {
      log::error("object {}: cannot be measured: {}", shown(object), measured.error().message());
      return fail(EIO);
    }
    found = *measured;
    // What changed under the measuring eye has no verdict.
    if (identity_of(TRY(sys::statx(file, "")), object.digest->size) != identity) {
      log::error("object {}: changed while it was measured", shown(object));
      return fail(EIO);
    }
    MutexLock lock(mutex_);
    ++measured_;
    // A change within the same tick of the clock would leave the times as they are.
    if (was_settled) {
      if (verdicts_.size() >= kMostVerdicts) verdicts_.clear();
      verdicts_.emplace(identity, *found);
    }
  }
  if (*found != *object.digest) {
    log::error("object {}: wrong content: digest expected {}, found {}", shown(object), object.digest->hex(),
               found->hex());
    return fail(EIO);
  }
  return {};
}

std::uint64_t Objects::measured() const {
  MutexLock lock(mutex_);
  return measured_;
}

}  // namespace vellum::composefs
