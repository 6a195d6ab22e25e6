#include "kindred/internal/large_pages.hpp"

#include <sys/mman.h>

namespace kindred::internal {

void prefer_large_pages(void* begin, std::size_t bytes) noexcept { (void)::madvise(begin, bytes, MADV_HUGEPAGE); }

}  // namespace kindred::internal
