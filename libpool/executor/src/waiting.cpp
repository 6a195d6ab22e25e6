#include <algorithm>
#include <array>
#include <csignal>

#include "kindred/error.hpp"
#include "kindred/future.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/injection.hpp"
#include "pool_core.hpp"

// Threads that wait help: one of them takes in results and hands out calls itself, so that no hop through
// another thread is needed.
namespace kindred::internal {
namespace {

// How long a leading waiter looks for its result before it sleeps. Waking it again costs the worker about 20
// us.
constexpr std::chrono::microseconds spin_time{50};
// Where workers fill all cores with short tasks, a leader that spins would take one from them, and one that
// is rung for each result would cost them 20 us each time. It looks in now and then; what is handed ahead
// lasts longer.
constexpr std::chrono::microseconds nap_time{100};
constexpr double nap_for_tasks_nanoseconds = 100'000;

bool passed(Deadline deadline) { return deadline && std::chrono::steady_clock::now() >= *deadline; }

}  // namespace

bool PoolCore::wait(FutureState& state, Deadline deadline) {
  require_here("future");
  Waiter me;
  me.target = &state;
  return wait_group([&state] { return state.finished(); }, me, deadline);
}

void PoolCore::wake(Waiter& waiter) noexcept {
  waiter.signal.store(1, std::memory_order_release);
  if (&waiter != leader_) {
    futex_wake(waiter.signal, 1);
  } else if (leader_sleeps_ || leader_naps_) {
    context_.waiter_bell().ring();
  }
}

bool PoolCore::wait_group(const std::function<bool()>& ready, Waiter& waiter, Deadline deadline) {
  Lock lock{mutex_};
  (void)pump();
  bool answer = ready();
  if (answer || (deadline && deadline->time_since_epoch().count() == 0)) {
    flush_afterwards(lock);
    return answer;
  }
  if (waiter.target != nullptr) const_cast<FutureState*>(waiter.target)->has_sleepers_ = true;
  while (!(answer = ready()) && !passed(deadline)) {
    if (leader_ == nullptr) {
      leader_ = &waiter;
      answer = lead(lock, ready, waiter, deadline);
      leader_ = nullptr;
      if (!followers_.empty()) {
        wake(*followers_.front());  // somebody must lead, or its result would wait for another's
      } else {
        bells_stale_ = true;
        arm_all();
        if (pump()) arm_all();
      }
      break;
    }
    followers_.push_back(&waiter);
    waiter.signal.store(0, std::memory_order_relaxed);
    if (ready()) {
      std::erase(followers_, &waiter);
      answer = true;
      break;
    }
    flush_afterwards(lock);
    futex_wait(waiter.signal, 0, deadline);
    lock.lock();
    std::erase(followers_, &waiter);
  }
  flush_afterwards(lock);
  return answer;
}

bool PoolCore::lead(Lock& lock, const std::function<bool()>& ready, Waiter& waiter, Deadline deadline) {
  const auto spin_ticks = static_cast<std::uint64_t>(
      static_cast<double>(std::chrono::nanoseconds{spin_time}.count()) * ticks_per_nanosecond());
  for (;;) {
    if (options_.spin && saturated()) {
      nap(lock, deadline);
      if (ready()) return true;
      if (passed(deadline)) return false;
      spread_over_cores();
      continue;
    }
    auto since = ticks();
    for (unsigned round = 1; options_.spin && in_flight_ != 0; ++round) {
      // One look at each ring costs less than giving the lock away; the lock is open in between for those
      // that submit.
      const auto neighbour = neighbour_on(tell_cpu());
      const bool woke_somebody = std::exchange(woke_somebody_, false);
      flush_afterwards(lock);
      // The worker may be queued behind us on this core, as one that was just woken mostly is. But who yields
      // to a long task gets the core back when the kernel takes it from that, some milliseconds later; who
      // sleeps then is woken elsewhere.
      if (neighbour == Neighbour::short_task ||
          (neighbour == Neighbour::none && (woke_somebody || round % 16 == 0))) {
        yield_cpu();
      } else {
        for (int i = 0; i < 8; ++i) cpu_relax();
      }
      lock.lock();
      if (pump()) since = ticks();
      if (ready()) return true;
      if (ticks() - since > spin_ticks) break;
    }
    if (passed(deadline)) return ready();
    waiter.signal.store(0, std::memory_order_relaxed);
    sleep_as_leader(lock, ready, deadline);
    if (ready()) return true;
  }
}

// Lets the workers have all cores for a moment, and takes in what they have done meanwhile.
void PoolCore::nap(Lock& lock, Deadline deadline) {
  leader_naps_ = true;
  arm_all();  // the supervisor, should a worker run dry meanwhile
  flush_afterwards(lock);
  const auto until = std::chrono::steady_clock::now() + nap_time;
  context_.waiter_bell().wait(deadline ? std::min(*deadline, until) : until);
  lock.lock();
  leader_naps_ = false;
  (void)context_.waiter_bell().clear();
  (void)pump();
}

void PoolCore::sleep_as_leader(Lock& lock, const std::function<bool()>& ready, Deadline deadline) {
  leader_sleeps_ = true;
  KINDRED_INJECTION_POINT("parent.wait.before_arming");
  bells_stale_ = true;
  arm_all();
  // After arming: a result that came before it rang for nobody.
  const bool came = pump();
  if (!came && !ready()) {
    const Deadline until = next_look(deadline);
    spread_over_cores();
    flush_afterwards(lock);
    KINDRED_INJECTION_POINT("parent.wait.before_sleep");
    const bool rang = context_.waiter_bell().wait(until);
    KINDRED_INJECTION_POINT("parent.wait.woken");
    lock.lock();
    if (!rang) look_found_nothing();
  }
  leader_sleeps_ = false;
  (void)context_.waiter_bell().clear();
  (void)pump();
}

// When a sleeping leader looks round though no bell has rung: for a lost ring, and for calls that a stopped
// worker has not begun.
Deadline PoolCore::next_look(Deadline deadline) {
  if (const auto again = look_again_.next(); in_flight_ != 0 && (!deadline || again < *deadline))
    deadline = again;
  look_at_unbegun_later();
  if (rebalance_due_ == 0) return deadline;
  const auto now = ticks();
  const auto left =
      rebalance_due_ > now ? static_cast<double>(rebalance_due_ - now) / ticks_per_nanosecond() : 0;
  const auto due =
      std::chrono::steady_clock::now() + std::chrono::nanoseconds{static_cast<std::int64_t>(left)};
  return !deadline || due < *deadline ? due : deadline;
}

bool PoolCore::saturated() const noexcept {
  if (!average_.known() || average_.ticks() >= nap_for_tasks_nanoseconds * ticks_per_nanosecond())
    return false;
  unsigned busy = 0;
  const auto now = ticks();
  const double nap = static_cast<double>(std::chrono::nanoseconds{nap_time}.count());
  for (const auto& slot : slots_) {
    if (!slot->segment || !slot->ready || slot->in_flight.empty() || runs_long(*slot, now)) continue;
    const double average = slot->average.ticks_or(average_);
    if (static_cast<double>(slot->in_flight.size()) * average < ticks_of(nap))
      return false;  // it would run dry meanwhile
    ++busy;
  }
  return busy >= usable_cpus_;
}

// The kernel leaves two workers on one core for as long as a hundred milliseconds while this thread naps and
// sleeps on another: each gets the core for 4 ms in turn, and the pool has half of its throughput.
void PoolCore::spread_over_cores() noexcept {
  std::array<std::uint64_t, 16> taken{};  // by CPU, as many as sched_setaffinity knows
  std::size_t busy = 0;
  for (const auto& slot : slots_) busy += slot->segment && slot->ready && !slot->in_flight.empty() ? 1U : 0U;
  if (busy < 2 || busy > usable_cpus_) return;
  for (const auto& slot : slots_) {
    if (!slot->segment || !slot->ready || slot->in_flight.empty()) continue;
    const std::uint32_t cpu = slot->header().cpu.load(std::memory_order_relaxed);
    if (cpu == 0 || cpu > taken.size() * 64) continue;
    std::uint64_t& word = taken[(cpu - 1) / 64];
    const std::uint64_t bit = std::uint64_t{1} << ((cpu - 1) % 64);
    const std::uint32_t crowded = (word & bit) != 0 ? cpu : 0;
    word |= bit;
    auto& said = slot->header().crowded_cpu;
    if (said.load(std::memory_order_relaxed) != crowded) said.store(crowded, std::memory_order_relaxed);
  }
}

int PoolCore::tell_cpu() noexcept {
  const int cpu = current_cpu();
  if (cpu != told_cpu_) {
    told_cpu_ = cpu;
    for (const auto& slot : slots_) {
      if (slot->segment)
        slot->header().parent_cpu.store(static_cast<std::uint32_t>(cpu) + 1, std::memory_order_relaxed);
    }
  }
  return cpu;
}

PoolCore::Neighbour PoolCore::neighbour_on(int cpu) const noexcept {
  auto found = Neighbour::none;
  for (const auto& place : slots_) {
    WorkerSlot& slot = *place;
    if (!slot.segment || slot.in_flight.empty() ||
        slot.header().cpu.load(std::memory_order_relaxed) != static_cast<std::uint32_t>(cpu) + 1)
      continue;
    const auto begun = slot.header().begun_ticks.load(std::memory_order_relaxed);
    const auto now = ticks();
    const double average = slot.average.ticks_or(average_);
    const bool runs =
        slot.header().begun_attempt.load(std::memory_order_relaxed) == slot.in_flight.front().task->attempt();
    if (!runs || now <= begun || static_cast<double>(now - begun) < 8 * average + ticks_of(10'000))
      return Neighbour::short_task;
    found = Neighbour::long_task;
  }
  return found;
}

void PoolCore::add_continuation(FutureState& state, std::function<void()> action, bool in_line) {
  require_here("future");
  {
    Lock lock{mutex_};
    if (!state.finished()) {
      if (!in_line) callbacks_.start();
      if (!state.continuations_) {
        state.continuations_ = new Continuations;
        ++with_continuations_;
      }
      (in_line ? state.continuations_->in_line : state.continuations_->callbacks)
          .push_back(std::move(action));
      if (leader_ == nullptr) {
        arm_all();
        if (pump()) arm_all();  // what came before the bell was armed
      }
      return flush_afterwards(lock);
    }
    if (in_line) {  // under the lock also where it is finished already: so it is never at once with another
                    // of ours
      action();
      return flush_afterwards(lock);
    }
  }
  run_callback(action);
}

void PoolCore::wake_from_outside(Waiter& waiter) noexcept {
  const std::scoped_lock lock{mutex_};
  wake(waiter);
}

bool PoolCore::is_running(const TaskState& task) const {
  require_here("future");
  const std::scoped_lock lock{mutex_};
  if (!task.is_dispatched()) return false;
  const auto state = task.call().state.load(std::memory_order_acquire);
  return state == call_state::begun || state == call_state::done || state == call_state::condemned;
}

bool PoolCore::cancel(TaskState& task, Running how) {
  if (task.finished()) return task.outcome() == Outcome::cancelled;
  require_here("future");
  Lock lock{mutex_};
  (void)pump();
  bool answer = false;
  if (task.finished()) {
    answer = task.outcome() == Outcome::cancelled;
  } else if (task.is_pending()) {
    waiting_.remove(task);
    finish_cancelled(task, "before it began");
    answer = true;
  } else if (task.is_dispatched()) {
    WorkerSlot& slot = task.worker();
    const std::size_t position = slot.position_of(task);
    if (position < slot.in_flight.size()) {
      if (take_back(slot, position, false)) {
        finish_cancelled(task, "before it began");
        answer = true;
      } else if (how == Running::ask) {
        ask_to_stop(slot, slot.in_flight[position]);
      } else if (how == Running::kill &&
                 condemn_task(slot, slot.in_flight[position], InFlight::Condemned::cancelled, SIGKILL)) {
        task.retain();  // for the entry in flight: whoever takes that out unpins it
        finish_cancelled(task, "while it ran: its worker was killed");
        answer = true;
      }
    }
  }
  if (bounded_waiting_ != 0) room_.notify_all();
  flush_afterwards(lock);
  return answer;
}

bool PoolCore::condemn_task(WorkerSlot& slot, InFlight& entry, InFlight::Condemned why, int signal) {
  // Crash: none of ours. The worker moves begun to done before it publishes; one of the two swaps wins. Where
  // the worker's did, its result is on its way and nobody is killed, so a late kill cannot hit the next task.
  KINDRED_INJECTION_POINT("parent.condemn.before_swap");
  std::uint32_t expected = call_state::begun;
  if (!entry.header->state.compare_exchange_strong(expected, call_state::condemned,
                                                   std::memory_order_acq_rel))
    return false;
  entry.condemned = why;
  slot.kill_reason = WorkerSlot::KillReason::task;
  KINDRED_INJECTION_POINT("parent.condemn.before_kill");
  slot.worker.process.signal_group(signal);
  return true;
}

void PoolCore::ask_to_stop(WorkerSlot& slot, InFlight& entry) noexcept {
  entry.stop_asked = true;
  slot.header().stop_attempt.store(entry.task->attempt(), std::memory_order_release);
  slot.header().stop_signal.fetch_add(1, std::memory_order_release);
  futex_wake(slot.header().stop_signal, 1);
}

// --- several at once

namespace {

// Calls `note` when the state is finished: under the lock of `pool` where the state is its, else on the other
// pool's callback thread.
void watch(FutureState& state, PoolCore& pool, std::function<void(bool under_lock)> note) {
  if (pool_of(state) == &pool) {
    state.on_finished_inline([note = std::move(note)] { note(true); });
  } else {
    state.retain();  // the callback runs after the state has ended, when whoever waited may have dropped it
    StateHandle keep{&state};
    state.on_finished([note = std::move(note), keep = std::move(keep)] { note(false); });
  }
}

}  // namespace

void wait_for_states(const std::vector<FutureState*>& states, ReturnWhen when, Deadline deadline) {
  if (when == ReturnWhen::all_completed) {
    for (FutureState* const state : states) {
      if (!state->wait(deadline)) return;
    }
    return;
  }
  struct Shared {
    std::mutex mutex;
    std::size_t left = 0;
    bool satisfied = false;
    Waiter waiter;
  };
  const auto satisfies = [when](const FutureState& state) {
    return state.finished() && (when == ReturnWhen::first_completed || state.outcome() == Outcome::failure);
  };
  PoolCore* pool = nullptr;
  for (FutureState* const state : states) {
    if (satisfies(*state)) return;
    if (!state->finished()) pool = pool_of(*state);
  }
  if (pool == nullptr) return;
  auto shared = std::make_shared<Shared>();
  shared->left = states.size();
  // The note may come after this call has returned: what it touches lives in `shared`, and the pool in the
  // state that it is a note of.
  pool->retain();
  const std::shared_ptr<PoolCore> keep{pool, [](PoolCore* kept) { kept->release(); }};
  for (FutureState* const state : states) {
    watch(*state, *pool, [shared, state, satisfies, keep](bool under_lock) {
      {
        const std::scoped_lock lock{shared->mutex};
        --shared->left;
        if (satisfies(*state) || shared->left == 0) shared->satisfied = true;
        if (!shared->satisfied) return;
      }
      if (under_lock) {
        keep->wake(shared->waiter);
      } else {
        keep->wake_from_outside(shared->waiter);
      }
    });
  }
  const auto ready = [&shared] {
    const std::scoped_lock lock{shared->mutex};
    return shared->satisfied;
  };
  (void)pool->wait_group(ready, shared->waiter, deadline);
}

struct CompletionQueue::Shared {
  std::mutex mutex;
  std::deque<std::size_t> finished;
  Waiter waiter;
  std::shared_ptr<PoolCore> pool;
};

CompletionQueue::CompletionQueue(const std::vector<FutureState*>& states)
    : shared_{std::make_shared<Shared>()}, left_{states.size()} {
  if (states.empty()) return;
  PoolCore* pool = pool_of(*states.front());
  for (FutureState* const state : states) {
    if (!state->finished()) pool = pool_of(*state);
  }
  pool->retain();
  shared_->pool = std::shared_ptr<PoolCore>{pool, [](PoolCore* kept) { kept->release(); }};
  for (std::size_t i = 0; i < states.size(); ++i) {
    watch(*states[i], *pool, [shared = shared_, i](bool under_lock) {
      {
        const std::scoped_lock lock{shared->mutex};
        shared->finished.push_back(i);
      }
      if (under_lock) {
        shared->pool->wake(shared->waiter);
      } else {
        shared->pool->wake_from_outside(shared->waiter);
      }
    });
  }
}

CompletionQueue::~CompletionQueue() = default;

std::optional<std::size_t> CompletionQueue::next(Deadline deadline) {
  const auto take = [&]() -> std::optional<std::size_t> {
    const std::scoped_lock lock{shared_->mutex};
    if (shared_->finished.empty()) return std::nullopt;
    const std::size_t first = shared_->finished.front();
    shared_->finished.pop_front();
    --left_;
    return first;
  };
  if (const auto first = take()) return first;
  shared_->pool->require_here("future");
  const auto any = [&] {
    const std::scoped_lock lock{shared_->mutex};
    return !shared_->finished.empty();
  };
  (void)shared_->pool->wait_group(any, shared_->waiter, deadline);
  return take();
}

}  // namespace kindred::internal
