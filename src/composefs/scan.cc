#include "composefs/scan.h"

#include <absl/container/flat_hash_map.h>
#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/crew.h"
#include "sys/file.h"

namespace vellum::composefs {
namespace {

constexpr std::size_t kChunkEntries = 64;                // of one directory, taken by one thread
constexpr std::uint64_t kWhole = 1 << 20;                // files up to this are read at once
constexpr std::uint64_t kBig = std::uint64_t{16} << 20;  // files from here on are digested by all threads together

struct Entry {
  std::string name;
  bool is_dir = false;
  sys::Statx status;
  std::string target;
  std::string content;
  std::optional<Digest> digest;
  std::vector<std::pair<std::string, std::string>> xattrs;
};

// Either a directory to be listed, or some names of one.
struct Task {
  NodeId dir = kNoNode;
  std::string path;  // relative to the root, "" for it
  bool listed = false;
  std::vector<Entry> entries;
};

struct BigFile {
  NodeId node;
  std::string path;
  sys::Statx status;
};

constexpr int kReadFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;  // a FIFO in a file's place must not hold us up

// That the open file is the one whose attributes were taken, and still as it was then. Another of the same size may
// have come in its place, or its content may be another now.
Status expect_unchanged(sys::FdRef file, const sys::Statx& then) {
  const auto same_time = [](const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
  };
  const sys::Statx now = TRY(sys::statx(file, ""));
  const bool same = now.dev == then.dev && now.ino == then.ino && now.mode == then.mode && now.size == then.size &&
                    same_time(now.mtime, then.mtime) && same_time(now.ctime, then.ctime);
  return same ? Status() : Status(fail(EBUSY));
}

class Scanner {
 public:
  Scanner(std::string root_name, const ScanOptions& options)
      : root_name_(std::move(root_name)),
        options_(options),
        threads_(options.threads > 0 ? options.threads : default_threads()) {}
  std::expected<Tree, std::string> scan();

 private:
  using Done = std::expected<void, std::string>;
  struct Reader {  // what a thread has of its own
    std::vector<std::byte> buffer;
    std::optional<StoreWriter> store;
  };

  Done start();
  void work();
  std::optional<Task> next_task();
  void finish_task(Done done);
  Done run(Task task, Reader& reader);
  Done list(Task task, Reader& reader);
  Done read_entries(Task& task, sys::FdRef dir, Reader& reader);
  Status read_attributes(sys::FdRef dir, const char* name, Entry& entry);
  Status read_content(sys::FdRef dir, const char* name, Entry& entry, Reader& reader);
  void merge(Task& task);
  void fill(NodeId id, const Entry& entry);
  Done read_big_files();
  void join_hard_links();

  std::unexpected<std::string> failed(std::string_view path, Errno error) const {
    return std::unexpected(fmt::format("error accessing {}{}{}: {}", root_name_,
                                       path.empty() || root_name_.ends_with('/') ? "" : "/", path, error.message()));
  }

  const std::string root_name_;
  const ScanOptions& options_;
  const unsigned threads_;
  sys::UniqueFd root_;

  std::mutex mutex_;  // all below
  std::condition_variable changed_;
  std::vector<Task> tasks_;  // the last first: few directories are under way at a time
  std::size_t running_ = 0;
  std::optional<std::string> error_;
  Tree tree_;
  std::vector<BigFile> big_;
  absl::flat_hash_map<std::pair<std::uint64_t, std::uint64_t>, std::vector<NodeId>> names_of_;  // by device and inode
};

Scanner::Done Scanner::start() {
  auto root = sys::open(root_name_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!root) return failed("", root.error());
  root_ = std::move(*root);
  Entry entry;
  entry.is_dir = true;
  if (const Status read = read_attributes(root_, "", entry); !read) return failed("", read.error());
  fill(tree_.add(kNoNode, ""), entry);
  tasks_.push_back({.dir = kRoot, .path = {}, .listed = false, .entries = {}});
  return {};
}

std::optional<Task> Scanner::next_task() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return error_ || !tasks_.empty() || running_ == 0; });
  if (error_ || tasks_.empty()) return std::nullopt;
  Task task = std::move(tasks_.back());
  tasks_.pop_back();
  ++running_;
  return task;
}

void Scanner::finish_task(Done done) {
  const std::lock_guard lock(mutex_);
  --running_;
  if (!done && !error_) error_ = done.error();
  changed_.notify_all();
}

void Scanner::work() {
  Reader reader;
  if (options_.store != nullptr) reader.store.emplace(*options_.store);
  while (auto task = next_task()) finish_task(run(std::move(*task), reader));
  if (!reader.store) return;
  {
    const std::lock_guard lock(mutex_);
    if (error_) return;
  }
  if (const Status flushed = reader.store->flush(); !flushed) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = fmt::format("cannot fill store: {}", flushed.error().message());
  }
}

