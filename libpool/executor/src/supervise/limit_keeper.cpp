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

}  // namespace

void LimitKeeper::check(Locked locked, Time now) {
  while (TaskState* const task = timers_.take_due(locked, now)) {
    const TaskPin pin{locked, *task};
    task->unpin(locked);  // the reference of the timer
    if (task->finished() || !task->options) continue;
    if (task->options->queue_timeout && fail_if_pending_too_long(locked, *task)) continue;
    if (task->is_dispatched() && (task->options->timeout || task->options->soft_timeout))
      check_attempt(locked, *task, now);
  }
}

bool LimitKeeper::fail_if_pending_too_long(Locked locked, TaskState& task) {
  const auto limit = *task.options->queue_timeout;
  if (duration_of(ticks() - task.submitted_ticks) < limit || !take_from_queue(locked, task)) return false;
  ++completion_.totals(locked).lost;
  completion_.finish_with(locked, task, Outcome::failure, [&] {
    return std::make_unique<StoredFailure<TaskTimeout>>(
        TaskTimeout{facts_of(task, completion_.code()), limit, std::chrono::nanoseconds{0}});
  });
  return true;
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
    if (attempt.front_since == Time{}) attempt.front_since = now;
    times.at_front = now - attempt.front_since;
  }
  return times;
}

void LimitKeeper::check_attempt(Locked locked, TaskState& task, Time now) {
  WorkerSlot& slot = task.worker();
  const std::size_t position = slot.position_of(task);
  if (position == slot.in_flight.size()) return;
  InFlight& attempt = slot.in_flight[position];
  KINDRED_ASSERT(!task.finished());
  const LimitStep step = check_limits(times_of(task, attempt, slot, position == 0, now));
  if (step.ask_to_stop) WorkerControl::ask_to_stop(locked, slot, attempt);
  switch (step.kill) {
    case LimitStep::Kill::none: break;
    case LimitStep::Kill::kill_for_sure:
      attempt.ran = step.ran;
      attempt.condemned = InFlight::Condemned::timed_out;
      return WorkerControl::kill(locked, slot, KillReason::task);
    case LimitStep::Kill::terminate:
    case LimitStep::Kill::kill: {
      const bool gently = step.kill == LimitStep::Kill::terminate;
      attempt.ran = step.ran;
      if (!WorkerControl::condemn(locked, slot, attempt, InFlight::Condemned::timed_out,
                                  gently ? SIGTERM : SIGKILL))
        break;  // the worker says that it is done
      if (gently) (void)timers_.add(locked, now + *terminate_grace_, task);
      return;
    }
  }
  if (step.look_again) (void)timers_.add(locked, now + *step.look_again, task);
}

}  // namespace kindred::internal
