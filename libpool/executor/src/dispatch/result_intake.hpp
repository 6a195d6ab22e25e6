#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "dispatch/load.hpp"
#include "kindred/internal/context_id.hpp"
#include "link/worker_control.hpp"
#include "link/worker_mail.hpp"
#include "link/worker_slots.hpp"
#include "task/completion.hpp"
#include "watch/watch_notes.hpp"

namespace kindred::internal {

/// Takes results out of the workers' rings and finishes their tasks. A result is the worker's word:
/// everything in it is read once and checked, and a worker whose results do not add up is killed.
class ResultIntake {
 public:
  ResultIntake(ContextId context, const PoolClock& clock, LifecycleLog& log, WorkerSlots& slots,
               WorkerControl& control, Load& load, Completion& completion, PendingTasks& pending,
               WatchNotes& notes)
      : context_{context},
        clock_{clock},
        slots_{slots},
        control_{control},
        load_{load},
        completion_{completion},
        pending_{pending},
        notes_{notes},
        mail_{context, clock, log,
              [this](Locked locked, WorkerSlot& slot) { (void)take_results(locked, slot); }} {}

  /// Takes in all results that are in the worker's ring; true: there were some.
  bool take_results(Locked locked, WorkerSlot& slot);
  /// Takes in what the worker says on its socket; false: nothing more will come. Errors: `std::bad_alloc`.
  bool take_messages(Locked locked, WorkerSlot& slot) { return mail_.take(locked, slot); }

  /// Takes a call back that the worker has not begun; true: the worker will not run it, and the task is
  /// nowhere. `position`: in the worker's queue.
  [[nodiscard]] bool revoke(Locked locked, WorkerSlot& slot, std::size_t position);
  /// Revokes all calls but the first `but_first` ones, and makes their tasks pending, in their order.
  void revoke_all(Locked locked, WorkerSlot& slot, std::size_t but_first = 0);
  /// A task that was revoked is pending again, the next one.
  void requeue(Locked locked, TaskState& task);

  /// Results so far whose task did not die with its worker.
  [[nodiscard]] std::uint64_t runs_ended(Locked) const noexcept { return runs_ended_; }

 private:
  using Bytes = std::span<const std::byte>;
  /// What came with a result beside its bytes.
  struct Extras {
    std::unique_ptr<Cargo> cargo;
    std::unique_ptr<Failure> missing;  ///< a memory of it could not be mapped here
    bool memory_ended = false;         ///< the parent's own memory: the task fails, and its worker goes on
  };

  void take_result(Locked locked, WorkerSlot& slot, Bytes message, RunAverage::Batch& times);
  void take_rare_result(Locked locked, WorkerSlot& slot, const ResultHeader& result, Bytes value, Bytes ids,
                        RunAverage::Batch& times);
  void pass_call(Locked locked, WorkerSlot& slot, TaskState& task, const ResultHeader& result,
                 RunAverage::Batch& times) noexcept;
  void finish_with_value(Locked locked, WorkerSlot& slot, TaskState& task);
  void finish_rare_value(Locked locked, WorkerSlot& slot, TaskState& task, Bytes value, Extras extras);
  void finish_with_failure(Locked locked, WorkerSlot& slot, TaskState& task, Bytes failure,
                           std::uint64_t submitted);
  [[nodiscard]] std::optional<Extras> take_extras(Locked locked, WorkerSlot& slot, const ResultHeader& result,
                                                  Bytes value, Bytes ids);
  [[nodiscard]] bool take_cargo(Locked locked, WorkerSlot& slot, const ResultHeader& result, Bytes value,
                                Bytes ids, Extras& extras);
  [[nodiscard]] std::shared_ptr<SharedMemory> take_memory(Locked locked, WorkerSlot& slot, std::uint64_t id,
                                                          std::size_t bytes, Extras& extras);
  void note_bytes(Locked locked, WorkerSlot& slot, std::size_t bytes) noexcept;

  const ContextId context_;
  const PoolClock& clock_;
  WorkerSlots& slots_;
  WorkerControl& control_;
  Load& load_;
  Completion& completion_;
  PendingTasks& pending_;
  WatchNotes& notes_;
  WorkerMail mail_;
  std::uint64_t runs_ended_ = 0;
};

}  // namespace kindred::internal
