#pragma once

#include <atomic>
#include <cstdint>

#include "kindred/internal/futex.hpp"

namespace kindred::internal {

/// A mutex in one word (Drepper, "Futexes Are Tricky", mutex 2). Unlike `std::mutex` it may be forgotten in
/// the child of a fork, where its holder does not exist: `reset`.
class SmallLock {
 public:
  constexpr SmallLock() noexcept = default;
  SmallLock(const SmallLock&) = delete;
  SmallLock& operator=(const SmallLock&) = delete;

  void lock() noexcept {
    std::uint32_t free = 0;
    if (word_.compare_exchange_strong(free, 1, std::memory_order_acquire)) return;
    while (word_.exchange(2, std::memory_order_acquire) != 0) futex_wait(word_, 2);
  }
  [[nodiscard]] bool try_lock() noexcept {
    std::uint32_t free = 0;
    return word_.compare_exchange_strong(free, 1, std::memory_order_acquire);
  }
  void unlock() noexcept {
    if (word_.exchange(0, std::memory_order_release) == 2) futex_wake(word_, 1);
  }
  void reset() noexcept { word_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> word_{0};  ///< 0: free, 1: held, 2: held, and a thread sleeps
};

}  // namespace kindred::internal
