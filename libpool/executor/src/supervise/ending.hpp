#pragma once

#include <condition_variable>
#include <exception>
#include <string>

#include "dispatch/result_intake.hpp"
#include "kindred/internal/shared_object_registry.hpp"
#include "link/lifecycle_log.hpp"
#include "link/worker_slots.hpp"
#include "task/backpressure.hpp"
#include "task/completion.hpp"
#include "task/pool_phase.hpp"

namespace kindred::internal {

/// How the pool ends before its work is done: it breaks, is told to cancel or to end its workers. Guarded by
/// the pool's lock.
class Ending {
 public:
  struct Parts {
    PoolPhase& phase;
    WorkerSlots& slots;
    ResultIntake& intake;
    Completion& completion;
    Backpressure& backpressure;
    LifecycleLog& log;
    SharedObjectRegistry& shared_objects;
  };
  explicit Ending(const Parts& parts) noexcept : parts_{parts} {}

  /// Fails all tasks, kills the workers, and refuses further tasks; all for `cause`.
  void break_pool(Locked locked, const std::exception_ptr& cause, const std::string& text);
  /// No task is accepted any more; where `cancel_pending`, those that have not begun are cancelled.
  void close(Locked locked, bool cancel_pending);
  /// Sends all workers a signal; fails what they have not begun.
  void end_workers(Locked locked, int signal);
  /// Ctrl-C: what has not begun is cancelled, what runs is asked to stop.
  void interrupt(Locked locked);

  /// Workers have gone, or all tasks have ended.
  void notify_changed() noexcept { changed_.notify_all(); }
  [[nodiscard]] LifecycleLog& log() noexcept { return parts_.log; }
  [[nodiscard]] std::condition_variable_any& changed() noexcept { return changed_; }

 private:
  void cancel_unbegun(Locked locked);
  template <class MakeFailure>
  void fail_all_of(Locked locked, WorkerSlot& slot, const MakeFailure& make_failure);

  const Parts parts_;
  std::condition_variable_any changed_;
};

}  // namespace kindred::internal
