#pragma once

#include <chrono>
#include <optional>

#include "dispatch/dispatcher.hpp"
#include "kindred/executor_options.hpp"
#include "link/lifecycle_log.hpp"
#include "link/worker_control.hpp"
#include "link/worker_slots.hpp"
#include "task/pending_tasks.hpp"

namespace kindred::internal {

/// Looks after single workers: kills one that ran over a limit of its own, and asks one to leave that is not
/// needed.
class WorkerHealth {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Parts {
    const ExecutorOptions& options;
    WorkerSlots& slots;
    WorkerControl& control;
    ResultIntake& intake;
    const PendingTasks& pending;
    LifecycleLog& log;
  };
  explicit WorkerHealth(const Parts& parts) noexcept : parts_{parts} {}

  void check(Locked locked, WorkerSlot& slot, Time now);
  /// When the worker is to be looked at again, as far as that is known.
  [[nodiscard]] Deadline next(Locked locked, const WorkerSlot& slot) const;
  /// How often workers are looked at while they have calls: they may be stopped by a signal.
  static constexpr std::chrono::seconds between_looks_for_stops{1};

 private:
  void check_limits(Locked locked, WorkerSlot& slot, Time now);
  void check_silence(Locked locked, WorkerSlot& slot, Time now);
  void check_stopped(Locked locked, WorkerSlot& slot, Time now);

  const Parts parts_;
};

}  // namespace kindred::internal
