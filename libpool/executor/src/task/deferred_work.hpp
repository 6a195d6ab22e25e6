#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "kindred/internal/locked.hpp"
#include "task/callback_runner.hpp"

namespace kindred::internal {

/// What follows from the end of tasks and must not be done while the pool's lock is held: users' callbacks
/// run, and the flight records of failed tasks are let go into the log. `PoolGuard` does it when it gives the
/// lock back.
class DeferredWork {
 public:
  DeferredWork(CallbackRunner& callbacks, std::function<void(std::uint64_t)> release_flight)
      : callbacks_{callbacks}, release_flight_{std::move(release_flight)} {}

  void run_callbacks_of(Locked, std::unique_ptr<Continuations> continuations) noexcept {
    waiting_.push(std::move(continuations));
  }
  /// Without memory to note the task, its flight records stay where they are.
  void release_flight_of(Locked, std::uint64_t task_id) noexcept {
    try {
      failed_tasks_.push_back(task_id);
    } catch (const std::bad_alloc&) {}
  }
  [[nodiscard]] bool has_callbacks(Locked) const noexcept { return !waiting_.empty(); }

  /// Has it nothing to do? Call while the lock is held.
  [[nodiscard]] bool empty() const noexcept { return waiting_.empty() && failed_tasks_.empty(); }
  /// What is left to do without the lock.
  struct Unlocked {
    ContinuationQueue callbacks;
    std::vector<std::uint64_t> failed_tasks;
  };
  /// Call while the lock is held. Callbacks are queued here, so that those of one future keep their order
  /// where two threads finish things; only those of a future that outlived its executor are returned.
  [[nodiscard]] Unlocked take() noexcept;
  /// Call when the lock has been given back.
  void run(Unlocked work) const noexcept;

 private:
  CallbackRunner& callbacks_;
  const std::function<void(std::uint64_t)> release_flight_;
  ContinuationQueue waiting_;
  std::vector<std::uint64_t> failed_tasks_;
};

}  // namespace kindred::internal
