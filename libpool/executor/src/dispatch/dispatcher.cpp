#include "dispatch/dispatcher.hpp"

#include <algorithm>
#include <atomic>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/injection.hpp"

namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

// How long the worker that was chosen last is chosen again without a look at the others.
constexpr double favourite_nanoseconds = 2'000;
// After this long the calls behind a running call are looked at again, by a thread that submits or waits; and
// by the supervisor, where no thread does.
constexpr double rebalance_due_nanoseconds = 60'000;
constexpr std::chrono::microseconds rebalance_after{500};
constexpr std::chrono::milliseconds silent_again{10};

}  // namespace

WorkerSlot* Dispatcher::choose_slot(Locked locked, std::uint64_t now) {
  const Load& load = parts_.load;
  Placement<WorkerSlot> placement{load.times(), limits_.cores};
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (!slot.takes_calls()) continue;
    if (slot.silent() && still_silent(locked, slot)) [[unlikely]] {
      look_again_at(locked, parts_.clock.now() + silent_again);
      continue;
    }
    if (slot.in_flight.empty() && slot.ready) {
      // Not asleep: it spins, or is about to look.
      placement.consider_idle(slot, slot.header().sleeps.load(std::memory_order_relaxed) != 0);
      continue;
    }
    placement.consider_busy(slot,
                            {.starts = !slot.ready,
                             .one_at_a_time = load.one_at_a_time(locked),
                             .full = slot.full,
                             .calls = static_cast<std::int64_t>(slot.in_flight.size()),
                             .average = load.average_of(locked, slot)},
                            [&] { return load.runs_long(locked, slot, now); });
  }
  const auto choice = placement.choose();
  if (choice.look_again) look_again_soon(locked);  // the average may not be what the calls before it take
  return choice.worker;
}

// The worker that was chosen a moment ago, if it still has so little to do that no other would be chosen: a
// burst of short tasks need not ask all workers for each.
WorkerSlot* Dispatcher::favourite(Locked locked, std::uint64_t now) const noexcept {
  WorkerSlot* const slot = favourite_.slot;
  if (slot == nullptr || now >= favourite_.until || !slot->takes_calls() || !slot->ready || slot->full ||
      slot->silent() || slot->in_flight.empty())
    return nullptr;
  const auto calls = static_cast<double>(slot->in_flight.size());
  return slot->average.known() && !parts_.load.one_at_a_time(locked) &&
                 calls * slot->average.ticks() < parts_.load.times().pack
             ? slot
             : nullptr;
}

void Dispatcher::dispatch_or_enqueue(Locked locked, TaskState& task, std::uint64_t now) {
  KINDRED_ASSERT((!task.finished() && !task.is_pending() && !task.is_dispatched()));
  if (task.is_prioritized && parts_.completion.prioritized(locked) == 1) [[unlikely]]
    return take_back_and_enqueue(locked, task);
  if (parts_.pending.empty()) {
    WorkerSlot* slot = favourite(locked, now);
    if (slot == nullptr) {
      slot = choose_slot(locked, now);
      (void)parts_.control.publish_cpu(locked);
      favourite_.slot = slot;
      favourite_.until = now + static_cast<std::uint64_t>(parts_.load.ticks_of(favourite_nanoseconds));
    }
    if (slot != nullptr && parts_.writer.dispatch(locked, task, *slot, now)) {
      const bool was_idle = slot->in_flight.size() == 1;
      parts_.control.wake(locked, *slot);
      if (!was_idle) want_workers(locked);
      return;
    }
    // No result will come that would try again: the supervisor does.
    if (slot != nullptr && slot->in_flight.empty()) parts_.events.wake_supervisor(locked);
  }
  parts_.pending.push_back(locked, task);
  want_workers(locked);
}

// The only open task with a priority: what was dispatched ahead before it may be overtaken.
void Dispatcher::take_back_and_enqueue(Locked locked, TaskState& first) {
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (slot.segment) parts_.intake.revoke_all(locked, slot);
  }
  parts_.pending.push_back(locked, first);
  refill(locked);
  want_workers(locked);
}

