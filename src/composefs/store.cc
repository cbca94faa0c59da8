#include "composefs/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/scope.h"
#include "sys/file.h"
#include "sys/verity.h"

namespace vellum::composefs {
namespace {

constexpr std::size_t kBatchFiles = 128;  // or fewer, as the limit of open files has it
constexpr std::uint64_t kBatchBytes = std::uint64_t{256} << 20;
constexpr std::size_t kCopySize = 512 * 1024;

Status make_directories(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    const Status made = sys::mkdir_path(part.c_str(), 0755);
    // On a read-only file system even an existing directory is EROFS.
    if (!made && made.error() != EEXIST) {
      const auto there = sys::statx_path(part.c_str());
      if (!there || !there->is_dir()) return made;
    }
    if (end == std::string::npos) return {};
  }
}

Status write_fully(sys::FdRef file, std::span<const std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const std::size_t put = TRY(sys::pwrite(file, bytes, offset));
    if (put == 0) return fail(ENOSPC);
    bytes = bytes.subspan(put);
    offset += put;
  }
  return {};
}

// Copies and says what it copied.
Result<Digest> copy_and_digest(sys::FdRef from, sys::FdRef to, std::uint64_t size) {
  Digester digester;
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(kCopySize, size)));
  for (std::uint64_t at = 0; at < size;) {
    const auto part = std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(kCopySize, size - at)));
    const std::size_t got = TRY(sys::pread(from, part, at));
    if (got == 0) return fail(EBUSY);
    TRY(write_fully(to, part.first(got), at));
    digester.update(part.first(got));
    at += got;
  }
  return digester.finish();
}

}  // namespace

Result<Store> Store::open(const std::string& path) {
  TRY(make_directories(path));
  return Store(TRY(sys::open(path.c_str(), O_RDONLY | O_DIRECTORY)));
}

bool Store::has(const Digest& digest) const { return sys::statx(root_, digest.object_path().c_str()).has_value(); }

// Those that were there already may be of a run that was killed before it came to this.
Status Store::sync() const { return sys::syncfs(root_); }

std::size_t Store::batch_files() const {
  const std::size_t writers = std::max(1u, writers_.load());
  return std::clamp<std::size_t>(descriptors_ / writers, 1, kBatchFiles);
}

StoreWriter::~StoreWriter() {
  --store_.writers_;
  for (const Pending& each : pending_)
    if (!each.temporary.empty()) ignore(sys::unlink(store_.root_, each.temporary.c_str()));
}

Result<StoreWriter::Pending> StoreWriter::begin(const Digest& digest) {
  if (!spare_)
    if (auto spare = sys::dup(store_.root_)) spare_ = std::move(*spare);
  auto pending = open_temporary(digest);
  if (pending || pending.error() != EMFILE || pending_.empty()) return pending;
  // The rest of the process has more open than was thought: our own files need not stay open.
  spare_.reset();
  TRY(flush());
  return open_temporary(digest);
}

Result<StoreWriter::Pending> StoreWriter::open_temporary(const Digest& digest) {
  Pending pending{.file = {}, .temporary = {}, .object = digest.object_path()};
  if (store_.try_nameless_) {
    auto file = sys::openat(store_.root_, ".", O_TMPFILE | O_RDWR, 0644);
    if (file) {
      pending.file = std::move(*file);
      return pending;
    }
    if (file.error() != EOPNOTSUPP && file.error() != EISDIR && file.error() != EINVAL) return fail(file.error());
    store_.try_nameless_ = false;
  }
  for (;;) {
    pending.temporary = fmt::format(".tmp{:x}.{}", std::random_device()(), store_.temporary_++);
    auto file = sys::openat(store_.root_, pending.temporary.c_str(), O_CREAT | O_EXCL | O_RDWR, 0644);
    if (!file && file.error() == EEXIST) continue;  // left by a process that was killed
    pending.file = TRY(std::move(file));
    return pending;
  }
}

Status StoreWriter::add(std::span<const std::byte> content, const Digest& digest) {
  if (store_.has(digest)) return {};
  Pending pending = TRY(begin(digest));
  auto undo = on_failure([&] {
    if (!pending.temporary.empty()) ignore(sys::unlink(store_.root_, pending.temporary.c_str()));
  });
  TRY(write_fully(pending.file, content, 0));
  undo.done();
  return queue(std::move(pending), content.size());
}

Status StoreWriter::add(sys::FdRef source, std::uint64_t size, const Digest& digest, unsigned threads) {
  if (store_.has(digest)) return {};
  Pending pending = TRY(begin(digest));
  auto undo = on_failure([&] {
    if (!pending.temporary.empty()) ignore(sys::unlink(store_.root_, pending.temporary.c_str()));
  });
  bool cloned = false;
  if (store_.try_clone_) {
    const Status clone = sys::clone_file(source, pending.file);
    cloned = clone.has_value();
    // Another file system: the next file is no different. Others may be a matter of this file.
    if (!clone && (clone.error() == EXDEV || clone.error() == EOPNOTSUPP || clone.error() == ENOTTY))
      store_.try_clone_ = false;
  }
  // The source may have changed since it was digested. What counts is what lies in the store.
  Digest stored;
  if (cloned) {
    const sys::Statx clone = TRY(sys::statx(pending.file, ""));
    if (clone.size != size) return fail(EBUSY);
    stored = TRY(compute_digest(pending.file, size, {}, threads));
  } else {
    stored = TRY(copy_and_digest(source, pending.file, size));
  }
  if (stored != digest) return fail(EBUSY);
  undo.done();
  return queue(std::move(pending), cloned ? 0 : size);
}

Status StoreWriter::queue(Pending pending, std::uint64_t size) {
  pending_.push_back(std::move(pending));
  pending_bytes_ += size;
  return pending_.size() >= store_.batch_files() || pending_bytes_ >= kBatchBytes ? flush() : Status();
}

Status StoreWriter::flush() {
  if (pending_.empty()) return {};
  for (const Pending& each : pending_) TRY(sys::chmod(each.file, "", 0644));  // whatever the umask took
  TRY(pending_.size() == 1 ? sys::fsync(pending_[0].file) : sys::syncfs(store_.root_));
  for (Pending& each : pending_) TRY(commit(each));
  pending_.clear();
  pending_bytes_ = 0;
  return {};
}

Status StoreWriter::commit(Pending& pending) {
  if (store_.try_verity_) {
    // The kernel wants no writer of the file. A nameless one must be held by another fd meanwhile.
    sys::UniqueFd reader = TRY(sys::reopen(pending.file, O_RDONLY));
    pending.file = std::move(reader);
    const Status enabled = sys::enable_verity(pending.file, sys::kVeritySha256, 4096);
    if (!enabled && (enabled.error() == ENOTTY || enabled.error() == EOPNOTSUPP)) store_.try_verity_ = false;
  }
  const Status made = sys::mkdir(store_.root_, pending.object.substr(0, 2).c_str(), 0755);
  if (!made && made.error() != EEXIST) return made;
  const Status linked = pending.temporary.empty()
                            ? sys::link_fd(pending.file, store_.root_, pending.object.c_str())
                            : sys::link(store_.root_, pending.temporary.c_str(), store_.root_, pending.object.c_str());
  // Somebody else had the same content: theirs stays.
  if (!linked && linked.error() != EEXIST) return linked;
  if (!pending.temporary.empty()) {
    TRY(sys::unlink(store_.root_, pending.temporary.c_str()));
    pending.temporary.clear();
  }
  pending.file.reset();
  return {};
}

}  // namespace vellum::composefs
