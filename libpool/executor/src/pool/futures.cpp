#include <csignal>
#include <memory>
#include <new>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/future.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/injection.hpp"
#include "pool/pool_core.hpp"

// What futures ask of their pool.
namespace kindred::internal {

PoolCore* pool_of(const FutureState& state) noexcept { return static_cast<PoolCore*>(state.home()); }

bool PoolCore::wait(FutureState& state, Deadline deadline) {
  require_here("future");
  return wait_.waiters.wait(state, deadline);
}

// Something is to follow when a future is finished, so a result must not be left in its ring.
void PoolCore::note_continuation(Locked locked) {
  if (wait_.waiters.has_leader(locked)) return;
  dispatch_.dispatcher.arm_all(locked);
  if (dispatch_.dispatcher.collect_results(locked)) dispatch_.dispatcher.arm_all(locked);
}

void PoolCore::add_callback(FutureState& state, std::function<void()> action, const void* owner) {
  require_here("future");
  {
    PoolGuard guard{tasks_.mutex};
    if (tasks_.completion.add_callback(guard, state, action, owner)) return note_continuation(guard);
  }
  run_callback(action);
}

void PoolCore::add_continuation(FutureState& state, std::function<void(Locked)> action, const void* owner) {
  require_here("future");
  PoolGuard guard{tasks_.mutex};
  if (tasks_.completion.add_continuation(guard, state, action, owner)) return note_continuation(guard);
  action(guard);  // with the lock here, too: so it never runs at the same time as another one
}

void PoolCore::withdraw(FutureState& state, const void* owner) noexcept {
  if (!here()) return;
  Continuations withdrawn;  // what they hold goes once the lock is given back
  PoolGuard guard{tasks_.mutex};
  tasks_.completion.withdraw(guard, state, owner, withdrawn);
  guard.unlock();
}

void PoolCore::finish_local(FutureState& state, Outcome outcome, std::unique_ptr<Failure> failure) {
  PoolGuard guard{tasks_.mutex};
  tasks_.completion.end(guard, state, outcome, std::move(failure));
}

bool PoolCore::is_running(const TaskState& task) const {
  require_here("future");
  const PoolGuard guard{tasks_.mutex};
  if (!task.is_dispatched()) return false;
  const auto state = task.call().state.load(std::memory_order_acquire);
  return state == call_state::begun || state == call_state::done || state == call_state::condemned;
}

bool PoolCore::cancel(TaskState& task, Running how) {
  if (task.finished()) return task.outcome() == Outcome::cancelled;
  require_here("future");
  PoolGuard guard{tasks_.mutex};
  (void)dispatch_.dispatcher.collect_results(guard);
  bool answer = false;
  if (task.finished()) {
    answer = task.outcome() == Outcome::cancelled;
  } else if (task.is_pending()) {
    tasks_.pending.remove(guard, task);
    tasks_.completion.finish_cancelled(guard, task, "before it began");
    answer = true;
  } else if (task.is_dispatched()) {
    answer = cancel_dispatched(guard, task, how);
  }
  tasks_.backpressure.notify(guard);
  return answer;
}

bool PoolCore::cancel_dispatched(Locked locked, TaskState& task, Running how) {
  WorkerSlot& slot = task.worker();
  const std::size_t position = slot.position_of(task);
  if (position == slot.in_flight.size()) return false;
  if (dispatch_.intake.revoke(locked, slot, position)) {
    tasks_.completion.finish_cancelled(locked, task, "before it began");
    return true;
  }
  InFlight& attempt = slot.in_flight[position];
  if (how == Running::ask) WorkerControl::ask_to_stop(locked, slot, attempt);
  if (how != Running::kill ||
      !WorkerControl::condemn(locked, slot, attempt, InFlight::Condemned::cancelled, SIGKILL))
    return false;
  task.retain();  // for the attempt in flight: the step that takes it out of the queue unpins the task
  tasks_.completion.finish_cancelled(locked, task, "while it ran: its worker was killed");
  return true;
}

bool PoolCore::drop_last_of_open(TaskState& task) noexcept {
  if (!here())
    return false;  // a copy in the child of a fork, where another thread may hold the lock for ever
  retain();        // once the reference is dropped, the task's cell does not keep the pool for us
  bool ours = false;
  {
    KINDRED_INJECTION_POINT("parent.forget.before_lock");
    PoolGuard guard{tasks_.mutex};
    // Else the pool has taken a reference meanwhile, and its unpin does the rest: the task is not ours to
    // look at.
    if (task.drop(guard)) {
      ours = task.finished();
      if (!ours) task.forget(guard);
    }
  }
  release();
  return ours;
}

void PoolCore::give_back_cell(void* of_a_task) noexcept {
  constexpr std::int64_t nearly_all = 64;  // more than threads give one back at once, mostly
  TaskStore& cells = tasks_.cells;
  if (!cells.is_large() || cells.in_use() > nearly_all) [[likely]] {
    if (!cells.give_back(of_a_task)) release();
    return;
  }
  retain();  // so that one can look afterwards
  const bool counted = cells.give_back(of_a_task);
  if (counted && cells.in_use() == 0) links_.idle_memory.note_freed();
  if (!counted) release();
  release();
}

TaskFacts PoolCore::facts_of(const TaskState& task) const {
  if (task.finished()) return internal::facts_of(task, tasks_.completion.code());  // nothing changes any more
  const PoolGuard guard{tasks_.mutex};
  return internal::facts_of(task, tasks_.completion.code());
}

void PoolCore::wake_from_outside(Waiter& waiter) noexcept {
  PoolGuard guard{tasks_.mutex};
  wait_.waiters.wake(guard, waiter);
}

// --- local futures and values

LocalState::LocalState(PoolCore* pool) : FutureState{true} {
  home_ = pool;
  pool->retain();
}
LocalState::~LocalState() { pool_of(*this)->release(); }
void LocalState::fail(std::exception_ptr error) {
  std::unique_ptr<Failure> failure;
  try {
    failure = std::make_unique<SharedFailure>(std::move(error));
  } catch (const std::bad_alloc&) {  // that is the failure, then
  }
  pool_of(*this)->finish_local(*this, Outcome::failure, std::move(failure));
}
void LocalState::fail(std::unique_ptr<Failure> failure, bool cancelled) {
  pool_of(*this)->finish_local(*this, cancelled ? Outcome::cancelled : Outcome::failure, std::move(failure));
}
void LocalState::finish() { pool_of(*this)->finish_local(*this, Outcome::value, nullptr); }

ValueBytes value_bytes(FutureState& state) {
  auto& task = static_cast<TaskState&>(state);
  if (task.cargo && task.cargo->block) task.cargo->block->map_pages(false);
  return {task.bytes(), task.cargo ? &task.cargo->attachments : nullptr, pool_of(state)->context().id()};
}

void throw_unreadable_result(FutureState& state) {
  const auto cause = std::current_exception();
  PoolCore& pool = *pool_of(state);
  const TaskFacts facts = pool.facts_of(static_cast<TaskState&>(state));
  std::rethrow_exception(make_task_error(cause, TaskPhase::reading_result, facts, pool.context().id()));
}

}  // namespace kindred::internal
