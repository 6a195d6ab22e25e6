#pragma once

#include <cstddef>
#include <cstring>

namespace kindred::internal {

/// Shorter than what any C library copies with `rep movsb`, and a multiple of a cache line.
inline constexpr std::size_t copy_piece = std::size_t{31} * 64;
/// Is a copy of so many bytes made in pieces of `copy_piece`?
///
/// From 2 to 8 KiB on, up to the size of a cache, glibc copies with `rep movsb` on x86-64. AMD's processors
/// do that many times slower where the target stands 1 to 63 bytes further in its page than the source in its
/// own (the row `bytes_64kib` of bench shows it). A message has a head, and what malloc gives for a large
/// vector begins 16 bytes into a page, so that is a common case.
[[nodiscard]] constexpr bool copied_in_pieces(std::size_t bytes) noexcept {
#if defined(__x86_64__)
  return bytes > copy_piece && bytes < std::size_t{1} << 20U;
#else
  return false;
#endif
}
/// Makes it.
void copy_pieces(void* to, const void* from, std::size_t bytes) noexcept;

/// As `memcpy`, also for 0 bytes from nowhere; for bytes of a program, however many they are.
inline void copy_bytes(void* to, const void* from, std::size_t bytes) noexcept {
  if (copied_in_pieces(bytes)) [[unlikely]]
    copy_pieces(to, from, bytes);
  else if (bytes != 0)
    std::memcpy(to, from, bytes);
}

}  // namespace kindred::internal
