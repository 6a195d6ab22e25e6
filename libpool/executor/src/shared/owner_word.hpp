#pragma once

#include <atomic>
#include <cstdint>

#include "kindred/internal/deadline.hpp"

namespace kindred::internal::owner_word {

// A lock in one word that outlives its owner: the word says which process holds it, so the parent can release
// it for the dead.
//
//      31        30          29 .. 0
//    +---------+-----------+------------------------------------------+
//    | waiters | abandoned | owner: 0 free, 1 parent, 2.. incarnation |
//    +---------+-----------+------------------------------------------+
//
// Invariant: a process sleeps on the word only while it holds `waiters` and a live owner, whose unlock will
// wake it; a dead owner is replaced by the parent, which wakes all. A wake-up can also die with the process
// that it woke: on every death the parent wakes all.

using Word = std::atomic<std::uint32_t>;

inline constexpr std::uint32_t waiters = 1U << 31U;
inline constexpr std::uint32_t abandoned = 1U << 30U;
inline constexpr std::uint32_t owner_mask = abandoned - 1;
inline constexpr std::uint32_t closed_owner =
    owner_mask;  ///< in place of an owner: no process may take the lock any more

enum class Outcome { locked, timed_out, closed };

[[nodiscard]] inline bool try_lock(Word& word, std::uint32_t owner) noexcept {
  // Order: seq_cst, also where the lock is found held: "repair wanted" relies on the total order of this look
  // and of `unlock` (see Critical; tests/model/litmus has both). As acquire it pairs with `unlock`.
  std::uint32_t seen = word.load();
  while ((seen & owner_mask) == 0) {
    if (word.compare_exchange_weak(seen, seen | owner)) return true;
  }
  return false;
}
[[nodiscard]] Outcome lock(Word& word, std::uint32_t owner, Deadline deadline) noexcept;
void unlock(Word& word) noexcept;
/// Takes the lock from `dead` for `heir` (0: none) and marks it abandoned where `mark` says so. Returns
/// false where `dead` does not hold it. Wakes no thread. Ends in bounded time, whatever others write.
bool take_from(Word& word, std::uint32_t dead, std::uint32_t heir, std::uint32_t mark) noexcept;
/// Closes the lock: from now on no process gets it. Wakes all threads that sleep for it.
void close(Word& word) noexcept;

}  // namespace kindred::internal::owner_word
