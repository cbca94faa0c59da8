// Page-aligned memory that costs nothing until it is touched.
// Errors: std::bad_alloc. Threads: a plain value.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

#include "fuse/abi.h"

namespace vellum::fuse {

class PageBuffer {
 public:
  explicit PageBuffer(std::size_t bytes)
      : size_((bytes + abi::kPageSize - 1) / abi::kPageSize * abi::kPageSize),
        memory_(static_cast<std::byte*>(std::aligned_alloc(abi::kPageSize, size_))) {
    if (!memory_) throw std::bad_alloc();
  }
  std::span<std::byte> span() { return {memory_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::size_t size_;
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace vellum::fuse
