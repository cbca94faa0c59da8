// The fs-verity digest of a file: what the kernel would measure, computed here where the kernel cannot.
//
// A Merkle tree over blocks of the content (the last one padded with zeros), then the hash of a descriptor with the
// size and the root of the tree. No salt, no signature. This is the identity of objects and of images.
// Digests of many files are best computed one per thread; one big file by several (`threads`). At most a few blocks of
// memory and one hash per 128 blocks (64 with SHA-512) are held.
// Threads: Digester is for one thread; the functions are safe. Errors: of reading; EBUSY: the file changed its size
// meanwhile; EINVAL: block size not 2^10 ... 2^16.
// Source: facts of the kernel's fs-verity document.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace vellum::composefs {

enum class Hash : std::uint8_t { kSha256 = 1, kSha512 = 2 };  // the numbers of the kernel and of images

struct VerityFormat {
  Hash hash = Hash::kSha256;
  std::uint8_t block_bits = 12;

  constexpr std::size_t digest_size() const { return hash == Hash::kSha256 ? 32 : 64; }
  constexpr std::size_t block_size() const { return std::size_t{1} << block_bits; }
  constexpr std::size_t hashes_per_block() const { return block_size() / digest_size(); }
  constexpr bool valid() const { return block_bits >= 10 && block_bits <= 16; }
  friend constexpr bool operator==(VerityFormat, VerityFormat) = default;
};

struct Digest {
  std::array<std::uint8_t, 64> bytes{};  // behind `size`: zeros
  std::uint8_t size = 0;

  std::span<const std::uint8_t> view() const { return std::span(bytes).first(size); }
  std::string hex() const;
  // "ab/cdef...": where the object lies in a store.
  std::string object_path() const;
  friend bool operator==(const Digest&, const Digest&) = default;
};
// 64 or 128 hex digits of either case; nothing else.
std::optional<Digest> parse_digest(std::string_view hex);

// Digests one content after another, fed in pieces of any size. Reusable: finish() starts anew.
class Digester {
 public:
  explicit Digester(VerityFormat format = {});
  ~Digester();
  Digester(Digester&&) noexcept;
  Digester& operator=(Digester&&) noexcept;

  const VerityFormat& format() const;
  void update(std::span<const std::byte> bytes);
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest digest_of_bytes(std::span<const std::byte> bytes, VerityFormat format = {}, unsigned threads = 1);
// Reads the whole file, of `size` bytes.
Result<Digest> compute_digest(sys::FdRef file, std::uint64_t size, VerityFormat format = {}, unsigned threads = 1);
// The kernel's word if the file has verity with this hash, else computed. It is asked only if it says itself that the
// file cannot change: a FUSE file system may answer the question as it likes. The kernel does not tell its block size:
// ask it only where that is known to be the usual one, as in stores.
Result<Digest> measure_digest(sys::FdRef file, VerityFormat format = {}, unsigned threads = 1);

// How many threads work is spread on by default: the CPUs this process may use.
unsigned default_threads();

}  // namespace vellum::composefs
