#include "tree.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace vellum::random_test {
namespace {

constexpr std::array<mode_t, 9> kFileModes = {0644, 0755, 0444, 0000, 0600, 04755, 02755, 0666, 0777};
constexpr std::array<mode_t, 8> kDirectoryModes = {0755, 0755, 0700, 0777, 01777, 02775, 0555, 0711};
constexpr std::array<uid_t, 4> kIds = {0, 0, 1000, 1001};

bool is_directory(const Tree& tree, const std::string& path) {
  if (path.empty()) return true;
  const auto found = tree.find(path);
  return found != tree.end() && found->second.kind == Kind::kDirectory;
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string name_in(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

void erase_below(Tree& tree, const std::string& path) {
  const std::string prefix = path + "/";
  auto from = tree.lower_bound(prefix);
  while (from != tree.end() && from->first.starts_with(prefix)) from = tree.erase(from);
}

void merge_into(Tree& below_tree, const Tree& layer) {
  for (const auto& [path, node] : layer) {
    const bool unites = node.kind == Kind::kDirectory && is_directory(below_tree, path) && !node.opaque;
    if (!unites) erase_below(below_tree, path);
    if (node.kind == Kind::kWhiteout) {
      below_tree.erase(path);
    } else {
      below_tree[path] = node;
      below_tree[path].opaque = false;
    }
  }
}

Node random_node(Random& random, Kind kind, const Features& features) {
  Node node;
  node.kind = kind;
  node.mode = kind == Kind::kDirectory ? pick(random, kDirectoryModes) : pick(random, kFileModes);
  if (kind == Kind::kSymlink) node.mode = 0777;
  node.uid = pick(random, kIds);
  node.gid = pick(random, kIds);
  node.mtime = 1'000'000'000 + static_cast<std::int64_t>(below(random, 100'000'000));
  if (kind == Kind::kFile) node.data = random_content(random);
  if (kind == Kind::kSymlink) node.data = chance(random, 3) ? std::string(4000, 't') : random_path(random, features);
  if (kind != Kind::kFile && kind != Kind::kDirectory) return node;
  if (chance(random, 20)) node.xattrs["user.x"] = random_content(random).substr(0, 300);
  if (features.special_xattrs && chance(random, 10)) node.xattrs["trusted.t"] = "layer";
  if (features.special_xattrs && kind == Kind::kFile && chance(random, 5))
    node.xattrs["security.capability"] = file_capability();
  if (features.acls && chance(random, 10)) node.xattrs["system.posix_acl_access"] = random_acl(random);
  if (features.acls && kind == Kind::kDirectory && chance(random, 10))
    node.xattrs["system.posix_acl_default"] = random_acl(random);
  return node;
}

Kind random_kind(Random& random, const Features& features) {
  const auto roll = below(random, 100);
  if (roll < 45) return Kind::kFile;
  if (roll < 70) return Kind::kDirectory;
  if (roll < 80) return features.symlinks_in_layers ? Kind::kSymlink : Kind::kFile;
  if (roll < 85) return Kind::kFifo;
  if (roll < 88 && features.devices) return Kind::kDevice;
  return Kind::kWhiteout;
}

// Makes the directories above `path` in this layer; false if something else is in the way.
bool add_parents(Random& random, Tree& layer, const std::string& path, const Features& features) {
  for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    const auto found = layer.find(parent);
    if (found == layer.end())
      layer[parent] = random_node(random, Kind::kDirectory, features);
    else if (found->second.kind != Kind::kDirectory)
      return false;
  }
  return true;
}

// A directory of this layer merges if the tree below has one at the same path and no opaque one stands between.
bool merges(const Tree& layer, const Tree& below_tree, const std::string& directory) {
  if (below_tree.empty()) return false;
  for (std::string path = directory; !path.empty(); path = parent_of(path)) {
    const auto found = layer.find(path);
    if (found == layer.end() || found->second.opaque) return false;
    if (!is_directory(below_tree, path)) return false;
  }
  return true;
}

Tree random_layer(Random& random, const Tree& below_tree, const Features& features) {
  Tree layer;
  const auto wanted = 3 + below(random, 12);
  for (std::uint64_t i = 0; i < wanted; ++i) {
    // Names that stand below are met on purpose more often than chance would.
    std::string path = random_path(random, features);
    if (!below_tree.empty() && chance(random, 50))
      path = std::next(below_tree.begin(), static_cast<std::ptrdiff_t>(below(random, below_tree.size())))->first;
    if (layer.contains(path) || !add_parents(random, layer, path, features)) continue;
    const Kind kind = random_kind(random, features);
    if (kind == Kind::kWhiteout && !merges(layer, below_tree, parent_of(path))) continue;
    layer[path] = random_node(random, kind, features);
    if (kind == Kind::kDirectory && is_directory(below_tree, path)) layer[path].opaque = chance(random, 25);
  }
  return layer;
}

void add_hard_links(Random& random, Tree& layer) {
  std::vector<std::string> files;
  for (const auto& [path, node] : layer)
    if (node.kind == Kind::kFile) files.push_back(path);
  for (std::size_t i = 0; i < 2 && !files.empty(); ++i) {
    const std::string& target = pick(random, files);
    Node link = layer[target];
    link.link_to = target;
    layer[fmt::format("link{}", i)] = link;
  }
}

void must(bool good, const std::string& what) {
  if (good) return;
  fmt::print(stderr, "cannot prepare {}: {}\n", quoted(what), std::strerror(errno));
  std::abort();
}

void write_file(const std::string& path, const std::string& data) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
  must(fd >= 0, path);
  // Blocks of zeros become holes.
  for (std::size_t at = 0; at < data.size(); at += 4096) {
    const std::string block = data.substr(at, 4096);
    if (block.find_first_not_of('\0') == std::string::npos) continue;
    must(::pwrite(fd, block.data(), block.size(), static_cast<off_t>(at)) == static_cast<ssize_t>(block.size()), path);
  }
  must(::ftruncate(fd, static_cast<off_t>(data.size())) == 0, path);
  ::close(fd);
}

void set_xattr(const std::string& path, const std::string& name, const std::string& value) {
  must(::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) == 0, path + " " + name);
}

