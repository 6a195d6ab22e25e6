#include "supervise/supervisor.hpp"

#include <algorithm>
#include <csignal>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/exit_codes.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/service_thread.hpp"

namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

// A call that could not be dispatched to a worker without calls is tried again after this.
constexpr std::chrono::milliseconds dispatch_retry{2};
// How long a visitor of the log waits that cannot be let in for want of a descriptor.
constexpr std::chrono::milliseconds between_guests{20};
// After memory ended, or a system call failed, while the supervisor did something.
constexpr std::chrono::milliseconds memory_retry{10};
constexpr std::chrono::milliseconds call_retry{100};

// What is counted as a whole agrees with what the slots and lists count one by one, and what the bells know
// of the leading thread with what the waiting threads know.
void check_counts(Locked locked, const Supervisor::Parts& parts) {
  std::size_t in_flight = 0;
  std::size_t open_in_flight = 0;  // less those that were cancelled by killing
  for (const WorkerSlot& slot : parts.slots.all(locked)) {
    in_flight += slot.in_flight.size();
    for (std::size_t i = 0; i < slot.in_flight.size(); ++i)
      open_in_flight += slot.in_flight[i].task->finished() ? 0U : 1U;
  }
  KINDRED_ASSERT(parts.slots.in_flight(locked) == in_flight);
  KINDRED_ASSERT(parts.completion.outstanding(locked) >= parts.pending.size() + open_in_flight);
  KINDRED_ASSERT(parts.waiters.has_leader(locked) == (parts.bells.leader(locked) != Bells::Leader::none));
}

}  // namespace

void Supervisor::start(Locked) {
  if (runs_) return;
  // All of it or nothing: the caller learns what is missing, and may try again.
  (void)parts_.context.waiter_bell();  // made now, so that it exists before a thread sleeps on it
  parts_.poll.begin(parts_.context.service_bell(), interrupt_ ? interrupt_->bell().fd() : -1,
                    parts_.collector.offer_tail());
  try {
    if (parts_.has_thread) thread_ = std::thread{[this] { run(); }};
  } catch (const std::system_error& error) {
    throw SystemError{"pthread_create", error.code().value(), "starting the executor's supervisor"};
  }
  runs_ = true;
}

void Supervisor::wake_if_begun() noexcept {
  try {
    wake();
  } catch (const SystemError&) {
    // There is no descriptor for its bell.
  }
}

void Supervisor::end() {
  {
    PoolGuard guard{parts_.mutex};
    stop_ = true;
    parts_.phase.ended = true;
    wake(guard);
  }
  if (thread_.joinable()) thread_.join();
  parts_.poll.end();
  PoolGuard guard{parts_.mutex};
  parts_.limits.clear(guard);  // their tasks keep the pool, and would for ever
  interrupt_.reset();
}

void Supervisor::abandon_after_fork() {
  if (thread_.joinable()) thread_.detach();
  parts_.poll.abandon_after_fork();
  (void)interrupt_.release();
}

void Supervisor::run() {
  begin_service_thread("kindred-super");
  PoolGuard guard{parts_.mutex};
  for (bool goes_on = true; goes_on;) {
    try {
      goes_on = round(guard);
    } catch (const std::bad_alloc&) {
      // The step that lacked memory is tried again: the bell or descriptor that led to it stays readable
      // until the step is done.
      if (guard.holds()) guard.unlock();
      std::this_thread::sleep_for(memory_retry);
      guard.lock();
    } catch (const SystemError& error) {
      // A call failed that none of the steps expects to fail. The program does not end by it: the step is
      // tried again, and the log says what failed.
      if (guard.holds()) guard.unlock();
      std::this_thread::sleep_for(call_retry);
      guard.lock();
      parts_.ending.log().note(
          Level::error,
          std::string{"the executor's supervisor goes on after a failed call: "} + error.what());
    }
  }
}

