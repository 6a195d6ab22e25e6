#include "supervise/limit_keeper.hpp"

#include <algorithm>
#include <csignal>
#include <memory>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/clock.hpp"

namespace kindred::internal {
namespace {

std::chrono::nanoseconds duration_of(std::uint64_t ticks_count) {
  return std::chrono::nanoseconds{
      static_cast<std::int64_t>(static_cast<double>(ticks_count) / ticks_per_nanosecond())};
}

// A look that was planned for another attempt may come soon after this one was dispatched: its time at the
// front counts from a later one, so that it has its limit to begin in, and again to run. The two clocks may
// differ.
bool has_waited_its_limit(const InFlight& attempt) {
  const auto limit = *attempt.task->options->timeout;
  return duration_of(ticks() - attempt.dispatched_ticks) >= limit - limit / 8;
}

Deadline earlier_of(Deadline one, Deadline other) noexcept {
  return !one || (other && *other < *one) ? other : one;
}

}  // namespace

void LimitKeeper::check(Locked locked, Time now) {
  while (TaskState* const task = timers_.take_due(locked, now)) {
    const TaskPin pin{locked, *task};
    task->unpin(locked);  // the reference of the timer
    fail_if_not_begun(locked, *task);
  }
  for (WorkerSlot& slot : slots_.all(locked)) {
    if (slot.limits.next_look() && *slot.limits.next_look() <= now) check_worker(locked, slot, now);
  }
}

Deadline LimitKeeper::next(Locked locked) const noexcept {
  Deadline next = timers_.next(locked);
  for (const WorkerSlot& slot : slots_.all(locked)) next = earlier_of(next, slot.limits.next_look());
  return next;
}

void LimitKeeper::fail_if_not_begun(Locked locked, TaskState& task) {
  KINDRED_ASSERT(!task.finished());
  if (!take_from_queue(locked, task)) return;
  ++completion_.totals(locked).lost;
  completion_.finish_with(locked, task, Outcome::failure, [&] {
    return std::make_unique<StoredFailure<TaskTimeout>>(TaskTimeout{
        facts_of(task, completion_.code()), *task.options->queue_timeout, std::chrono::nanoseconds{0}});
  });
}

// False: the task has begun.
bool LimitKeeper::take_from_queue(Locked locked, TaskState& task) {
  if (task.is_pending()) {
    pending_.remove(locked, task);
    return true;
  }
  if (!task.is_dispatched()) return false;
  WorkerSlot& slot = task.worker();
  const std::size_t position = slot.position_of(task);
  return position != slot.in_flight.size() && intake_.revoke(locked, slot, position);
}

AttemptTimes LimitKeeper::times_of(const TaskState& task, InFlight& attempt, const WorkerSlot& slot,
                                   bool is_first, Time now) const {
  const SegmentHeader& header = slot.header();
  AttemptTimes times;
  times.timeout = task.options->timeout;
  times.soft_timeout = task.options->soft_timeout;
  times.terminate_grace = terminate_grace_;
  times.stop_asked = attempt.stop_asked;
  times.timed_out = attempt.condemned == InFlight::Condemned::timed_out;
  // The clock begins with the task. The ticks are the worker's word; a worker that lies about them only
  // escapes its own limit for as long again, since a begin in the future counts as now.
  times.begun = attempt.header->state.load(std::memory_order_acquire) != call_state::queued &&
                header.begun_attempt.load(std::memory_order_relaxed) == task.attempt();
  if (times.begun)
    times.ran = duration_of(ticks() - std::min(header.begun_ticks.load(std::memory_order_relaxed), ticks()));
  if (times.timeout && is_first && slot.ready) {
    if (attempt.front_since == Time{} && has_waited_its_limit(attempt)) attempt.front_since = now;
    if (attempt.front_since != Time{}) times.at_front = now - attempt.front_since;
  }
  return times;
}

void LimitKeeper::check_worker(Locked locked, WorkerSlot& slot, Time now) {
  slot.limits.end();
  Deadline next;
  for (std::size_t position = 0; position < slot.in_flight.size(); ++position) {
    const TaskState& task = *slot.in_flight[position].task;
    if (!task.finished() && task.options && task.options->has_run_limit())
      next = earlier_of(next, check_attempt(locked, slot, position, now));
  }
  if (next) slot.limits.look_within(*next - now, now);
}

// Returns when it is to be looked at again.
Deadline LimitKeeper::check_attempt(Locked locked, WorkerSlot& slot, std::size_t position, Time now) {
  InFlight& attempt = slot.in_flight[position];
  if (attempt.condemned != InFlight::Condemned::no && (!attempt.killed_at || *attempt.killed_at > now))
    return attempt.killed_at;
  const LimitStep step = check_limits(times_of(*attempt.task, attempt, slot, position == 0, now));
  if (step.ask_to_stop) WorkerControl::ask_to_stop(locked, slot, attempt);
  switch (step.kill) {
    case LimitStep::Kill::none: break;
    case LimitStep::Kill::kill_for_sure:
      attempt.ran = step.ran;
      attempt.condemned = InFlight::Condemned::timed_out;
      attempt.killed_at.reset();
      WorkerControl::kill(locked, slot, KillReason::task);
      return {};
    case LimitStep::Kill::terminate:
    case LimitStep::Kill::kill: {
      const bool gently = step.kill == LimitStep::Kill::terminate;
      attempt.ran = step.ran;
      if (!WorkerControl::condemn(locked, slot, attempt, InFlight::Condemned::timed_out,
                                  gently ? SIGTERM : SIGKILL))
        break;  // the worker says that it is done
      if (gently) attempt.killed_at = now + *terminate_grace_;
      return attempt.killed_at;
    }
  }
  return step.look_again ? Deadline{now + *step.look_again} : Deadline{};
}

}  // namespace kindred::internal
