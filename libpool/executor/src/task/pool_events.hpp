#pragma once

#include <chrono>

#include "kindred/internal/future_state.hpp"
#include "kindred/internal/locked.hpp"

namespace kindred::internal {

class TaskState;

/// What the lower rooms set going in the rooms above them. The pool implements it, and it is all that they
/// know of the pool, so there is no ring of dependencies.
class PoolEvents {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// The future that the leading thread waits for is finished.
  virtual void wake_leader(Locked) noexcept = 0;
  /// A future that is waited for by threads that sleep is finished. It may be gone: it is named by its
  /// address.
  virtual void wake_followers(Locked, const FutureState& state) noexcept = 0;
  /// The pool is shut down, and nothing is left that could finish or submit a task.
  virtual void all_ended(Locked) noexcept = 0;
  /// The supervisor is to look round: a worker is wanted, or can be given another call.
  virtual void wake_supervisor(Locked) = 0;
  /// The supervisor is to look round at this moment, unless it does so before.
  virtual void wake_supervisor_at(Locked, Time at) = 0;
  /// A task with a `queue_timeout` ends: its limit is of no interest any more, and must not keep it.
  virtual void end_queue_limit(Locked, TaskState& task) noexcept = 0;
  /// No bell has rung for a while: the one of the log may have been lost, too.
  virtual void look_at_log(Locked) noexcept = 0;

 protected:
  ~PoolEvents() = default;
};

}  // namespace kindred::internal
