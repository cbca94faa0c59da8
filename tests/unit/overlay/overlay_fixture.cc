#include "unit/overlay/overlay_fixture.h"

#include <dirent.h>
#include <sys/sysmacros.h>

#include <algorithm>

namespace vellum::overlay::testing {
namespace {

template <class... Fns>
struct Overloaded : Fns... {
  using Fns::operator()...;
};

struct Collect final : fuse::DirSink {
  bool add(std::string_view name, std::uint64_t ino, std::uint32_t type, std::uint64_t next) override {
    EXPECT_TRUE(seen.emplace(std::string(name), Seen{ino, type}).second) << name << " came twice";
    EXPECT_GT(next, last);
    last = next;
    ++count;
    return true;
  }
  std::map<std::string, Seen> seen;
  std::uint64_t last = 0;
  std::size_t count = 0;
};

}  // namespace

void make_tree(const std::string& root, const Tree& tree) {
  for (const auto& [name, item] : tree) {
    const std::string path = name.empty() ? root : root + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    auto mark = [&path](const Xattrs& xattrs) {
      for (const auto& [attribute, value] : xattrs) ASSERT_TRUE(set_xattr(path, attribute, value)) << path << attribute;
    };
    std::visit(
        Overloaded{[&](const File& file) {
                     write_file(path, file.content, file.mode);
                     mark(file.xattrs);
                   },
                   [&](const Dir& dir) {
                     std::filesystem::create_directory(path);
                     ASSERT_EQ(::chmod(path.c_str(), dir.mode), 0);
                     mark(dir.xattrs);
                   },
                   [&](const Symlink& link) { ASSERT_EQ(::symlink(link.target.c_str(), path.c_str()), 0); },
                   [&](const Special& node) { ASSERT_EQ(::mknod(path.c_str(), node.mode, node.rdev), 0) << path; },
                   [&](const HardLink& link) { ASSERT_EQ(::link((root + "/" + link.to).c_str(), path.c_str()), 0); }},
        item);
  }
}

OverlayFixture::OverlayFixture(Spec spec) : dir_(spec.base), spec_(std::move(spec)) {
  const bool on_others = spec_.lower.empty() && !spec_.options.lower_dirs.empty();
  if (spec_.lowers.empty() && !on_others) spec_.lowers.push_back(spec_.lower);
  for (std::size_t layer = 0; layer < spec_.lowers.size(); ++layer) {
    std::filesystem::create_directory(lower({}, layer));
    make_tree(lower({}, layer), spec_.lowers[layer]);
    spec_.options.lower_dirs.push_back(lower({}, layer));
  }
  if (!spec_.read_only) {
    std::filesystem::create_directory(upper());
    std::filesystem::create_directory(dir_ / "work");
    make_tree(upper(), spec_.upper);
    spec_.options.upper_dir = upper();
    spec_.options.work_dir = dir_ / "work";
  }
  start();
}

OverlayFixture::~OverlayFixture() {
  loopback_.reset();
  if (engine_) engine_->destroy();
}

void OverlayFixture::start() {
  auto created = Overlay::create(spec_.options);
  if (!created) {
    ADD_FAILURE() << created.error().why;
    std::abort();
  }
  engine_ = std::move(*created);
  fs_ = engine_.get();
  if (spec_.through_wire) {
    loopback_ = std::make_unique<fuse::Loopback>(*engine_);
    EXPECT_TRUE(loopback_->started());
    fs_ = &loopback_->client();
  }
}

void OverlayFixture::remount() {
  counted_.clear();
  loopback_.reset();
  engine_->destroy();
  engine_.reset();
  start();
}

std::string OverlayFixture::lower(const std::string& path, std::size_t layer) const {
  return dir_ / ("lower" + std::to_string(layer) + slash(path));
}

std::set<std::string> OverlayFixture::names_on_disk(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) names.insert(entry.path().filename());
  return names;
}

std::set<std::string> OverlayFixture::litter() const {
  std::set<std::string> left;
  for (const std::string& name : names_on_disk(dir_ / "work/work")) {
    // Kept on purpose while mounted: the whiteout others are linked from, and copied-up hard links.
    if (name != "#whiteout" && !name.starts_with("#link")) left.insert(name);
  }
  return left;
}

Result<fuse::Entry> OverlayFixture::look(const std::string& path) {
  fuse::NodeId at = fuse::NodeId::kRoot;
  fuse::Entry entry;
  if (path.empty()) {
    entry.node = at;
    entry.attr = TRY(fs_->getattr(caller, at, std::nullopt)).attr;
    return entry;
  }
  for (std::size_t begin = 0; begin <= path.size();) {
    std::size_t end = std::min(path.find('/', begin), path.size());
    entry = TRY(fs_->lookup(caller, at, path.substr(begin, end - begin)));
    if (entry.node == fuse::NodeId::kNone) return fail(ENOENT);
    count(entry.node);
    at = entry.node;
    begin = end + 1;
  }
  return entry;
}

fuse::NodeId OverlayFixture::node(const std::string& path) {
  auto entry = look(path);
  EXPECT_TRUE(entry) << path;
  return entry ? entry->node : fuse::NodeId::kNone;
}

fuse::Attr OverlayFixture::attr(const std::string& path) {
  auto entry = look(path);
  EXPECT_TRUE(entry) << path;
  if (!entry) return {};
  auto got = fs_->getattr(caller, entry->node, std::nullopt);
  EXPECT_TRUE(got) << path;
  return got ? got->attr : fuse::Attr{};
}

Result<std::pair<fuse::NodeId, std::string>> OverlayFixture::parent_of(const std::string& path) {
  auto slash_at = path.rfind('/');
  if (slash_at == std::string::npos) return std::make_pair(fuse::NodeId::kRoot, path);
  return std::make_pair(TRY(look(path.substr(0, slash_at))).node, path.substr(slash_at + 1));
}

