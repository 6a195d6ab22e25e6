#pragma once

#include <atomic>
#include <cstdint>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/futex.hpp"

namespace kindred::internal {

/// The lock of a pool: a mutex that is given back by a plain store.
///
/// `std::mutex` is given back by an exchange, which waits until all stores before it have reached their cache
/// lines. A submit has just stored to lines that a worker reads, so that wait was much of what a short task
/// costs. Here the thread that has to sleep for the lock pays for it: it makes a heavy barrier after it has
/// announced its sleep.
///
///     unlock:  held = 0;     (compiler barrier)   waiters != 0?  -> wake
///     lock:    ++waiters;     heavy barrier       held == 0?     -> take it, else sleep
///
/// After the barrier either the store of `held` is seen here, or the look at `waiters` there comes later and
/// sees us. The memory of the lock must outlive `unlock` (the caller of a pool's function keeps the pool).
class PoolLock {
 public:
  /// `light_side`: what `register_light_side` said. Without it, `unlock` makes the fence.
  explicit PoolLock(bool light_side) noexcept : light_side_{light_side} {}
  PoolLock(const PoolLock&) = delete;
  PoolLock& operator=(const PoolLock&) = delete;

  void lock() noexcept {
    if (!try_lock()) [[unlikely]]
      lock_slowly();
  }
  [[nodiscard]] bool try_lock() noexcept { return held_.exchange(1, std::memory_order_acquire) == 0; }
  void unlock() noexcept {
    KINDRED_ASSERT(held_.load(std::memory_order_relaxed) != 0U);
    held_.store(0, std::memory_order_release);
    if (light_side_) [[likely]]
      std::atomic_signal_fence(std::memory_order_seq_cst);
    else
      std::atomic_thread_fence(std::memory_order_seq_cst);
    if (waiters_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      futex_wake(held_, 1);
  }

 private:
  void lock_slowly() noexcept;

  std::atomic<std::uint32_t> held_{0};
  std::atomic<std::uint32_t> waiters_{0};  // threads that sleep, or are about to
  const bool light_side_;
};

}  // namespace kindred::internal
