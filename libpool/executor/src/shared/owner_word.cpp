#include "shared/owner_word.hpp"

#include <limits>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/futex.hpp"

namespace kindred::internal::owner_word {

Outcome lock(Word& word, std::uint32_t owner, Deadline deadline) noexcept {
  constexpr int spins = 64;
  constexpr int yields =
      1;  // the owner may be queued behind us on this very core: pausing would only keep it there
  int tries = 0;
  bool slept = false;
  bool in_time = true;
  std::uint32_t seen = word.load(std::memory_order_relaxed);
  for (;;) {
    const std::uint32_t holder = seen & owner_mask;
    if (holder == 0) {
      // A thread that has slept can't know whether others still do, so it takes the lock with `waiters` set:
      // one wake-up too many, never one too few. Order: seq_cst, as in `try_lock`. Crash: after this store
      // the word names us, so the parent can release it.
      if (word.compare_exchange_weak(seen, seen | owner | (slept ? waiters : 0))) return Outcome::locked;
      continue;
    }
    if (holder == closed_owner) return Outcome::closed;
    if (tries < spins + yields) {
      if (tries++ < spins)
        cpu_relax();
      else
        yield_cpu();
      seen = word.load(std::memory_order_relaxed);
      continue;
    }
    if ((seen & waiters) == 0) {
      if (!word.compare_exchange_weak(seen, seen | waiters, std::memory_order_relaxed)) continue;
      seen |= waiters;
    }
    // Giving up leaves `waiters` set: the wake-up that we may have taken from another sleeper is made up for
    // by this owner's unlock.
    if (!in_time) return Outcome::timed_out;
    in_time = futex_wait(word, seen, deadline);
    slept = true;
    seen = word.load(std::memory_order_relaxed);
  }
}

void unlock(Word& word) noexcept {
  // Order: seq_cst, as release it pairs with the acquire in `lock`.
  const std::uint32_t seen = word.fetch_and(abandoned);
  // Crash: here the lock is free and its sleepers sleep on; the parent wakes them when it hears of the death.
  if ((seen & waiters) != 0) futex_wake(word, 1);
}

bool take_from(Word& word, std::uint32_t dead, std::uint32_t heir, std::uint32_t mark) noexcept {
  std::uint32_t seen = word.load();
  // The dead write nothing more, and the living only set `waiters`: a second turn is rare, and more of them
  // mean that a process writes to the word on purpose.
  for (int turn = 0; turn < 64 && (seen & owner_mask) == dead; ++turn) {
    if (word.compare_exchange_strong(seen, (seen & (abandoned | (heir != 0 ? waiters : 0))) | heir | mark))
      return true;
  }
  return false;
}

void close(Word& word) noexcept {
  word.store(closed_owner);
  futex_wake(word, std::numeric_limits<int>::max());
}

}  // namespace kindred::internal::owner_word