void write_whiteout(const std::string& directory, const std::string& path, WhiteoutStyle style) {
  const std::string parent = parent_of(path).empty() ? directory : directory + "/" + parent_of(path);
  const std::string full = directory + "/" + path;
  switch (style) {
    case WhiteoutStyle::kDevice: must(::mknod(full.c_str(), S_IFCHR, makedev(0, 0)) == 0, full); break;
    case WhiteoutStyle::kDotWh: write_file(parent + "/.wh." + name_in(path), ""); break;
    case WhiteoutStyle::kXattr:
      write_file(full, "");
      set_xattr(full, "trusted.overlay.whiteout", "y");
      set_xattr(parent, "trusted.overlay.opaque", "x");
      break;
  }
}

void write_node(const Node& node, const std::string& directory, const std::string& path, WhiteoutStyle style) {
  const std::string full = directory + "/" + path;
  switch (node.kind) {
    case Kind::kFile: write_file(full, node.data); break;
    case Kind::kDirectory: must(::mkdir(full.c_str(), 0700) == 0, full); break;
    case Kind::kSymlink: must(::symlink(node.data.c_str(), full.c_str()) == 0, full); break;
    case Kind::kFifo: must(::mkfifo(full.c_str(), 0600) == 0, full); break;
    case Kind::kDevice: must(::mknod(full.c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0, full); break;
    case Kind::kWhiteout: write_whiteout(directory, path, style); return;
  }
}

void write_attributes(const Node& node, const std::string& full, WhiteoutStyle style) {
  must(::lchown(full.c_str(), node.uid, node.gid) == 0, full);
  if (node.kind != Kind::kSymlink) must(::chmod(full.c_str(), node.mode) == 0, full);
  for (const auto& [name, value] : node.xattrs) set_xattr(full, name, value);
  if (!node.opaque) return;
  if (style == WhiteoutStyle::kDotWh)
    write_file(full + "/.wh..wh..opq", "");
  else
    set_xattr(full, "trusted.overlay.opaque", "y");
}

}  // namespace

bool chance(Random& random, unsigned percent) { return below(random, 100) < percent; }

std::uint64_t below(Random& random, std::uint64_t limit) { return random() % limit; }

std::string name_of(WhiteoutStyle style) {
  switch (style) {
    case WhiteoutStyle::kDevice: return "device";
    case WhiteoutStyle::kDotWh: return "dotwh";
    case WhiteoutStyle::kXattr: return "xattr";
  }
  return "?";
}

const std::vector<std::string>& names(const Features& features) {
  static const std::vector<std::string> plain = {"a", "b", "c", "d"};
  static const std::vector<std::string> odd = {
      "a", "b", "c", "d", "a", "b", "c", "..x", "new\nline", "\xff\xfe\x80", "co:lon,comma\\"};
  static const std::vector<std::string> odd_and_long = [] {
    std::vector<std::string> all = odd;
    all.emplace_back(255, 'n');
    return all;
  }();
  if (!features.odd_names) return plain;
  return features.long_names ? odd_and_long : odd;
}

std::string random_path(Random& random, const Features& features) {
  std::string path = pick(random, names(features));
  for (auto depth = below(random, 3); depth > 0; --depth) path += "/" + pick(random, names(features));
  return path;
}

