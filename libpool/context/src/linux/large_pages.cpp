#include "kindred/internal/large_pages.hpp"

#include <sys/mman.h>

#include <memory>

namespace kindred::internal {

void prefer_large_pages(void* begin, std::size_t bytes) noexcept {
  (void)::madvise(begin, bytes, MADV_HUGEPAGE);
}

void prefer_large_pages_in(void* begin, std::size_t bytes) noexcept {
  void* first = begin;
  std::size_t within = bytes;
  if (std::align(large_page_bytes, large_page_bytes, first, within) != nullptr)
    prefer_large_pages(first, within / large_page_bytes * large_page_bytes);
}

}  // namespace kindred::internal
