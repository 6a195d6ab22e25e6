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
  LimitKeeper(std::optional<std::chrono::nanoseconds> terminate_grace, PendingTasks& pending,
              ResultIntake& intake, Completion& completion)
      : terminate_grace_{terminate_grace}, pending_{pending}, intake_{intake}, completion_{completion} {}

  /// True: no limit is looked at earlier.
  [[nodiscard]] bool look_at(Locked locked, Time at, TaskState& task) {
    return timers_.add(locked, at, task);
  }
  /// Looks at all limits whose moment has come.
  void check(Locked locked, Time now);
  [[nodiscard]] Deadline next(Locked locked) const noexcept { return timers_.next(locked); }
  /// Lets go of a task that ends.
  void forget(Locked locked, TaskState& task) noexcept { timers_.forget(locked, task); }
  /// Lets go of all tasks.
  void clear(Locked locked) noexcept { timers_.clear(locked); }

 private:
  [[nodiscard]] bool fail_if_pending_too_long(Locked locked, TaskState& task);
  [[nodiscard]] bool take_from_queue(Locked locked, TaskState& task);
  void check_attempt(Locked locked, TaskState& task, Time now);
  [[nodiscard]] AttemptTimes times_of(const TaskState& task, InFlight& attempt, const WorkerSlot& slot,
                                      bool is_first, Time now) const;

  const std::optional<std::chrono::nanoseconds> terminate_grace_;
  PendingTasks& pending_;
  ResultIntake& intake_;
  Completion& completion_;
  Timers timers_;
};

}  // namespace kindred::internal
