#include "composefs/verity.h"

#include <openssl/evp.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <new>

#include "base/crew.h"
#include "sys/cpus.h"
#include "sys/file.h"
#include "sys/mapping.h"
#include "sys/verity.h"

namespace vellum::composefs {
namespace {

// What the final hash is of.
struct Descriptor {
  std::uint8_t version = 1;
  std::uint8_t hash = 0;
  std::uint8_t block_bits = 0;
  std::uint8_t salt_size = 0;
  std::array<std::uint8_t, 4> reserved{};
  std::array<std::uint8_t, 8> size{};  // little endian
  std::array<std::uint8_t, 64> root{};
  std::array<std::uint8_t, 32> salt{};
  std::array<std::uint8_t, 144> reserved2{};
};
static_assert(sizeof(Descriptor) == 256);

constexpr std::size_t kReadSize = 512 * 1024;  // a multiple of every block size

// One hash at a time, without looking the algorithm up again for each.
class Hasher {
 public:
  explicit Hasher(Hash hash) : algorithm_(hash == Hash::kSha256 ? EVP_sha256() : EVP_sha512()) {
    context_ = EVP_MD_CTX_new();
    if (context_ == nullptr || EVP_DigestInit_ex(context_, algorithm_, nullptr) != 1) throw std::bad_alloc();
  }
  ~Hasher() { EVP_MD_CTX_free(context_); }
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void hash(const void* bytes, std::size_t size, std::uint8_t* out) {
    // With the algorithm named only once the context keeps its buffers. It cannot fail: nothing is allocated.
    EVP_DigestInit_ex(context_, nullptr, nullptr);
    EVP_DigestUpdate(context_, bytes, size);
    EVP_DigestFinal_ex(context_, out, nullptr);
  }

 private:
  const EVP_MD* algorithm_;
  EVP_MD_CTX* context_;
};

// The upper part of the tree: takes hashes of one level in order, and keeps one block of hashes per level above.
class TreeTop {
 public:
  TreeTop(Hasher& hasher, VerityFormat format) : hasher_(hasher), format_(format) {}

  void add(const std::uint8_t* hash) { add_at(0, hash); }
  // The root. Nothing added: zeros.
  std::array<std::uint8_t, 64> finish() {
    std::array<std::uint8_t, 64> root{};
    for (std::size_t level = 0; level < levels_.size(); ++level) {
      Level& here = levels_[level];
      // A single hash with nothing above it is the root.
      if (level + 1 == levels_.size() && here.total == 1) {
        std::memcpy(root.data(), here.block.data(), format_.digest_size());
        break;
      }
      if (here.used > 0) close(level);
    }
    levels_.clear();
    return root;
  }

 private:
  struct Level {
    std::vector<std::uint8_t> block;
    std::size_t used = 0;
    std::uint64_t total = 0;
  };

  void add_at(std::size_t level, const std::uint8_t* hash) {
    if (level == levels_.size()) levels_.push_back({.block = std::vector<std::uint8_t>(format_.block_size())});
    // A full block is closed only when more follows: were it the last, a hash could be the root.
    if (levels_[level].used == format_.hashes_per_block()) close(level);
    Level& here = levels_[level];
    std::memcpy(here.block.data() + here.used * format_.digest_size(), hash, format_.digest_size());
    ++here.used;
    ++here.total;
  }
  void close(std::size_t level) {
    std::array<std::uint8_t, 64> hash;
    Level& here = levels_[level];
    const std::size_t filled = here.used * format_.digest_size();
    std::memset(here.block.data() + filled, 0, here.block.size() - filled);
    hasher_.hash(here.block.data(), here.block.size(), hash.data());
    here.used = 0;
    add_at(level + 1, hash.data());
  }