bool Supervisor::round(PoolGuard& guard) {
  if (!parts_.dispatcher.collect_results(guard) && parts_.slots.in_flight(guard) != 0 &&
      !parts_.waiters.has_leader(guard))
    parts_.dispatcher.look_found_nothing(guard);
  parts_.limits.check(guard, parts_.clock.now());
  check_workers(guard);
  if constexpr (KINDRED_ASSERTIONS != 0) check_counts(guard, parts_);
  if (stop_) return false;
  if (!arm(guard)) return true;
  sleep(guard);
  handle_events(guard);
  return true;
}

// Decides how it is woken next. False: results came in before the bells were armed, so it does not sleep.
bool Supervisor::arm(Locked locked) {
  // A submitting thread also collects results, so polling occasionally is cheaper than being woken for each.
  const auto submitted = parts_.completion.totals(locked).submitted;
  const bool has_leader = parts_.waiters.has_leader(locked);
  looks_by_itself_ = !has_leader && submitted != submitted_seen_ &&
                     parts_.completion.with_continuations(locked) == 0 &&
                     !parts_.backpressure.has_waiters(locked) && !parts_.phase.closed;
  submitted_seen_ = submitted;
  if (looks_by_itself_) {
    parts_.dispatcher.look_again_soon(locked);
  } else if (!has_leader) {
    parts_.bells.make_stale(locked);
    parts_.dispatcher.arm_all(locked);
    if (parts_.dispatcher.collect_results(locked)) return false;
  }
  return true;
}

void Supervisor::sleep(PoolGuard& guard) {
  const Deadline deadline = next_deadline(guard);
  sleeps_until_ = deadline ? *deadline : Time::max();
  guard.unlock();
  parts_.burial.note_earlier_oom_kills();
  parts_.poll.wait(parts_.has_thread ? deadline : Deadline{Time{}});
  guard.lock();
  ++wakeups_;
  sleeps_until_ = Time::min();
}

// An event is done only when it has been handled: where that throws, it is handled again.
void Supervisor::handle_events(PoolGuard& guard) {
  for (; parts_.poll.has_event(); parts_.poll.event_is_done()) {
    const auto event = parts_.poll.event();
    switch (event.kind) {
      case SupervisorPoll::Event::Kind::interrupt: handle_interrupt(guard); break;
      case SupervisorPoll::Event::Kind::tail:
        guard.unlock();
        answer_tail();
        guard.lock();
        break;
      case SupervisorPoll::Event::Kind::launcher: break;  // `check_workers` asks it
      case SupervisorPoll::Event::Kind::death:
      case SupervisorPoll::Event::Kind::message: handle_worker_event(guard, event); break;
    }
  }
}

void Supervisor::handle_worker_event(Locked locked, const SupervisorPoll::Event& event) {
  WorkerSlot& slot = parts_.slots.at(locked, event.slot);
  if (!slot.watched || event.incarnation != slot.incarnation) return;
  if (event.kind == SupervisorPoll::Event::Kind::death) {
    slot.found_dead = true;
  } else if (parts_.dispatcher.take_messages(locked, slot)) {
    parts_.poll.hear_messages_again(slot);
  }
}

void Supervisor::answer_tail() {
  if (parts_.collector.answer_tail()) {
    tail_again_ = parts_.clock.now() + between_guests;
  } else {
    parts_.poll.stop_hearing_tail();
    parts_.collector.withdraw_tail();
  }
}

void Supervisor::handle_interrupt(PoolGuard& guard) {
  (void)interrupt_->bell().clear();
  if (interrupt_->count() > 1) {
    for (WorkerSlot& slot : parts_.slots.all(guard)) WorkerControl::signal(guard, slot, SIGKILL);
    guard.unlock();
    exit_now(exit_code::interrupted);
  }
  parts_.ending.interrupt(guard);
  parts_.poll.hear_interrupt_again(interrupt_->bell().fd());
}

