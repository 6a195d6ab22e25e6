#include "wait/waiters.hpp"

#include <algorithm>
#include <chrono>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/injection.hpp"
#include "try_yield.hpp"

namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

// How long the leader looks for its result before it sleeps. Waking it again costs the worker about 20 us.
constexpr std::chrono::microseconds spin_time{50};
// Where workers fill all cores with short tasks, a leader that spins would take one from them, and one that
// is rung for each result would cost them 20 us each time. It looks in now and then; what is dispatched ahead
// lasts longer.
constexpr std::chrono::microseconds nap_time{100};

bool passed(Deadline deadline) { return deadline && steady_clock::now() >= *deadline; }

}  // namespace

bool Waiters::wait(FutureState& state, Deadline deadline) {
  Waiter me;
  me.target = &state;
  return wait_until([&state] { return state.finished(); }, me, deadline);
}

void Waiters::wake(Locked locked, Waiter& waiter) noexcept {
  waiter.signal.store(1, std::memory_order_release);
  if (&waiter != leader_) {
    futex_wake(waiter.signal, 1);
  } else if (const auto leader = parts_.bells.leader(locked);
             leader == Bells::Leader::sleeps || leader == Bells::Leader::naps) {
    parts_.bell().ring();
  }
}

void Waiters::wake_followers(Locked locked, const FutureState& state) noexcept {
  for (Waiter* const waiter : followers_) {
    if (waiter->target == &state) wake(locked, *waiter);
  }
}

bool Waiters::wait_until(const Ready& ready, Waiter& waiter, Deadline deadline) {
  PoolGuard guard{parts_.mutex};
  (void)parts_.dispatcher.collect_results(guard);
  bool answer = ready();
  if (answer || (deadline && deadline->time_since_epoch().count() == 0)) return answer;
  if (waiter.target != nullptr) waiter.target->note_sleeper(guard);
  while (!(answer = ready()) && !passed(deadline)) {
    if (leader_ == nullptr) return lead(guard, ready, waiter, deadline);
    if ((answer = follow(guard, ready, waiter, deadline))) break;
  }
  // A leader that stopped may have woken this thread to lead, and this thread does not.
  if (leader_ == nullptr) pass_lead(guard);
  return answer;
}

// Sleeps until woken, which may be for nothing; true: it is ready already.
bool Waiters::follow(PoolGuard& guard, const Ready& ready, Waiter& waiter, Deadline deadline) {
  followers_.push_back(&waiter);
  waiter.signal.store(0, std::memory_order_relaxed);
  const bool is_ready = ready();
  if (!is_ready) {
    guard.unlock();
    futex_wait(waiter.signal, 0, deadline);
    guard.lock();
  }
  [[maybe_unused]] const std::size_t erased = std::erase(followers_, &waiter);
  KINDRED_ASSERT(erased == 1U);
  KINDRED_ASSERT(&waiter != leader_);
  return is_ready;
}

bool Waiters::lead(PoolGuard& guard, const Ready& ready, Waiter& waiter, Deadline deadline) {
  KINDRED_ASSERT(leader_ == nullptr);
  KINDRED_ASSERT((parts_.bells.leader(guard) == Bells::Leader::none));
  leader_ = &waiter;
  parts_.bells.set_leader(guard, Bells::Leader::looks);
  parts_.completion.lead_for(guard, waiter.target);
  bool answer = false;
  for (;;) {
    if (parts_.spin && parts_.cores.saturated(guard, nap_time)) {
      nap(guard, deadline);
      answer = ready();
      if (answer || passed(deadline)) break;
      parts_.cores.spread_over_cores(guard);
      continue;
    }
    answer = look_for_results(guard, ready);
    if (answer) break;
    if (passed(deadline)) {
      answer = ready();
      break;
    }
    waiter.signal.store(0, std::memory_order_relaxed);
    sleep(guard, ready, deadline);
    answer = ready();
    if (answer) break;
  }
  stop_leading(guard);
  return answer;
}

void Waiters::stop_leading(Locked locked) {
  KINDRED_ASSERT(leader_ != nullptr);
  KINDRED_ASSERT((parts_.bells.leader(locked) != Bells::Leader::none));
  leader_ = nullptr;
  parts_.bells.set_leader(locked, Bells::Leader::none);
  parts_.completion.lead_for(locked, nullptr);
  pass_lead(locked);
}

// To a thread that follows; where there is none, to the supervisor.
void Waiters::pass_lead(Locked locked) {
  if (!followers_.empty())
    return wake(locked, *followers_.front());  // else its result would wait for another's
  parts_.bells.make_stale(locked);
  parts_.dispatcher.arm_all(locked);
  if (parts_.dispatcher.collect_results(locked)) parts_.dispatcher.arm_all(locked);
}

