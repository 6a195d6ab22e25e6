#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "kindred/internal/context_id.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/stats.hpp"
#include "task/deferred_work.hpp"
#include "task/pending_tasks.hpp"
#include "task/pool_events.hpp"
#include "task/pool_phase.hpp"
#include "task/task_facts.hpp"

namespace kindred::internal {

/// How tasks end: counts them, makes their errors, and sets going what follows. It calls nothing above it but
/// `PoolEvents`, and runs no code of users: `DeferredWork` does, once the lock is given back.
class Completion {
 public:
  Completion(std::shared_ptr<const CodeBook> code, bool flight_recorder, PoolPhase& phase,
             PendingTasks& pending, DeferredWork& deferred, CallbackRunner& callbacks, PoolEvents& events)
      : code_{std::move(code)},
        flight_recorder_{flight_recorder},
        phase_{phase},
        pending_{pending},
        deferred_{deferred},
        callbacks_{callbacks},
        events_{events} {}

  void note_submitted(Locked, TaskState& task) noexcept {
    ++totals_.submitted;
    ++outstanding_;
    if (task.options && task.options->priority != 0) [[unlikely]] {
      task.is_prioritized = true;
      ++prioritized_;
    }
  }
  /// Tasks that are submitted and not finished.
  [[nodiscard]] std::size_t outstanding(Locked) const noexcept { return outstanding_; }
  /// Those of them that were submitted with a priority.
  [[nodiscard]] std::size_t prioritized(Locked) const noexcept { return prioritized_; }
  /// Open futures with something to be done when they are finished.
  [[nodiscard]] std::size_t with_continuations(Locked) const noexcept { return with_continuations_; }
  [[nodiscard]] PoolStats& totals(Locked) noexcept { return totals_; }
  [[nodiscard]] const PoolStats& totals(Locked) const noexcept { return totals_; }
  /// Is there no task, and no callback that might submit one?
  [[nodiscard]] bool nothing_left(Locked locked) const {
    return outstanding_ == 0 && !deferred_.has_callbacks(locked) && callbacks_.idle();
  }

  /// Finishes the task. Where `failure` is null though the outcome needs one, memory has ended, and the
  /// task's futures say so.
  void finish(Locked locked, TaskState& task, Outcome outcome, std::unique_ptr<Failure> failure = {});
  template <class Make>
  void finish_with(Locked locked, TaskState& task, Outcome outcome, const Make& make_failure) {
    std::unique_ptr<Failure> failure;
    try {
      failure = make_failure();
    } catch (const std::bad_alloc&) {}
    finish(locked, task, outcome, std::move(failure));
  }
  /// Fast path of `finish`: no continuation, and no thread that sleeps, except possibly the leader.
  void finish_with_value(Locked locked, TaskState& task) {
    if (task.options) [[unlikely]]
      end_options(locked, task);
    if (task.forgotten || !task.ends_unnoticed(locked) || phase_.closed)
      return finish(locked, task, Outcome::value);
    ++totals_.done;
    KINDRED_INJECTION_POINT("parent.finish");
    --outstanding_;
    task.conclude(locked, Outcome::value, nullptr);
    if (awaited_ == &task) events_.wake_leader(locked);
  }
  /// `how` is a literal that completes "the task was cancelled".
  void finish_cancelled(Locked locked, TaskState& task, const char* how);
  /// Finishes all pending tasks with a failure of their own each.
  void fail_pending(Locked locked, const std::function<std::unique_ptr<Failure>()>& make);
  void cancel_pending(Locked locked);
  /// Gives a task whose attempt has failed back to the pending ones, where it may be tried again; false: it
  /// may not.
  [[nodiscard]] bool try_again(Locked locked, TaskState& task);

  /// Finishes any future, a task or not.
  void end(Locked locked, FutureState& state, Outcome outcome, std::unique_ptr<Failure> failure);
  /// Notes an action for the end of the future. False: it is finished already, and nothing is noted.
  [[nodiscard]] bool add_callback(Locked locked, FutureState& state, std::function<void()>& action,
                                  const void* owner = nullptr);
  /// The same for what is done at once, on the thread that finishes it.
  [[nodiscard]] bool add_continuation(Locked locked, FutureState& state, std::function<void(Locked)>& action,
                                      const void* owner = nullptr);
  /// Moves what was noted for `owner` to `withdrawn`, where the future is open.
  void withdraw(Locked locked, FutureState& state, const void* owner, Continuations& withdrawn) noexcept;

  /// The future that the leading thread waits for; null: none, or several.
  void lead_for(Locked, const FutureState* target) noexcept { awaited_ = target; }
  /// Calls `all_ended` where that is so.
  void check_all_ended(Locked locked) noexcept {
    if (phase_.closed && nothing_left(locked)) events_.all_ended(locked);
  }
  [[nodiscard]] const std::shared_ptr<const CodeBook>& code() const noexcept { return code_; }

 private:
  // Before the task is finished: a timer's reference may be the last one.
  void end_options(Locked locked, TaskState& task) noexcept {
    if (task.is_prioritized) {
      KINDRED_ASSERT(prioritized_ != 0U);
      task.is_prioritized = false;
      --prioritized_;
    }
    if (task.options->queue_timeout) events_.end_queue_limit(locked, task);
  }
  Continuations& continuations_of(Locked locked, FutureState& state);

  const std::shared_ptr<const CodeBook> code_;
  const bool flight_recorder_;
  PoolPhase& phase_;
  PendingTasks& pending_;
  DeferredWork& deferred_;
  CallbackRunner& callbacks_;
  PoolEvents& events_;

  // Guarded by the pool's lock.
  std::size_t outstanding_ = 0;
  std::size_t prioritized_ = 0;
  std::size_t with_continuations_ = 0;
  const FutureState* awaited_ = nullptr;
  PoolStats totals_;
};

/// A failure as a worker encoded it. It is decoded anew for each reader, so that each has an exception object
/// of its own. Copies the bytes.
[[nodiscard]] std::unique_ptr<Failure> make_encoded_failure(std::span<const std::byte> bytes,
                                                            ContextId context, TaskFacts facts);

}  // namespace kindred::internal
