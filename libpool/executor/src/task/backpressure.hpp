#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>

#include "task/pool_guard.hpp"

namespace kindred::internal {

/// The bound of `ExecutorOptions::max_pending`, and the submitting threads that wait for it. Guarded by the
/// pool's lock.
class Backpressure {
 public:
  /// `max_pending` is 0: there is no bound.
  explicit Backpressure(std::size_t max_pending) noexcept : max_pending_{max_pending} {}

  /// May another task be submitted? Each live worker may have one task that does not count.
  template <class Workers>
  [[nodiscard]] bool allows_another(Locked locked, std::size_t unfinished,
                                    const Workers& workers) const noexcept {
    return max_pending_ == 0 || unfinished < max_pending_ + workers.live(locked);
  }
  [[nodiscard]] bool has_waiters(Locked) const noexcept { return waiters_ != 0; }
  /// Tasks have ended, or the pool has: the waiting threads look again.
  void notify(Locked) noexcept {
    if (waiters_ != 0) changed_.notify_all();
  }
  /// Gives the lock away meanwhile. Returns when notified, or after a moment: a caller loops. `arm` is called
  /// when the thread counts as waiting.
  template <class Arm>
  void wait(PoolGuard& guard, const Arm& arm) {
    ++waiters_;
    arm();
    changed_.wait_for(guard, std::chrono::milliseconds{50});
    --waiters_;
  }

 private:
  const std::size_t max_pending_;
  std::size_t waiters_ = 0;
  std::condition_variable_any changed_;
};

}  // namespace kindred::internal