  Hasher& hasher_;
  VerityFormat format_;
  std::vector<Level> levels_;
};

Digest describe(Hasher& hasher, VerityFormat format, std::uint64_t size, const std::array<std::uint8_t, 64>& root) {
  Descriptor descriptor;
  descriptor.hash = static_cast<std::uint8_t>(format.hash);
  descriptor.block_bits = format.block_bits;
  for (std::size_t i = 0; i < 8; ++i) descriptor.size[i] = static_cast<std::uint8_t>(size >> (8 * i));
  descriptor.root = root;
  Digest digest;
  digest.size = static_cast<std::uint8_t>(format.digest_size());
  hasher.hash(&descriptor, sizeof descriptor, digest.bytes.data());
  return digest;
}

// The hashes of a run of whole blocks, and of a last one that is padded.
void hash_blocks(Hasher& hasher, VerityFormat format, std::span<const std::byte> bytes,
                 const std::function<void(const std::uint8_t*)>& take) {
  std::array<std::uint8_t, 64> hash;
  const std::size_t block = format.block_size();
  while (bytes.size() >= block) {
    hasher.hash(bytes.data(), block, hash.data());
    take(hash.data());
    bytes = bytes.subspan(block);
  }
  if (bytes.empty()) return;
  std::vector<std::byte> padded(block);
  std::memcpy(padded.data(), bytes.data(), bytes.size());
  hasher.hash(padded.data(), block, hash.data());
  take(hash.data());
}

Status read_exactly(sys::FdRef file, std::span<std::byte> out, std::uint64_t offset) {
  while (!out.empty()) {
    const std::size_t got = TRY(sys::pread(file, out, offset));
    if (got == 0) return fail(EBUSY);
    out = out.subspan(got);
    offset += got;
  }
  return {};
}

using ReadPart = std::function<Result<std::span<const std::byte>>(std::uint64_t offset, std::size_t length,
                                                                  std::span<std::byte> buffer)>;

// Threads take runs of as many blocks as have their hashes in one block: each gives one hash of level 1.
Result<Digest> digest_in_runs(std::uint64_t size, VerityFormat format, unsigned threads, bool needs_buffer,
                              const ReadPart& read) {
  const std::uint64_t run = std::uint64_t{format.hashes_per_block()} << format.block_bits;
  const std::uint64_t runs = (size + run - 1) / run;
  const std::size_t digest_size = format.digest_size();
  std::vector<std::uint8_t> level1(runs * digest_size);
  std::atomic<std::uint64_t> next = 0;
  std::atomic<int> error = 0;
  const auto work = [&] {
    Hasher hasher(format.hash);
    std::vector<std::byte> buffer(needs_buffer ? kReadSize : 0);
    std::vector<std::uint8_t> hashes(format.block_size());
    for (std::uint64_t index = next++; index < runs && error == 0; index = next++) {
      std::ranges::fill(hashes, std::uint8_t{0});
      std::size_t used = 0;
      const std::uint64_t end = std::min(size, (index + 1) * run);
      for (std::uint64_t at = index * run; at < end;) {
        const std::size_t length = static_cast<std::size_t>(std::min<std::uint64_t>(kReadSize, end - at));
        const auto part = read(at, length, buffer);
        if (!part) {
          error = part.error().value();
          return;
        }
        hash_blocks(hasher, format, *part, [&](const std::uint8_t* hash) {
          std::memcpy(hashes.data() + used, hash, digest_size);
          used += digest_size;
        });
        at += length;
      }
      hasher.hash(hashes.data(), hashes.size(), level1.data() + index * digest_size);
    }
  };
  run_crew(std::min<std::uint64_t>(threads, runs), work);
  if (error != 0) return fail(error.load());
  Hasher hasher(format.hash);
  TreeTop top(hasher, format);
  for (std::uint64_t i = 0; i < runs; ++i) top.add(level1.data() + i * digest_size);
  return describe(hasher, format, size, top.finish());
}

// Runs have at least two blocks each; less is not worth more than one thread.
bool worth_threads(std::uint64_t size, VerityFormat format, unsigned threads) {
  return threads > 1 && size > 2 * (std::uint64_t{format.hashes_per_block()} << format.block_bits);
}

}  // namespace

std::string Digest::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2u * size);
  for (const std::uint8_t byte : view()) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string Digest::object_path() const {
  std::string text = hex();
  text.insert(2, 1, '/');
  return text;
}

std::optional<Digest> parse_digest(std::string_view hex) {
  if (hex.size() != 64 && hex.size() != 128) return std::nullopt;
  Digest digest;
  digest.size = static_cast<std::uint8_t>(hex.size() / 2);
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const char c = hex[i];
    unsigned nibble = 0;
    if (c >= '0' && c <= '9')
      nibble = static_cast<unsigned>(c - '0');
    else if (c >= 'a' && c <= 'f')
      nibble = static_cast<unsigned>(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      nibble = static_cast<unsigned>(c - 'A' + 10);
    else
      return std::nullopt;
    digest.bytes[i / 2] = static_cast<std::uint8_t>(unsigned{digest.bytes[i / 2]} << 4 | nibble);
  }
  return digest;
}

