#pragma once

#include <utility>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/locked.hpp"
#include "lock/pool_lock.hpp"
#include "task/deferred_work.hpp"

namespace kindred::internal {

/// The pool's lock, and what is to be done when it is given back. One lock guards tasks and workers. It is
/// held for short steps only, never over a call that may block, a start, a burial, or user code.
class PoolMutex {
 public:
  PoolMutex(bool light_side, CallbackRunner& callbacks, std::function<void(std::uint64_t)> release_flight)
      : lock_{light_side}, deferred_{callbacks, std::move(release_flight)} {}
  [[nodiscard]] DeferredWork& deferred() noexcept { return deferred_; }

 private:
  friend class PoolGuard;
  PoolLock lock_;
  DeferredWork deferred_;
};

/// Holds the pool's lock for the time of a scope, and gives it to functions as a `Locked`. When it gives the
/// lock back, it does the deferred work, so no caller can forget it.
class PoolGuard {
 public:
  explicit PoolGuard(PoolMutex& mutex) noexcept : mutex_{mutex} { lock(); }
  PoolGuard(const PoolGuard&) = delete;
  PoolGuard& operator=(const PoolGuard&) = delete;
  ~PoolGuard() {
    if (holds_) unlock();
  }

  void lock() noexcept {
    KINDRED_ASSERT(!holds_);
    mutex_.lock_.lock();
    holds_ = true;
  }
  void unlock() noexcept {
    KINDRED_ASSERT(holds_);
    holds_ = false;
    if (!mutex_.deferred_.empty()) [[unlikely]]
      return unlock_and_work();
    mutex_.lock_.unlock();
  }
  [[nodiscard]] bool holds() const noexcept { return holds_; }
  operator Locked() const noexcept {  // NOLINT: a guard is passed where a token is wanted
    KINDRED_ASSERT(holds_);
    return Locked{};
  }

 private:
  void unlock_and_work() noexcept {
    auto work = mutex_.deferred_.take();
    mutex_.lock_.unlock();
    mutex_.deferred_.run(std::move(work));
  }

  PoolMutex& mutex_;
  bool holds_ = false;
};

}  // namespace kindred::internal
