#include "kindred/barrier.hpp"

#include <limits>
#include <optional>

#include "kindred/error.hpp"
#include "shared/shared_object.hpp"
#include "shared/sleep.hpp"

namespace kindred {

using namespace internal;

namespace {

enum BarrierBreak : std::uint32_t { whole = 0, worker_died = 1, was_aborted = 2 };

// What is slept on, so that a sleeper whose phase is complete needs no lock to know. Written while the lock
// is held, always from the state.
//
//     31 .. 21    20 .. 1   0
//    +----------+---------+--------+
//    | resets   | phase   | broken |
//    +----------+---------+--------+
constexpr std::uint32_t broken_bit = 1;
constexpr std::uint32_t phase_bits = 20;
constexpr std::uint32_t phase_mask = ((1U << phase_bits) - 1) << 1U;

std::uint32_t packed(const BarrierState& barrier) noexcept {
  return (barrier.resets << (phase_bits + 1)) | ((barrier.phase << 1U) & phase_mask) |
         (barrier.broken != whole ? broken_bit : 0);
}

std::uint32_t resets_of(std::uint32_t word) noexcept { return word >> (phase_bits + 1); }

[[noreturn]] void throw_broken(const BarrierState& barrier) {
  const std::string of = "a Barrier of " + std::to_string(barrier.expected) + " participants ";
  const std::string mend = " Nobody waits for one who will not come; call reset() to use it again.";
  switch (barrier.broken) {
    case worker_died:
      throw BrokenBarrier{of + "is broken: worker " + std::to_string(barrier.dead_worker) + " (pid " +
                          std::to_string(barrier.dead_pid) + ") ended while it had the barrier." + mend};
    case was_aborted: throw BrokenBarrier{of + "is broken: a party called abort()." + mend};
    default: throw BrokenBarrier{of + "was broken and has been reset while this one waited. Arrive again."};
  }
}

BarrierState read_whole(SharedObject& object, Critical& critical) {
  const auto barrier = critical.state().get<BarrierState>();
  if (barrier.broken != whole) throw_broken(barrier);
  if (barrier.arrived > barrier.expected) object.throw_corrupt("more have arrived than it expects");
  return barrier;
}

void commit(SharedObject& object, Critical& critical, const BarrierState& barrier) noexcept {
  critical.state().set(barrier);
  // Crash: before this line the arrival has not happened. After it, no sleeper knows of it yet: the parent
  // then does it for the dead process, publishes the state and wakes them all.
  critical.commit();
  publish_barrier(object, critical.state());
}

/// Returns the phase arrived at; nothing where the lock could not be taken in time.
std::optional<std::uint32_t> arrive_at(SharedObject& object, std::ptrdiff_t arrivals, bool and_drop,
                                       Deadline deadline = {}) {
  bool complete = false;
  std::uint32_t phase = 0;
  {
    Critical critical{object, with_grace(deadline)};
    if (!critical) return std::nullopt;
    BarrierState barrier = read_whole(object, critical);
    if (arrivals < 1 || arrivals > static_cast<std::ptrdiff_t>(barrier.expected - barrier.arrived)) {
      throw UsageError{
          std::to_string(arrivals) + " participants arrived at a Barrier of " +
          std::to_string(barrier.expected) + " where " + std::to_string(barrier.arrived) +
          " had arrived. At least 1, and no more than are expected, can arrive: make it for as many "
          "as take part."};
    }
    phase = packed(barrier);
    if (and_drop)
      --barrier.expected;
    else
      barrier.arrived += static_cast<std::uint32_t>(arrivals);
    // Whether this process has left: then its end breaks nothing.
    critical.account().held = and_drop ? 1 : 0;
    complete = barrier.arrived == barrier.expected;
    if (complete) {
      ++barrier.phase;
      barrier.arrived = 0;
    }
    commit(object, critical, barrier);
  }
  if (complete) futex_wake(object.memory().words[0], std::numeric_limits<int>::max());
  return phase;
}

void break_or_reset(SharedObject& object, bool reset) {
  {
    Critical critical{object};
    auto barrier = critical.state().get<BarrierState>();
    if (reset) {
      barrier.broken = whole;
      barrier.arrived = 0;
      ++barrier.resets;
      ++barrier.phase;
    } else if (barrier.broken == whole) {
      barrier.broken = was_aborted;
    }
    commit(object, critical, barrier);
  }
  futex_wake(object.memory().words[0], std::numeric_limits<int>::max());
}

bool wait_for_phase(SharedObject& object, std::uint32_t phase, Deadline deadline) {
  for (bool in_time = true;;) {
    // Order: acquire, pairs with the release in `publish_barrier`: what the others wrote before they arrived
    // is seen after the wait.
    const std::uint32_t seen = object.memory().words[0].load(std::memory_order_acquire);
    object.require_open();
    const bool same_life = resets_of(seen) == resets_of(phase);
    if (same_life && (seen & phase_mask) != (phase & phase_mask)) return true;
    if (!same_life || (seen & broken_bit) != 0) {
      BarrierState barrier{};
      if (Critical critical{object, with_grace(std::chrono::steady_clock::now())})
        barrier = critical.state().get<BarrierState>();
      if (!same_life) barrier.broken = whole;
      throw_broken(barrier);
    }
    if (!in_time) return false;
    in_time = spin_then_sleep(object.memory().words[0], seen, deadline);
  }
}

}  // namespace

Barrier::ArrivalToken Barrier::arrive(std::ptrdiff_t arrivals) const {
  return ArrivalToken{*arrive_at(use(), arrivals, false)};
}
void Barrier::wait(ArrivalToken token) const { wait_for_phase(use(), token.phase_, {}); }
bool Barrier::wait_before(ArrivalToken token, Deadline deadline) const {
  return wait_for_phase(use(), token.phase_, deadline);
}
void Barrier::arrive_and_drop() const { arrive_at(use(), 1, true); }
void Barrier::abort() const { break_or_reset(use(), false); }
void Barrier::reset() const { break_or_reset(use(), true); }
void Barrier::arrive_and_wait() const { arrive_and_wait_before({}); }

bool Barrier::arrive_and_wait_before(Deadline deadline) const {
  SharedObject& object = use();
  const auto phase = arrive_at(object, 1, false, deadline);
  if (!phase) return false;
  if (wait_for_phase(object, *phase, deadline)) return true;
  Critical critical{object, with_grace(deadline)};
  // Without the lock, which a stopped process holds, the arrival stands: late is better than not at all.
  if (!critical) return false;
  BarrierState barrier = read_whole(object, critical);
  if (packed(barrier) != *phase) return true;
  if (barrier.arrived != 0) --barrier.arrived;
  commit(object, critical, barrier);
  return false;
}

bool Barrier::broken() const {
  return (use().memory().words[0].load(std::memory_order_acquire) & broken_bit) != 0;
}

void internal::settle_barrier(ObjectState& state, const AccountEntry& dead, std::int32_t worker,
                              std::uint32_t pid) noexcept {
  auto barrier = state.get<BarrierState>();
  if (barrier.broken != whole || dead.held != 0) return;
  barrier.broken = worker_died;
  barrier.dead_worker = worker;
  barrier.dead_pid = pid;
  state.set(barrier);
}

void internal::publish_barrier(SharedObject& object, const ObjectState& state) noexcept {
  // Order: release, pairs with the acquire of the threads that wait.
  object.memory().words[0].store(packed(state.get<BarrierState>()), std::memory_order_release);
}

}  // namespace kindred
