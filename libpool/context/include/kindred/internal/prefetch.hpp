#pragma once

namespace kindred::internal {

/// Asks for a cache line that this core is about to write, without waiting for it. Any address: one that is
/// not mapped is ignored.
inline void prefetch_to_write(const void* address) noexcept {
#if defined(__x86_64__)
  // Not the builtin: without a flag for newer processors it asks for the line to read, and the write would
  // wait once more.
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
#else
  __builtin_prefetch(address, 1);
#endif
}

}  // namespace kindred::internal