void Dispatcher::refill(Locked locked) {
  if (parts_.pending.empty() && !parts_.backpressure.has_waiters(locked)) return;
  const auto now = ticks();
  while (TaskState* const task = parts_.pending.front(locked)) {
    WorkerSlot* const slot = choose_slot(locked, now);
    if (slot == nullptr) break;
    parts_.pending.remove(locked, *task);
    if (parts_.writer.dispatch(locked, *task, *slot, now)) {
      parts_.control.wake(locked, *slot);
      continue;
    }
    parts_.pending.push_front(locked, *task);
    if (slot->in_flight.empty()) {
      parts_.events.wake_supervisor(locked);  // as in dispatch_or_enqueue
      break;
    }
    slot->full = true;  // until it has done something
  }
  parts_.backpressure.notify(locked);
}

void Dispatcher::want_workers(Locked locked) {
  WorkerSlots& slots = parts_.slots;
  const std::size_t have = slots.live(locked) + slots.wanted(locked);
  if (have >= slots.max() || parts_.pending.size() + slots.in_flight(locked) <= have || parts_.phase.broken)
    return;
  slots.want_another(locked);
  parts_.events.wake_supervisor(locked);
}

void Dispatcher::want_all_workers(Locked locked) {
  if (parts_.phase.broken || parts_.phase.ended) return;
  WorkerSlots& slots = parts_.slots;
  const std::size_t work = parts_.pending.size() + slots.in_flight(locked);
  const std::size_t least = limits_.start_all && !parts_.phase.closed ? slots.max() : 0;
  const std::size_t have = slots.live(locked) + slots.wanted(locked);
  const std::size_t want = std::min(slots.max(), std::max(work, least));
  for (std::size_t i = have; i < want; ++i) slots.want_another(locked);
  if (have < want) parts_.events.wake_supervisor(locked);
}

bool Dispatcher::collect_results_of(Locked locked, WorkerSlot& slot) {
  if (!parts_.intake.take_results(locked, slot)) return false;
  if (limits_.tells_of_idleness && slot.in_flight.empty()) parts_.events.wake_supervisor(locked);
  return true;
}

bool Dispatcher::collect_results(Locked locked) {
  bool any = false;
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (slot.has_calls() && slot.state != WorkerSlot::State::starting)
      any = collect_results_of(locked, slot) || any;
  }
  if (any) {
    look_again_.found_something();
    refill(locked);
  }
  if (any || (rebalance_due_ != 0 && ticks() >= rebalance_due_)) rebalance(locked);
  return any;
}

bool Dispatcher::take_messages(Locked locked, WorkerSlot& slot) {
  const bool was_ready = slot.ready;
  const bool more = parts_.intake.take_messages(locked, slot);
  if (slot.ready && !was_ready) {
    refill(locked);
    rebalance(locked);
  }
  return more;
}

// The worker has begun none of its calls: it is stopped, or waits for a processor, or a task has overwritten
// the words that say whether it sleeps or runs.
void Dispatcher::mark_unresponsive(Locked locked, WorkerSlot& slot) {
  TaskState& front = *slot.in_flight.front().task;
  if (!parts_.intake.revoke(locked, slot, 0)) return;
  ++parts_.completion.totals(locked).taken_back;
  front.suspect();
  parts_.pending.push_back(locked, front);  // behind the others: it may be what silenced the worker
  if (slot.in_flight.empty()) begin_silence(locked, slot, parts_.clock.now());
}

RebalancePlan<WorkerSlot> Dispatcher::plan_rebalance(Locked locked, std::uint64_t now) {
  RebalancePlan<WorkerSlot> plan;
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    // A worker that leaves finishes what it has.
    if (slot.state != WorkerSlot::State::alive && slot.state != WorkerSlot::State::leaving) continue;
    if (slot.in_flight.empty()) continue;
    const bool begun =
        slot.ready && !(parts_.load.is_unresponsive(locked, slot, now) && front_is_unbegun(locked, slot));
    const std::size_t unstarted = slot.in_flight.size() - (begun ? 1 : 0);
    if (unstarted != 0)
      plan.consider(slot, unstarted, !slot.ready || parts_.load.runs_long(locked, slot, now));
  }
  return plan;
}

void Dispatcher::kill_those_that_lost_a_call(Locked locked, std::uint64_t now) {
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (slot.has_calls() && parts_.load.is_unresponsive(locked, slot, now) && has_lost_a_call(locked, slot))
      WorkerControl::kill_corrupted(locked, slot, "it passed a call and gave no result");
  }
}