Result<fuse::HandleId> OverlayFixture::open(const std::string& path, int flags) {
  return TRY(fs_->open(caller, TRY(look(path)).node, flags, false)).handle;
}

Result<std::string> OverlayFixture::read_handle(fuse::NodeId id, fuse::HandleId handle, std::uint64_t offset) {
  std::string text;
  for (;;) {
    std::string part(65536, '\0');
    std::size_t got = TRY(fs_->read(caller, id, handle, offset + text.size(), std::as_writable_bytes(std::span(part))));
    text.append(part, 0, got);
    if (got < part.size()) return text;
  }
}

Result<std::size_t> OverlayFixture::write_handle(fuse::NodeId id, fuse::HandleId handle, std::uint64_t offset,
                                                 const std::string& content) {
  return fs_->write(caller, id, handle, offset, std::as_bytes(std::span(content)), false);
}

Result<std::string> OverlayFixture::read(const std::string& path) {
  fuse::NodeId id = TRY(look(path)).node;
  fuse::HandleId handle = TRY(fs_->open(caller, id, O_RDONLY, false)).handle;
  auto text = read_handle(id, handle);
  fs_->release(id, handle);
  return text;
}

Status OverlayFixture::write(const std::string& path, const std::string& content, int flags) {
  fuse::NodeId id = TRY(look(path)).node;
  fuse::HandleId handle = TRY(fs_->open(caller, id, flags, false)).handle;
  auto written = write_handle(id, handle, 0, content);
  fs_->release(id, handle);
  if (!written) return fail(written.error());
  EXPECT_EQ(*written, content.size());
  return {};
}

Status OverlayFixture::keep(const Result<fuse::Entry>& entry) {
  if (!entry) return fail(entry.error());
  EXPECT_NE(entry->node, fuse::NodeId::kNone);
  count(entry->node);
  return {};
}

Status OverlayFixture::create(const std::string& path, const std::string& content, std::uint32_t mode) {
  auto [parent, name] = TRY(parent_of(path));
  fuse::Created made = TRY(fs_->create(caller, parent, name, O_RDWR | O_CREAT | O_EXCL, mode, 022));
  count(made.entry.node);
  if (!content.empty()) TRY(write_handle(made.entry.node, made.open.handle, 0, content));
  fs_->release(made.entry.node, made.open.handle);
  return {};
}

Status OverlayFixture::mkdir(const std::string& path, std::uint32_t mode) {
  auto [parent, name] = TRY(parent_of(path));
  return keep(fs_->mkdir(caller, parent, name, mode, 022));
}

Status OverlayFixture::symlink(const std::string& target, const std::string& path) {
  auto [parent, name] = TRY(parent_of(path));
  return keep(fs_->symlink(caller, parent, name, target));
}

Status OverlayFixture::link(const std::string& from, const std::string& path) {
  fuse::NodeId id = TRY(look(from)).node;
  auto [parent, name] = TRY(parent_of(path));
  return keep(fs_->link(caller, id, parent, name));
}

Status OverlayFixture::unlink(const std::string& path) {
  auto [parent, name] = TRY(parent_of(path));
  return fs_->unlink(caller, parent, name);
}

Status OverlayFixture::rmdir(const std::string& path) {
  auto [parent, name] = TRY(parent_of(path));
  return fs_->rmdir(caller, parent, name);
}

Status OverlayFixture::rename(const std::string& from, const std::string& to, fuse::RenameFlags flags) {
  auto [parent, name] = TRY(parent_of(from));
  auto [new_parent, new_name] = TRY(parent_of(to));
  return fs_->rename(caller, parent, name, new_parent, new_name, flags);
}

Status OverlayFixture::set(const std::string& path, const fuse::SetAttr& change) {
  TRY(fs_->setattr(caller, TRY(look(path)).node, change));
  return {};
}

std::map<std::string, Seen> OverlayFixture::list(const std::string& path) {
  Collect sink;
  fuse::NodeId dir = node(path);
  auto opened = fs_->opendir(caller, dir, O_RDONLY);
  EXPECT_TRUE(opened) << path;
  if (!opened) return {};
  for (std::size_t before = 1; before != sink.count;) {
    before = sink.count;
    auto status = fs_->readdir(caller, dir, opened->handle, sink.last, sink);
    EXPECT_TRUE(status) << path;
    if (!status) break;
  }
  fs_->releasedir(dir, opened->handle);
  return std::move(sink.seen);
}

std::set<std::string> OverlayFixture::names(const std::string& path) {
  std::set<std::string> result;
  for (const auto& [name, seen] : list(path)) {
    if (name != "." && name != "..") result.insert(name);
  }
  return result;
}

void OverlayFixture::describe(const std::string& path, std::string& out) {
  for (const std::string& name : names(path)) {
    const std::string child = path.empty() ? name : path + "/" + name;
    auto entry = look(child);
    if (!entry) {
      out += child + "?" + std::to_string(entry.error().value()) + "\n";
    } else if (S_ISDIR(entry->attr.mode)) {
      out += child + "/\n";
      describe(child, out);
    } else if (S_ISREG(entry->attr.mode)) {
      out += child + "=" + read(child).value_or("<error>") + "\n";
    } else {
      out += child + "\n";
    }
  }
}

std::string OverlayFixture::whole_tree() {
  std::string out;
  describe({}, out);
  return out;
}

void OverlayFixture::forget_all() {
  for (auto [id, times] : counted_) fs_->forget(id, times);
  counted_.clear();
  // Over the wire a FORGET has no reply; one worker answers in order.
  ignore(fs_->statfs(caller, fuse::NodeId::kRoot));
}

}  // namespace vellum::overlay::testing
