#include "lock/pool_lock.hpp"

#include <chrono>

#include "kindred/internal/asymmetric_fence.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/cpu.hpp"

namespace kindred::internal {
namespace {

// The lock is held for short steps: mostly it is free again before a sleep would have begun.
constexpr int looks_before_yield = 64;
// With more threads than cores its holder may wait for a core. A thread that yields lets the holder run, and
// pays less for it than for a sleep, which takes a barrier in all threads.
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