std::string random_content(Random& random) {
  static constexpr std::array<std::size_t, 8> kSizes = {0, 1, 10, 100, 4095, 4096, 5000, 70'000};
  std::string data(pick(random, kSizes), '\0');
  const auto letter = static_cast<char>('a' + below(random, 26));
  // Some blocks stay zero, so that copying meets holes.
  for (std::size_t at = 0; at < data.size(); ++at)
    if (at / 8192 % 2 == 0) data[at] = static_cast<char>(letter + static_cast<char>(at / 512 % 7));
  return data;
}

std::string random_acl(Random& random) {
  struct Entry {
    std::uint16_t tag, permissions;
    std::uint32_t id;
  };
  constexpr std::uint32_t kNoId = 0xffffffff;
  const auto bits = [&] { return static_cast<std::uint16_t>(below(random, 8)); };
  const std::array<Entry, 6> entries = {{{0x01, bits(), kNoId},
                                         {0x02, bits(), 1000},
                                         {0x04, bits(), kNoId},
                                         {0x08, bits(), 1001},
                                         {0x10, bits(), kNoId},
                                         {0x20, bits(), kNoId}}};
  std::string bytes(4 + sizeof entries, '\0');
  const std::uint32_t version = 2;
  std::memcpy(bytes.data(), &version, 4);
  std::memcpy(bytes.data() + 4, entries.data(), sizeof entries);
  return bytes;
}

std::string file_capability() {
  // struct vfs_cap_data, revision 2: magic, then two pairs of permitted and inheritable.
  const std::array<std::uint32_t, 5> words = {0x02000001, 1U << 10, 0, 0, 0};
  return {reinterpret_cast<const char*>(words.data()), sizeof words};
}

std::vector<Tree> random_layers(Random& random, std::size_t count, const Features& features) {
  std::vector<Tree> layers;
  Tree so_far;
  for (std::size_t i = 0; i < count; ++i) {
    layers.push_back(random_layer(random, so_far, features));
    // Names of a link that a higher layer hides would still count in st_nlink: links stand in the top layer only.
    if (i + 1 == count && features.hard_links) add_hard_links(random, layers.back());
    merge_into(so_far, layers.back());
  }
  return layers;
}

bool well_formed(const std::vector<Tree>& layers_bottom_first) {
  Tree so_far;
  for (const Tree& layer : layers_bottom_first) {
    for (const auto& [path, node] : layer)
      if (node.kind == Kind::kWhiteout && !merges(layer, so_far, parent_of(path))) return false;
    merge_into(so_far, layer);
  }
  return true;
}

Tree merged(const std::vector<Tree>& layers_bottom_first) {
  Tree result;
  for (const Tree& layer : layers_bottom_first) merge_into(result, layer);
  return result;
}

void write_tree(const Tree& tree, const std::string& directory, WhiteoutStyle style) {
  for (const auto& [path, node] : tree)
    if (node.link_to.empty()) write_node(node, directory, path, style);
  for (const auto& [path, node] : tree)
    if (!node.link_to.empty())
      must(::link((directory + "/" + node.link_to).c_str(), (directory + "/" + path).c_str()) == 0, path);
  // Only now, or children would inherit default ACLs.
  for (const auto& [path, node] : tree)
    if (node.kind != Kind::kWhiteout && node.link_to.empty()) write_attributes(node, directory + "/" + path, style);
  for (auto at = tree.rbegin(); at != tree.rend(); ++at) {
    if (at->second.kind == Kind::kWhiteout) continue;
    const timespec time = {at->second.mtime, 0};
    const timespec times[2] = {time, time};
    const std::string full = directory + "/" + at->first;
    must(::utimensat(AT_FDCWD, full.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0, full);
  }
  const timespec epoch = {1'000'000'000, 0};
  const timespec times[2] = {epoch, epoch};
  must(::utimensat(AT_FDCWD, directory.c_str(), times, 0) == 0, directory);
}

std::string quoted(const std::string& bytes) {
  constexpr std::size_t kLongRun = 20;
  std::string text = "'";
  for (std::size_t at = 0; at < bytes.size();) {
    const char c = bytes[at];
    const std::size_t run = std::min(bytes.find_first_not_of(c, at), bytes.size()) - at;
    std::string one(1, c);
    if (c < ' ' || c >= 0x7f || c == '\'') one = fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    text += run >= kLongRun ? fmt::format("({} times {})", run, one) : one;
    at += run >= kLongRun ? run : 1;
  }
  return text + "'";
}

std::string describe(const Tree& tree) {
  std::string text;
  for (const auto& [path, node] : tree) {
    static constexpr const char* kKinds[] = {"file", "dir", "symlink", "fifo", "device", "whiteout"};
    text += fmt::format("    {} {} {:o} {}:{}", quoted(path), kKinds[static_cast<int>(node.kind)], node.mode, node.uid,
                        node.gid);
    if (node.kind == Kind::kFile) text += fmt::format(" size {}", node.data.size());
    if (node.kind == Kind::kSymlink) text += " -> " + quoted(node.data);
    if (!node.link_to.empty()) text += " = " + quoted(node.link_to);
    if (node.opaque) text += " opaque";
    for (const auto& [name, value] : node.xattrs) text += fmt::format(" {}({})", name, value.size());
    text += "\n";
  }
  return text;
}

}  // namespace vellum::random_test
