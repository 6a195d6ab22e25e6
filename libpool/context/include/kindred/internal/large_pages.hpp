#pragma once

#include <cstddef>

namespace kindred::internal {

inline constexpr std::size_t large_page_bytes = std::size_t{2} << 20U;

/// Asks the kernel to back memory of our own by large pages where it is touched: a first touch of 2 MiB in ordinary pages is 512 page faults. `begin` and
/// `bytes` are multiples of `large_page_bytes`. A kernel that has none left, or is told not to, gives ordinary ones.
void prefer_large_pages(void* begin, std::size_t bytes) noexcept;

}  // namespace kindred::internal