Scanner::Done Scanner::run(Task task, Reader& reader) {
  if (!task.listed) return list(std::move(task), reader);
  const auto dir = sys::open_beneath(root_, task.path.empty() ? "." : task.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!dir) return failed(task.path, dir.error());
  return read_entries(task, *dir, reader);
}

Scanner::Done Scanner::list(Task task, Reader& reader) {
  const auto dir = sys::open_beneath(root_, task.path.empty() ? "." : task.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!dir) return failed(task.path, dir.error());
  std::vector<Entry> names;
  const Status read = sys::read_dir(*dir, [&](std::string_view name, std::uint64_t, unsigned char) {
    names.emplace_back().name = name;
    return true;
  });
  if (!read) return failed(task.path, read.error());
  task.listed = true;
  // Others may help with a directory that has many names; the first part stays here.
  while (names.size() > kChunkEntries) {
    Task part{.dir = task.dir, .path = task.path, .listed = true, .entries = {}};
    const auto from = names.end() - static_cast<std::ptrdiff_t>(kChunkEntries);
    part.entries.assign(std::make_move_iterator(from), std::make_move_iterator(names.end()));
    names.erase(from, names.end());
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(part));
    changed_.notify_one();
  }
  task.entries = std::move(names);
  return read_entries(task, *dir, reader);
}

Scanner::Done Scanner::read_entries(Task& task, sys::FdRef dir, Reader& reader) {
  std::erase_if(task.entries, [](const Entry& entry) { return entry.name.empty(); });
  for (Entry& entry : task.entries) {
    Status read = read_attributes(dir, entry.name.c_str(), entry);
    if (read && entry.status.is_regular() && entry.status.size > 0 && entry.status.size < kBig)
      read = read_content(dir, entry.name.c_str(), entry, reader);
    if (!read) return failed(task.path.empty() ? entry.name : task.path + "/" + entry.name, read.error());
  }
  merge(task);
  return {};
}

Status Scanner::read_attributes(sys::FdRef dir, const char* name, Entry& entry) {
  entry.status = TRY(sys::statx(dir, name));
  entry.is_dir = entry.status.is_dir();
  if (entry.status.is_symlink()) entry.target = TRY(sys::readlink(dir, name));
  if (options_.skip_xattrs) return {};
  const Result<std::string> list = sys::listxattr(dir, name);
  if (!list && list.error() == EOPNOTSUPP) return {};  // a file system without them
  const std::string names = TRY(Result<std::string>(list));
  for (std::size_t at = 0; at < names.size();) {
    const std::string xattr = names.c_str() + at;
    at += xattr.size() + 1;
    if (options_.user_xattrs && !xattr.starts_with("user.")) continue;
    Result<std::string> value = sys::getxattr(dir, name, xattr.c_str());
    if (!value && value.error() == ENODATA) continue;  // taken away meanwhile
    entry.xattrs.emplace_back(xattr, TRY(std::move(value)));
  }
  std::size_t budget = kXattrBudgetFirst;
  for (const auto& [key, value] : entry.xattrs) budget += xattr_cost(key.size(), value.size());
  return budget > kXattrBudget && !entry.xattrs.empty() ? Status(fail(ERANGE)) : Status();
}

Status Scanner::read_content(sys::FdRef dir, const char* name, Entry& entry, Reader& reader) {
  const sys::UniqueFd file = TRY(sys::openat(dir, name, kReadFlags));
  TRY(expect_unchanged(file, entry.status));
  const std::uint64_t size = entry.status.size;
  if (size > kWhole) {
    entry.digest = TRY(compute_digest(file, size));
    TRY(expect_unchanged(file, entry.status));
    return reader.store ? reader.store->add(file, size, *entry.digest) : Status();
  }
  // One byte more than expected tells whether the file grew.
  if (reader.buffer.empty()) reader.buffer.resize(kWhole + 1);
  const std::size_t got = TRY(sys::pread(file, std::span(reader.buffer).first(static_cast<std::size_t>(size) + 1), 0));
  if (got != size) return fail(EBUSY);
  TRY(expect_unchanged(file, entry.status));
  const auto bytes = std::span(reader.buffer).first(got);
  if (size <= kInlineWanted) {
    std::ranges::transform(bytes, std::back_inserter(entry.content), [](std::byte b) { return static_cast<char>(b); });
    return {};
  }
  entry.digest = digest_of_bytes(bytes);
  return reader.store ? reader.store->add(bytes, *entry.digest) : Status();
}

