#include "lock/pool_lock.hpp"

#include <chrono>

#include "kindred/internal/clock.hpp"

namespace kindred::internal {
namespace {

// The lock is held for short steps: mostly it is free again before a sleep would have begun.
constexpr int looks_before_yield = 64;
// With more threads than cores its holder may wait for a core. Who yields lets it run, for less than it takes
// to sleep, which is a barrier by all.
constexpr int yields_before_sleep = 32;
constexpr std::chrono::milliseconds look_again{10};

}  // namespace

void PoolLock::lock_slowly() noexcept {
  for (int look = 0; look < looks_before_yield + yields_before_sleep; ++look) {
    if (look < looks_before_yield)
      cpu_relax();
    else
      yield_cpu();
    if (held_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
  }
  waiters_.fetch_add(1, std::memory_order_seq_cst);
  // Refused to this process by now, by a filter of system calls: then an unlock may have overlooked us, and
  // we look again.
  const bool sure = heavy_barrier();
  while (!try_lock())
    (void)futex_wait(held_, 1, sure ? Deadline{} : Deadline{std::chrono::steady_clock::now() + look_again});
  waiters_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace kindred::internal
