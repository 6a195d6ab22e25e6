#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "dispatch/load.hpp"
#include "dispatch/result_intake.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/shared_bell.hpp"
#include "link/bells.hpp"
#include "link/call_writer.hpp"
#include "link/worker_slots.hpp"
#include "task/backpressure.hpp"
#include "task/pending_tasks.hpp"
#include "task/pool_events.hpp"
#include "task/pool_phase.hpp"

namespace kindred::internal {

/// Brings pending tasks to workers and results back: dispatches a task where it will start soonest, few calls
/// ahead, and revokes calls of a busy worker for an idle one. Runs on whichever thread submits, waits or
/// supervises.
class Dispatcher {
 public:
  struct Parts {
    const PoolClock& clock;
    WorkerSlots& slots;
    WorkerControl& control;
    Bells& bells;
    Load& load;
    CallWriter& writer;
    ResultIntake& intake;
    PendingTasks& pending;
    Completion& completion;
    const PoolPhase& phase;
    Backpressure& backpressure;
    PoolEvents& events;
  };
  struct Limits {
    bool tells_of_idleness = false;  ///< the supervisor is to be told when a worker becomes idle
    bool start_all = false;          ///< as many workers as may be are wanted, whatever the work
    unsigned cores = 1;              ///< how many the program may use
  };
  Dispatcher(const Parts& parts, Limits limits) noexcept : parts_{parts}, limits_{limits} {}

  /// Gives a new task to a worker, or to the pending ones. `now`: ticks.
  void dispatch_or_enqueue(Locked locked, TaskState& task, std::uint64_t now);
  /// Gives pending tasks to the workers that can take some.
  void refill(Locked locked);
  /// Takes in all results that are there; true: there were some.
  bool collect_results(Locked locked);
  /// The same of one worker, and nothing that follows from it.
  bool collect_results_of(Locked locked, WorkerSlot& slot);
  /// A thread submits, and takes results in now and then: what is done makes space, and tells which worker is
  /// free.
  void collect_while_submitting(Locked locked) {
    if (++submits_ % 32 == 0) (void)collect_results(locked);
  }
  /// Reads the worker's messages from its socket, and acts on them. False: no more will come.
  bool take_messages(Locked locked, WorkerSlot& slot);

  /// Takes calls back from a busy worker for an idle one, and looks after workers that do not respond.
  void rebalance(Locked locked);
  /// Tells the workers which bell to ring. Results that came before have rung no bell: the caller looks at
  /// the rings after it.
  void arm_all(Locked locked) noexcept;
  /// Has the supervisor start workers, where the work asks for more.
  void want_workers(Locked locked);
  /// Has it start all that are missing at once.
  void want_all_workers(Locked locked);

  // --- when to look round though no bell has rung
  /// For a thread that is about to sleep until results come: a worker with unbegun calls may be stopped.
  void look_at_unbegun_later(Locked locked) noexcept;
  void look_again_soon(Locked locked);
  void look_again_at(Locked locked, std::chrono::steady_clock::time_point at);
  /// No result came, and no bell rang: the next look is later.
  void look_found_nothing(Locked locked) noexcept {
    look_again_.found_nothing();
    parts_.events.look_at_log(locked);
  }
  /// When to look for the ring that was lost.
  [[nodiscard]] std::chrono::steady_clock::time_point next_look(Locked) const noexcept {
    return look_again_.next();
  }
  /// When calls behind a long call are looked at: by a thread that submits or waits, in ticks, 0: not at all;
  /// and by the supervisor, where no thread does.
  [[nodiscard]] std::uint64_t rebalance_due(Locked) const noexcept { return rebalance_due_; }
  [[nodiscard]] Deadline rebalance_at(Locked) const noexcept { return rebalance_at_; }

 private:
  [[nodiscard]] WorkerSlot* choose_slot(Locked locked, std::uint64_t now);
  [[nodiscard]] WorkerSlot* favourite(Locked locked, std::uint64_t now) const noexcept;
  void take_back_and_enqueue(Locked locked, TaskState& first);
  [[nodiscard]] RebalancePlan<WorkerSlot> plan_rebalance(Locked locked, std::uint64_t now);
  void kill_those_that_lost_a_call(Locked locked, std::uint64_t now);
  void mark_unresponsive(Locked locked, WorkerSlot& slot);
  [[nodiscard]] std::uint64_t wanted_rings(Locked locked) const noexcept;

  const Parts parts_;
  const Limits limits_;
  struct {
    WorkerSlot* slot = nullptr;
    std::uint64_t until = 0;  // ticks
  } favourite_;               // the worker that was chosen last
  std::uint32_t submits_ = 0;
  std::uint64_t rebalance_due_ = 0;
  Deadline rebalance_at_;
  LookAgain look_again_;
};

}  // namespace kindred::internal