void Supervisor::check_workers(PoolGuard& guard) {
  parts_.poll.hear_launcher(-1);  // what follows may close its descriptor
  // By index: a burial gives the lock away, and the list may grow.
  for (std::size_t i = 0; i < parts_.slots.size(guard); ++i) {
    if (WorkerSlot& slot = parts_.slots.at(guard, i); slot.found_dead) parts_.burial.bury(guard, slot);
  }
  const auto now = parts_.clock.now();
  for (WorkerSlot& slot : parts_.slots.all(guard)) parts_.health.check(guard, slot, now);
  check_deferred(guard, now);
  parts_.starter.check(guard, now);
  hear_launcher(guard);
  if (parts_.phase.closed && parts_.completion.nothing_left(guard)) {
    end_when_all_left(guard);
  } else if (parts_.slots.wanted(guard) == 0 && parts_.starter.may_start(guard, now)) {
    parts_.dispatcher.want_all_workers(guard);
  }
}

// The fork server has news of a worker that starts, or of one that is dead and to be buried.
void Supervisor::hear_launcher(Locked locked) {
  bool wanted = parts_.starter.waits_for_launcher(locked);
  for (const WorkerSlot& slot : parts_.slots.all(locked)) wanted = wanted || slot.found_dead;
  if (wanted && parts_.context.has_launcher()) parts_.poll.hear_launcher(parts_.context.launcher().news());
}

void Supervisor::check_deferred(Locked locked, Time now) {
  parts_.burial.tidy_up(locked, now);
  if (const Deadline at = parts_.dispatcher.rebalance_at(locked); at && *at <= now) {
    parts_.dispatcher.refill(locked);
    parts_.dispatcher.rebalance(locked);
  }
  if (tail_again_ && *tail_again_ <= now) {
    tail_again_.reset();
    parts_.poll.hear_tail_again();
  }
  parts_.idle_memory.check(locked, now);
  // A call that could not be dispatched to a worker that has nothing to do is tried again: the kernel had no
  // space for the descriptor of the call's memory.
  if (parts_.pending.empty()) return;
  for (const WorkerSlot& slot : parts_.slots.all(locked)) {
    if (slot.idle() && slot.ready) return parts_.dispatcher.look_again_at(locked, now + dispatch_retry);
  }
}

// The pool is shut down and has no work left: all workers are asked to leave, and with the last one the
// supervisor ends, or, after a Ctrl-C, the process.
void Supervisor::end_when_all_left(PoolGuard& guard) {
  for (WorkerSlot& slot : parts_.slots.all(guard)) parts_.control.ask_to_leave(guard, slot);
  if (parts_.slots.live(guard) != 0) return;
  if (interrupt_ && interrupt_->count() != 0) {
    guard.unlock();
    (void)parts_.collector.shutdown(steady_clock::now() + parts_.options.log.flush_limit);
    exit_now(exit_code::interrupted);
  }
  stop_ = true;
  parts_.ending.notify_changed();
}

Deadline Supervisor::next_deadline(Locked locked) {
  Deadline next;
  const auto consider = [&](Deadline at) {
    if (at && (!next || *at < *next)) next = at;
  };
  consider(parts_.dispatcher.rebalance_at(locked));
  const bool has_calls = parts_.slots.in_flight(locked) != 0;
  // While there is something to do, the supervisor looks whether a worker was stopped. One more such look
  // comes after the last task, and then none.
  const auto submitted = parts_.completion.totals(locked).submitted;
  if (has_calls || submitted != submitted_at_last_look_) {
    consider(parts_.clock.now() + WorkerHealth::between_looks_for_stops);
    submitted_at_last_look_ = submitted;
  }
  // Where a thread leads, it looks for lost rings itself.
  if (has_calls && !parts_.waiters.has_leader(locked)) consider(parts_.dispatcher.next_look(locked));
  consider(parts_.idle_memory.next(locked));
  consider(tail_again_);
  consider(parts_.limits.next(locked));
  consider(parts_.starter.next(locked));
  consider(parts_.burial.next(locked));
  for (const WorkerSlot& slot : parts_.slots.all(locked)) consider(parts_.health.next(locked, slot));
  return next;
}

}  // namespace kindred::internal
