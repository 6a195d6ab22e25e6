#include "supervise/ending.hpp"

#include <csignal>
#include <memory>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "link/worker_control.hpp"

namespace kindred::internal {

void Ending::break_pool(Locked locked, const std::exception_ptr& cause, const std::string& text) {
  if (parts_.phase.broken) return;
  parts_.phase.broken_text = text;
  parts_.phase.broken = std::make_unique<StoredFailure<BrokenProcessPool>>(BrokenProcessPool{text, cause});
  parts_.log.note(Level::critical, BrokenProcessPool{text, cause}.what());
  const auto failure = [this, cause]() -> std::unique_ptr<Failure> {
    return std::make_unique<StoredFailure<BrokenProcessPool>>(
        BrokenProcessPool{parts_.phase.broken_text, cause});
  };
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (slot.segment == nullptr || slot.state == WorkerSlot::State::dying) continue;
    parts_.intake.revoke_all(locked, slot);
    fail_all_of(locked, slot, failure);
    WorkerControl::kill(locked, slot, KillReason::shutdown);
  }
  parts_.completion.fail_pending(locked, failure);
  parts_.slots.want_no_more(locked);
  parts_.shared_objects.close();
  parts_.backpressure.notify(locked);
  notify_changed();
}

template <class MakeFailure>
void Ending::fail_all_of(Locked locked, WorkerSlot& slot, const MakeFailure& make_failure) {
  while (!slot.in_flight.empty()) {
    TaskState& task = *slot.in_flight.front().task;
    KINDRED_ASSERT(&task.worker() == &slot);
    slot.in_flight.pop_front();
    parts_.slots.note_left(locked);
    task.leave_worker();
    if (task.finished()) {
      task.unpin(locked);
    } else {
      ++parts_.completion.totals(locked).lost;
      parts_.completion.finish_with(locked, task, Outcome::failure, make_failure);
    }
  }
}

void Ending::cancel_unbegun(Locked locked) {
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (!slot.segment) continue;
    for (std::size_t i = slot.in_flight.size(); i-- > 0;) {
      TaskState& task = *slot.in_flight[i].task;
      if (parts_.intake.revoke(locked, slot, i))
        parts_.completion.finish_cancelled(locked, task, "by shutdown, before it began");
    }
  }
  parts_.completion.cancel_pending(locked);
}

void Ending::close(Locked locked, bool cancel_pending) {
  parts_.phase.closed = true;
  if (cancel_pending) {
    parts_.phase.finishes_chains = false;
    cancel_unbegun(locked);
  }
  parts_.backpressure.notify(locked);
}

void Ending::end_workers(Locked locked, int signal) {
  parts_.phase.closed = true;
  parts_.phase.finishes_chains = false;
  parts_.phase.kill_signal = signal;
  parts_.slots.want_no_more(locked);
  const auto failure = [signal]() -> std::unique_ptr<Failure> {
    return std::make_unique<StoredFailure<BrokenProcessPool>>(BrokenProcessPool{
        std::string{"the workers were ended by "} +
        (signal == SIGKILL ? "kill_workers" : "terminate_workers") + " before this task began"});
  };
  if (!parts_.phase.broken) parts_.phase.broken = failure();
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (!slot.segment) continue;
    parts_.intake.revoke_all(locked, slot);
    WorkerControl::signal(locked, slot, signal);
  }
  parts_.completion.fail_pending(locked, failure);
  parts_.backpressure.notify(locked);
}

void Ending::interrupt(Locked locked) {
  parts_.log.note(Level::warn,
                  "interrupted: pending tasks are cancelled, running ones are asked to stop and waited for. "
                  "Interrupt again to kill them.");
  parts_.phase.closed = true;
  parts_.phase.finishes_chains = false;
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (slot.has_calls()) WorkerControl::ask_to_stop(locked, slot, slot.in_flight.front());
  }
  cancel_unbegun(locked);
}

}  // namespace kindred::internal
