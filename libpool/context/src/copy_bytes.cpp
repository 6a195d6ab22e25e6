#include "kindred/internal/copy_bytes.hpp"

namespace kindred::internal {

void copy_pieces(void* to, const void* from, std::size_t bytes) noexcept {
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  std::size_t piece = copy_piece;
  for (; bytes > piece; bytes -= piece) {
    // A compiler that knows the length writes `rep movs` itself, and one that sees the loop makes it one
    // copy.
    asm volatile("" : "+r"(piece) : : "memory");
    std::memcpy(target, source, piece);
    target += piece;
    source += piece;
  }
  std::memcpy(target, source, bytes);
}

}  // namespace kindred::internal