struct Digester::State {
  explicit State(VerityFormat wanted)
      : format(wanted), hasher(wanted.hash), top(hasher, wanted), partial(wanted.block_size()) {}
  VerityFormat format;
  Hasher hasher;
  TreeTop top;
  std::vector<std::byte> partial;
  std::size_t used = 0;
  std::uint64_t size = 0;
};

Digester::Digester(VerityFormat format) : state_(std::make_unique<State>(format)) {}
Digester::~Digester() = default;
Digester::Digester(Digester&&) noexcept = default;
Digester& Digester::operator=(Digester&&) noexcept = default;
const VerityFormat& Digester::format() const { return state_->format; }

void Digester::update(std::span<const std::byte> bytes) {
  State& s = *state_;
  std::array<std::uint8_t, 64> hash;
  const std::size_t block = s.format.block_size();
  s.size += bytes.size();
  if (s.used > 0) {
    const std::size_t fill = std::min(bytes.size(), block - s.used);
    std::memcpy(s.partial.data() + s.used, bytes.data(), fill);
    s.used += fill;
    bytes = bytes.subspan(fill);
    if (s.used < block) return;
    s.hasher.hash(s.partial.data(), block, hash.data());
    s.top.add(hash.data());
    s.used = 0;
  }
  for (; bytes.size() >= block; bytes = bytes.subspan(block)) {
    s.hasher.hash(bytes.data(), block, hash.data());
    s.top.add(hash.data());
  }
  if (bytes.empty()) return;
  std::memcpy(s.partial.data(), bytes.data(), bytes.size());
  s.used = bytes.size();
}

Digest Digester::finish() {
  State& s = *state_;
  if (s.used > 0) {
    std::array<std::uint8_t, 64> hash;
    std::memset(s.partial.data() + s.used, 0, s.partial.size() - s.used);
    s.hasher.hash(s.partial.data(), s.partial.size(), hash.data());
    s.top.add(hash.data());
  }
  const Digest digest = describe(s.hasher, s.format, s.size, s.top.finish());
  s.used = 0;
  s.size = 0;
  return digest;
}

Digest digest_of_bytes(std::span<const std::byte> bytes, VerityFormat format, unsigned threads) {
  if (worth_threads(bytes.size(), format, threads)) {
    const auto slice = [bytes](std::uint64_t offset, std::size_t length,
                               std::span<std::byte>) -> Result<std::span<const std::byte>> {
      return bytes.subspan(static_cast<std::size_t>(offset), length);
    };
    if (auto digest = digest_in_runs(bytes.size(), format, threads, false, slice)) return *digest;
  }
  Digester digester(format);
  digester.update(bytes);
  return digester.finish();
}

Result<Digest> compute_digest(sys::FdRef file, std::uint64_t size, VerityFormat format, unsigned threads) {
  if (!format.valid()) return fail(EINVAL);
  if (worth_threads(size, format, threads)) {
    return digest_in_runs(size, format, threads, true,
                          [file](std::uint64_t offset, std::size_t length,
                                 std::span<std::byte> buffer) -> Result<std::span<const std::byte>> {
                            TRY(read_exactly(file, buffer.first(length), offset));
                            return buffer.first(length);
                          });
  }
  Digester digester(format);
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(kReadSize, size)));
  for (std::uint64_t at = 0; at < size;) {
    const auto part = std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(kReadSize, size - at)));
    TRY(read_exactly(file, part, at));
    digester.update(part);
    at += part.size();
  }
  return digester.finish();
}

Result<Digest> measure_digest(sys::FdRef file, VerityFormat format, unsigned threads) {
  const Result<sys::VerityMeasure> known =
      sys::cannot_change(file) ? sys::measure_verity(file) : Result<sys::VerityMeasure>(fail(ENODATA));
  if (known && known->algorithm == static_cast<std::uint32_t>(format.hash) && known->size == format.digest_size()) {
    Digest digest;
    digest.size = static_cast<std::uint8_t>(known->size);
    std::copy_n(known->digest.begin(), known->size, digest.bytes.begin());
    return digest;
  }
  const sys::Statx file_status = TRY(sys::statx(file, ""));
  if (file_status.is_dir()) return fail(EISDIR);
  if (!file_status.is_regular()) {
    // A pipe or the like: until it ends.
    return fail(EINVAL);
  }
  return compute_digest(file, file_status.size, format, threads);
}

unsigned default_threads() {
  const unsigned allowed = sys::allowed_cpus();
  return allowed > 0 ? allowed : 1;
}

}  // namespace vellum::composefs
