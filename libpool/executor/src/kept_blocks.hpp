#pragma once

#include <chrono>
#include <cstddef>

#include "kindred/internal/assert.hpp"

// What the parent and its workers agree on about shared memories for large values.
namespace kindred::internal {

/// What fits into a ring without crowding it; larger arguments and results get a shared memory.
inline constexpr std::size_t largest_in_ring = 16 * 1024;

/// How long memory that no value is in stays mapped, for the next one: a program that sends a frame ten times
/// a second is not idle. To map 64 MiB anew takes some 8 ms, and 230 on some virtual machines: were memory
/// let go before that, each value there would map its own.
inline constexpr std::chrono::milliseconds idle_memory_stays{1000};
/// So where memory is short, some may come back within this time.
inline constexpr std::chrono::milliseconds idle_memory_is_back =
    idle_memory_stays + std::chrono::milliseconds{500};

/// Which blocks are kept for the next value, of an executor's arguments or of a worker's results: few. Any
/// other is made for one value. They stay mapped in both processes, as long as values follow each other: to
/// map 64 MiB anew takes longer than to copy them.
class KeptBlocks {
 public:
  static constexpr std::size_t max_small = 16;  // up to 1 MiB
  static constexpr std::size_t max_large = 2;   // up to 9 MiB, and as many beyond

  bool keep(std::size_t bytes) noexcept {
    std::size_t& count = count_of(bytes);
    if (count == (bytes > small_bytes ? max_large : max_small)) return false;
    ++count;
    return true;
  }
  void drop(std::size_t bytes) noexcept {
    KINDRED_ASSERT(count_of(bytes) != 0U);
    --count_of(bytes);
  }

 private:
  static constexpr std::size_t small_bytes = std::size_t{1} << 20U;
  static constexpr std::size_t large_bytes = std::size_t{9} << 20U;
  std::size_t& count_of(std::size_t bytes) noexcept {
    return bytes > large_bytes ? huge_ : bytes > small_bytes ? large_ : small_;
  }

  std::size_t small_ = 0;
  std::size_t large_ = 0;
  std::size_t huge_ = 0;
};

/// How many memories a worker keeps for its large results.
inline constexpr std::size_t max_result_blocks = KeptBlocks::max_small + 2 * KeptBlocks::max_large;

}  // namespace kindred::internal
