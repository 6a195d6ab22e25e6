#pragma once

#include <chrono>
#include <optional>

#include "dispatch/result_intake.hpp"
#include "link/worker_control.hpp"
#include "supervise/attempt_limits.hpp"
#include "supervise/timers.hpp"
#include "task/completion.hpp"
#include "task/pending_tasks.hpp"

namespace kindred::internal {

/// Keeps the time limits of tasks: fails those that were pending for too long, asks those that run over their
/// soft limit to stop, and kills the workers of those that run over their limit.
class LimitKeeper {
 public:
  using Time = Timers::Time;
  LimitKeeper(std::optional<std::chrono::nanoseconds> terminate_grace, WorkerSlots& slots,
              PendingTasks& pending, ResultIntake& intake, Completion& completion)
      : terminate_grace_{terminate_grace},
        slots_{slots},
        pending_{pending},
        intake_{intake},
        completion_{completion} {}

  /// The task's `queue_timeout` is over then. Errors: `std::bad_alloc`.
  void fail_unless_begun_by(Locked locked, Time until, TaskState& task) { timers_.add(locked, until, task); }
  /// Looks at all limits whose moment has come.
  void check(Locked locked, Time now);
  [[nodiscard]] Deadline next(Locked locked) const noexcept;
  /// Lets go of a task that ends.
  void forget(Locked locked, TaskState& task) noexcept { timers_.forget(locked, task); }
  /// Lets go of all tasks.
  void clear(Locked locked) noexcept { timers_.clear(locked); }

 private:
  void fail_if_not_begun(Locked locked, TaskState& task);
  [[nodiscard]] bool take_from_queue(Locked locked, TaskState& task);
  void check_worker(Locked locked, WorkerSlot& slot, Time now);
  [[nodiscard]] Deadline check_attempt(Locked locked, WorkerSlot& slot, std::size_t position, Time now);
  [[nodiscard]] AttemptTimes times_of(const TaskState& task, InFlight& attempt, const WorkerSlot& slot,
                                      bool is_first, Time now) const;

  const std::optional<std::chrono::nanoseconds> terminate_grace_;
  WorkerSlots& slots_;
  PendingTasks& pending_;
  ResultIntake& intake_;
  Completion& completion_;
  Timers timers_;
};

}  // namespace kindred::internal
