#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <random>
#include <utility>

#include "files.h"
#include "workload_loops.h"

namespace vellum::bench {
namespace {

constexpr std::uint64_t kMib = 1U << 20U;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kChunk = 128 * 1024;  // what cp and cat use

// Open for the length of a loop.
class File {
 public:
  File(std::string path, int flags)
      : path_(std::move(path)),
        fd_(static_cast<int>(must(::open(path_.c_str(), flags | O_CLOEXEC, 0644), "open", path_))) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const { return fd_; }
  void close() { must(::close(std::exchange(fd_, -1)), "close", path_); }
  void check(ssize_t result, std::size_t wanted, const char* what) const {
    must(result == static_cast<ssize_t>(wanted) ? 0 : -1, what, path_);
  }

 private:
  std::string path_;
  int fd_;
};

std::string data_file(const Scene& scene) { return scene.mount + "/data/read.bin"; }
std::string new_file(const Scene& scene) { return scene.mount + "/data/written.bin"; }

std::shared_ptr<std::vector<off_t>> random_offsets(const Scene& scene, std::uint64_t size) {
  std::mt19937 random(815);
  std::uniform_int_distribution<std::uint64_t> page(0, size / kPage - 1);
  auto offsets = std::make_shared<std::vector<off_t>>(scene.sizes.io);
  for (off_t& offset : *offsets) offset = static_cast<off_t>(page(random) * kPage);
  return offsets;
}

// Threads read slices of the same file, each through a description of its own.
Loop read_seq(const Scene& scene) {
  const std::uint64_t chunks = scene.sizes.data_mib * kMib / kChunk;
  return {.steps = chunks, .ops = chunks, .run = [path = data_file(scene)](std::uint64_t from, std::uint64_t to) {
            std::vector<char> buffer(kChunk);
            File file(path, O_RDONLY);
            for (std::uint64_t i = from; i < to; ++i) {
              file.check(::pread(file.fd(), buffer.data(), kChunk, static_cast<off_t>(i * kChunk)), kChunk, "read");
            }
          }};
}

Loop read_rand(const Scene& scene) {
  const auto offsets = random_offsets(scene, scene.sizes.data_mib * kMib);
  return {.steps = offsets->size(),
          .ops = offsets->size(),
          .run = [path = data_file(scene), offsets](std::uint64_t from, std::uint64_t to) {
            char buffer[kPage];
            File file(path, O_RDONLY);
            for (std::uint64_t i = from; i < to; ++i) {
              file.check(::pread(file.fd(), buffer, kPage, (*offsets)[i]), kPage, "read");
            }
          }};
}

Loop mmap_read(const Scene& scene) {
  const std::size_t size = scene.sizes.data_mib * kMib;
  return {.ops = size / kPage, .run = [path = data_file(scene), size](std::uint64_t, std::uint64_t) {
            File file(path, O_RDONLY);
            void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd(), 0);
            if (map == MAP_FAILED) must(-1, "mmap", path);
            const volatile char* bytes = static_cast<const char*>(map);
            for (std::size_t at = 0; at < size; at += kPage) static_cast<void>(bytes[at]);
            must(::munmap(map, size), "munmap", path);
          }};
}

// The close is in the time: it is where FUSE writes the pages out.
Loop mmap_write(const Scene& scene) {
  const std::size_t size = scene.sizes.data_mib / 4 * kMib;
  return {.ops = size / kPage, .run = [path = new_file(scene), size](std::uint64_t, std::uint64_t) {
            File file(path, O_RDWR | O_CREAT | O_EXCL);
            must(::ftruncate(file.fd(), static_cast<off_t>(size)), "truncate", path);
            void* map = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
            if (map == MAP_FAILED) must(-1, "mmap", path);
            char* bytes = static_cast<char*>(map);
            for (std::size_t at = 0; at < size; at += kPage) bytes[at] = 'm';
            must(::munmap(map, size), "munmap", path);
            file.close();
          }};
}

Loop write_in_steps(const Scene& scene, std::uint64_t size, std::size_t step) {
  return {.ops = size / step, .run = [path = new_file(scene), size, step](std::uint64_t, std::uint64_t) {
            const std::vector<char> buffer(step, 'w');
            File file(path, O_WRONLY | O_CREAT | O_EXCL);
            for (std::uint64_t at = 0; at < size; at += step) {
              file.check(::write(file.fd(), buffer.data(), step), step, "write");
            }
            file.close();
          }};
}

Loop write_seq(const Scene& scene) { return write_in_steps(scene, scene.sizes.data_mib * kMib, kChunk); }
Loop write_4k(const Scene& scene) { return write_in_steps(scene, scene.sizes.data_mib * kMib / 2, kPage); }

Loop write_rand(const Scene& scene) {
  const std::uint64_t size = scene.sizes.data_mib / 4 * kMib;
  write_big_file(new_file(scene), size);
  const auto offsets = random_offsets(scene, size);
  return {.ops = offsets->size(), .run = [path = new_file(scene), offsets](std::uint64_t, std::uint64_t) {
            const std::vector<char> buffer(kPage, 'r');
            File file(path, O_WRONLY);
            for (const off_t offset : *offsets) {
              file.check(::pwrite(file.fd(), buffer.data(), kPage, offset), kPage, "write");
            }
            file.close();
          }};
}

Loop append_big(const Scene& scene) {
  return {.ops = 1, .run = [path = scene.mount + "/data/big.bin"](std::uint64_t, std::uint64_t) {
            const std::vector<char> buffer(kPage, 'a');
            File file(path, O_WRONLY | O_APPEND);
            file.check(::write(file.fd(), buffer.data(), kPage), kPage, "append");
            file.close();
          }};
}

Loop fsync_append(const Scene& scene) {
  const std::uint64_t count = scene.sizes.changes / 10;
  return {.ops = count, .run = [path = new_file(scene), count](std::uint64_t, std::uint64_t) {
            const std::vector<char> buffer(kPage, 'f');
            File file(path, O_WRONLY | O_CREAT | O_APPEND);
            for (std::uint64_t i = 0; i < count; ++i) {
              file.check(::write(file.fd(), buffer.data(), kPage), kPage, "append");
              must(::fsync(file.fd()), "fsync", path);
            }
            file.close();
          }};
}

}  // namespace

std::vector<Workload> data_workloads() {
  return {
      {"read_seq", "read a large lower file in steps of 128 KiB, fresh mount", kData, {.threads = true}, read_seq},
      {"read_seq_warm", "the same again", kData, {.warm = true}, read_seq},
      {"read_rand", "read 4 KiB at random places of it, fresh mount", kData, {.threads = true}, read_rand},
      {"mmap_read", "map it and touch every page, fresh mount", kData, {}, mmap_read},
      {"mmap_write", "map a new file, write to every page, close", kData, {.changes = true}, mmap_write},
      {"write_seq", "write a large new file in steps of 128 KiB, close", kData, {.changes = true}, write_seq},
      {"write_4k", "the same in steps of 4 KiB, half of the size", kData, {.changes = true}, write_4k},
      {"write_rand", "write 4 KiB at random places of a file, close", kData, {.changes = true}, write_rand},
      {"fsync_append", "append 4 KiB and fsync, many times", kData, {.changes = true}, fsync_append},
      {"append_512m", "append 4 KiB to a lower file of 512 MiB: copy-up", kBig, {.changes = true}, append_big},
  };
}

}  // namespace vellum::bench