// Spins for a while; true: it is ready.
bool Waiters::look_for_results(PoolGuard& guard, const Ready& ready) {
  const auto spin_ticks = static_cast<std::uint64_t>(
      static_cast<double>(std::chrono::nanoseconds{spin_time}.count()) * ticks_per_nanosecond());
  auto since = ticks();
  bool spins_on = false;
  for (unsigned round = 1; may_spin(guard) && parts_.slots.in_flight(guard) != 0; ++round) {
    const auto before = ticks();
    if (!give_way(guard, round) && !spins_on) {
      spins_on = spinning_on_.take();
      if (!spins_on) return false;
    }
    (void)spin_permit_.note_step(before, ticks());
    if (parts_.dispatcher.collect_results(guard)) since = ticks();
    if (ready()) {
      if (spins_on) spinning_on_.was_of_use();
      return true;
    }
    if (ticks() - since > spin_ticks) break;
  }
  if (spins_on) spinning_on_.was_of_no_use();
  return false;
}

bool Waiters::may_spin(Locked) const noexcept { return parts_.spin && spin_permit_.holds(ticks()); }

// One look at each ring costs less than giving the lock away; the lock is open in between for those that
// submit. False: a worker may be queued behind this thread, and the kernel has not let it in. It may as well
// be on its way to another core, so the thread sleeps at once only where spinning on was of no use before.
bool Waiters::give_way(PoolGuard& guard, unsigned round) {
  const auto neighbour = parts_.cores.neighbour_on(guard, parts_.control.publish_cpu(guard));
  const bool woke_a_worker = parts_.control.take_woke_a_worker(guard);
  guard.unlock();
  bool let_in = true;
  // The worker may be queued behind us on this core, which is where most that were just woken are. But a
  // thread that yields to a long task gets the core back when the kernel takes it from that, some
  // milliseconds later; a thread that sleeps then is woken elsewhere.
  if (neighbour == Cores::Neighbour::short_task ||
      (neighbour == Cores::Neighbour::none && (woke_a_worker || round % 16 == 0))) {
    let_in = try_yield(parts_.yield) || (neighbour == Cores::Neighbour::none && !woke_a_worker);
  } else {
    for (int i = 0; i < 8; ++i) cpu_relax();
  }
  guard.lock();
  return let_in;
}

// Lets the workers have all cores for a moment, and takes in what they have done meanwhile.
void Waiters::nap(PoolGuard& guard, Deadline deadline) {
  parts_.bells.set_leader(guard, Bells::Leader::naps);
  parts_.dispatcher.arm_all(guard);  // the supervisor, should a worker run dry meanwhile
  guard.unlock();
  const auto until = steady_clock::now() + nap_time;
  parts_.bell().wait(deadline ? std::min(*deadline, until) : until);
  guard.lock();
  parts_.bells.set_leader(guard, Bells::Leader::looks);
  (void)parts_.bell().clear();
  (void)parts_.dispatcher.collect_results(guard);
}

void Waiters::sleep(PoolGuard& guard, const Ready& ready, Deadline deadline) {
  parts_.bells.set_leader(guard, Bells::Leader::sleeps);
  KINDRED_INJECTION_POINT("parent.wait.before_arming");
  parts_.bells.make_stale(guard);
  parts_.dispatcher.arm_all(guard);
  // After arming: a result that came before it has rung no bell.
  const bool came = parts_.dispatcher.collect_results(guard);
  if (!came && !ready()) {
    const Deadline until = next_look(guard, deadline);
    parts_.cores.spread_over_cores(guard);
    guard.unlock();
    KINDRED_INJECTION_POINT("parent.wait.before_sleep");
    const bool rang = parts_.bell().wait(until);
    KINDRED_INJECTION_POINT("parent.wait.woken");
    guard.lock();
    if (!rang) parts_.dispatcher.look_found_nothing(guard);
  }
  parts_.bells.set_leader(guard, Bells::Leader::looks);
  (void)parts_.bell().clear();
  (void)parts_.dispatcher.collect_results(guard);
}

// When a sleeping leader looks round though no bell has rung: for a lost ring, and for calls that a stopped
// worker has not begun.
Deadline Waiters::next_look(Locked locked, Deadline deadline) {
  Dispatcher& dispatcher = parts_.dispatcher;
  if (const auto again = dispatcher.next_look(locked);
      parts_.slots.in_flight(locked) != 0 && (!deadline || again < *deadline))
    deadline = again;
  dispatcher.look_at_unbegun_later(locked);
  const std::uint64_t due_ticks = dispatcher.rebalance_due(locked);
  if (due_ticks == 0) return deadline;
  const auto now = ticks();
  const auto left = due_ticks > now ? static_cast<double>(due_ticks - now) / ticks_per_nanosecond() : 0;
  const auto due = steady_clock::now() + std::chrono::nanoseconds{static_cast<std::int64_t>(left)};
  return !deadline || due < *deadline ? due : deadline;
}

}  // namespace kindred::internal
