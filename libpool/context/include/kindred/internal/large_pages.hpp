#pragma once

#include <cstddef>

namespace kindred::internal {

inline constexpr std::size_t large_page_bytes = std::size_t{2} << 20U;

/// Asks the kernel to back memory of our own by large pages where it is touched: a first touch of 2 MiB in
/// ordinary pages is 512 page faults. `begin` and `bytes` are multiples of `large_page_bytes`. A kernel that
/// has none left, or is told not to, gives ordinary ones.
void prefer_large_pages(void* begin, std::size_t bytes) noexcept;

/// From this size on large pages are worth asking for: it is a mapping of its own, or nearly,
/// and the first touch is most of what it costs.
inline constexpr std::size_t worth_large_pages = 4 * large_page_bytes;
/// The same for those large pages that lie wholly within memory of any alignment.
void prefer_large_pages_in(void* begin, std::size_t bytes) noexcept;

}  // namespace kindred::internal