void Dispatcher::rebalance(Locked locked) {
  rebalance_due_ = 0;
  rebalance_at_.reset();
  if (parts_.slots.in_flight(locked) == 0) return;
  const auto now = ticks();
  kill_those_that_lost_a_call(locked, now);
  if (!parts_.pending.empty()) return;
  bool calls_wait = false;
  bool one_is_silent = false;
  for (WorkerSlot& idle : parts_.slots.all(locked)) {
    if (!idle.idle() || !idle.ready) continue;
    if (idle.silent() && still_silent(locked, idle)) {
      one_is_silent = true;
      continue;
    }
    const auto plan = plan_rebalance(locked, now);
    calls_wait = calls_wait || plan.look_again();
    WorkerSlot* const victim = plan.victim();
    if (victim == nullptr) break;
    const bool unresponsive = victim->ready && parts_.load.is_unresponsive(locked, *victim, now) &&
                              front_is_unbegun(locked, *victim);
    // Whichever worker is free first gets them, the victim included.
    parts_.intake.revoke_all(locked, *victim, victim->ready ? 1 : 0);
    if (unresponsive) mark_unresponsive(locked, *victim);
    refill(locked);
    if (!parts_.pending.empty()) break;
  }
  // The calls behind a young call are not revoked: it may be done in no time. They are looked at again.
  if (calls_wait)
    look_again_soon(locked);
  else if (one_is_silent)
    look_again_at(locked, parts_.clock.now() + silent_again);
}

// The rings that are wanted of all workers with calls.
std::uint64_t Dispatcher::wanted_rings(Locked locked) const noexcept {
  const auto leader = parts_.bells.leader(locked);
  if (leader == Bells::Leader::sleeps) return Armed::waiter;
  if (leader == Bells::Leader::looks) return 0;
  std::uint64_t wanted = 0;
  if (parts_.completion.with_continuations(locked) != 0 || parts_.backpressure.has_waiters(locked) ||
      parts_.phase.closed)
    wanted |= Armed::service;
  std::size_t busy = 0;
  for (const WorkerSlot& slot : parts_.slots.all(locked)) busy += slot.has_calls() ? 1U : 0U;
  if (!parts_.pending.empty() || (parts_.slots.in_flight(locked) > busy && busy < parts_.slots.live(locked)))
    wanted |= Armed::dry;
  return wanted;
}

void Dispatcher::arm_all(Locked locked) noexcept {
  const bool anew = parts_.bells.take_stale(locked);
  const std::uint64_t wanted = wanted_rings(locked);
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (!slot.segment) continue;
    if (slot.in_flight.empty()) {
      // It may have rung for what was armed: forget that, so that the next arming is stored in any case.
      if (anew) slot.arming.bits = 0;
      continue;
    }
    std::uint64_t bits = wanted;
    if ((wanted & Armed::dry) != 0 && !parts_.pending.empty()) {
      // A quarter of what is usually ahead of it, so that the supervisor is awake before it runs dry.
      bits |= (std::uint64_t{parts_.load.prefetch_limit(locked, slot)} * sizeof(CallHeader) / 4)
              << Armed::low_water_shift;
    }
    Bells::arm(locked, slot, bits, anew);
  }
  KINDRED_INJECTION_POINT("parent.arm.armed");
  // Order: what is armed before the look at the rings that follows; pairs with the fence in
  // ParentBells::ring_if_armed.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void Dispatcher::look_at_unbegun_later(Locked locked) noexcept {
  if (rebalance_due_ != 0) return;
  const bool several = parts_.slots.live(locked) > 1;
  for (WorkerSlot& slot : parts_.slots.all(locked)) {
    if (!slot.has_calls() || !slot.ready) continue;
    if ((!several || !front_is_unbegun(locked, slot)) && !has_lost_a_call(locked, slot)) continue;
    rebalance_due_ = ticks() + static_cast<std::uint64_t>(2 * parts_.load.times().unresponsive);
    return;
  }
}

void Dispatcher::look_again_soon(Locked locked) {
  if (rebalance_at_) return;
  rebalance_due_ = ticks() + static_cast<std::uint64_t>(parts_.load.ticks_of(rebalance_due_nanoseconds));
  look_again_at(locked, parts_.clock.now() + rebalance_after);
}

void Dispatcher::look_again_at(Locked locked, steady_clock::time_point at) {
  if (rebalance_at_) return;
  rebalance_at_ = at;
  parts_.events.wake_supervisor_at(locked, at);
}

}  // namespace kindred::internal