void Scanner::merge(Task& task) {
  const std::lock_guard lock(mutex_);
  for (Entry& entry : task.entries) {
    const bool is_device = S_ISCHR(entry.status.mode) || S_ISBLK(entry.status.mode);
    if (is_device && options_.skip_devices) continue;
    const NodeId id = tree_.add(task.dir, entry.name);
    fill(id, entry);
    std::string path = task.path.empty() ? entry.name : task.path + "/" + entry.name;
    if (entry.is_dir) {
      tasks_.push_back({.dir = id, .path = std::move(path), .listed = false, .entries = {}});
    } else {
      if (options_.hard_links && entry.status.nlink > 1)
        names_of_[std::pair(std::uint64_t{entry.status.dev}, entry.status.ino)].push_back(id);
      if (entry.status.is_regular() && entry.status.size >= kBig) big_.push_back({id, std::move(path), entry.status});
    }
  }
  changed_.notify_all();
}

void Scanner::fill(NodeId id, const Entry& entry) {
  Node& node = tree_[id];
  node.mode = entry.status.mode;
  node.uid = entry.status.uid;
  node.gid = entry.status.gid;
  node.rdev = static_cast<std::uint32_t>(entry.status.rdev);
  node.size = entry.status.size;
  if (!options_.use_epoch) {
    node.mtime = entry.status.mtime.tv_sec;
    node.mtime_nsec = static_cast<std::uint32_t>(entry.status.mtime.tv_nsec);
  }
  if (node.is_symlink()) {
    node.payload = tree_.keep(entry.target);
    node.size = entry.target.size();
  }
  if (!entry.content.empty()) tree_.set_content(node, entry.content);
  if (entry.digest) {
    tree_.set_digest(node, entry.digest->view());
    node.payload = tree_.keep(entry.digest->object_path());
  }
  if (entry.xattrs.empty()) return;
  std::vector<XattrId> ids;
  ids.reserve(entry.xattrs.size());
  for (const auto& [name, value] : entry.xattrs) ids.push_back(tree_.intern_xattr(name, value));
  tree_.set_xattrs(id, ids);
}

// After all others, one at a time: each is work for all threads.
Scanner::Done Scanner::read_big_files() {
  std::optional<StoreWriter> store;
  if (options_.store != nullptr) store.emplace(*options_.store);
  const auto read = [&](const BigFile& big) -> Status {
    const sys::UniqueFd file = TRY(sys::open_beneath(root_, big.path, kReadFlags));
    TRY(expect_unchanged(file, big.status));
    Node& node = tree_[big.node];
    const Digest digest = TRY(compute_digest(file, node.size, {}, threads_));
    TRY(expect_unchanged(file, big.status));
    tree_.set_digest(node, digest.view());
    node.payload = tree_.keep(digest.object_path());
    return store ? store->add(file, node.size, digest, threads_) : Status();
  };
  for (const BigFile& big : big_)
    if (const Status done = read(big); !done) return failed(big.path, done.error());
  if (!store) return {};
  const Status flushed = store->flush();
  if (!flushed) return std::unexpected(fmt::format("cannot fill store: {}", flushed.error().message()));
  return {};
}

// The first name, in the order of a dump, is the file; the others are links to it.
void Scanner::join_hard_links() {
  absl::flat_hash_map<std::uint32_t, std::vector<NodeId>*> group;
  for (auto& [inode, names] : names_of_) {
    if (names.size() < 2) continue;
    for (const NodeId id : names) group.emplace(raw(id), &names);
  }
  if (group.empty()) return;
  walk(tree_, [&](NodeId id, std::string_view) {
    const auto found = group.find(raw(id));
    if (found == group.end() || found->second->empty()) return;
    tree_[id].nlink = static_cast<std::uint32_t>(found->second->size());
    for (const NodeId other : *found->second)
      if (other != id) tree_[other].link = id;
    found->second->clear();
  });
}

std::expected<Tree, std::string> Scanner::scan() {
  if (const Done started = start(); !started) return std::unexpected(started.error());
  run_crew(threads_, [this] { work(); });
  if (error_) return std::unexpected(*error_);
  if (const Done done = read_big_files(); !done) return std::unexpected(done.error());
  if (options_.store != nullptr) {
    if (const Status synced = options_.store->sync(); !synced)
      return std::unexpected(fmt::format("cannot fill store: {}", synced.error().message()));
  }
  if (auto finished = tree_.finish(); !finished) return std::unexpected(finished.error());
  if (options_.hard_links) join_hard_links();
  return std::move(tree_);
}

}  // namespace

std::expected<Tree, std::string> scan(const std::string& path, const ScanOptions& options) {
  if (options.skip_xattrs && options.user_xattrs)
    return std::unexpected(fmt::format("error accessing {}: {}", path, Errno(EINVAL).message()));
  return Scanner(path, options).scan();
}

}  // namespace vellum::composefs
