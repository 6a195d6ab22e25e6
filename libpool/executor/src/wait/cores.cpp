#include "wait/cores.hpp"

#include <array>
#include <cstddef>

#include "kindred/internal/clock.hpp"

namespace kindred::internal {
namespace {

constexpr double short_task_nanoseconds = 100'000;

}  // namespace

bool Cores::saturated(Locked locked, std::chrono::nanoseconds nap) const noexcept {
  const double average = load_.average(locked);
  if (average <= 0 || average >= load_.ticks_of(short_task_nanoseconds)) return false;
  unsigned busy = 0;
  const auto now = ticks();
  for (const WorkerSlot& slot : slots_.all(locked)) {
    if (!slot.has_calls() || !slot.ready || load_.runs_long(locked, slot, now)) continue;
    const double work = static_cast<double>(slot.in_flight.size()) * load_.average_of(locked, slot);
    if (work < load_.ticks_of(static_cast<double>(nap.count()))) return false;  // it would run dry meanwhile
    ++busy;
  }
  return busy >= usable_;
}

// The kernel leaves two workers on one core for as long as a hundred milliseconds while this thread naps and
// sleeps on another: each gets the core for 4 ms in turn, and the pool has half of its throughput.
void Cores::spread_over_cores(Locked locked) const noexcept {
  std::array<std::uint64_t, 16> taken{};  // by CPU, as many as sched_setaffinity knows
  std::size_t busy = 0;
  for (const WorkerSlot& slot : slots_.all(locked)) busy += slot.has_calls() && slot.ready ? 1U : 0U;
  if (busy < 2 || busy > usable_) return;
  for (const WorkerSlot& slot : slots_.all(locked)) {
    if (!slot.has_calls() || !slot.ready) continue;
    const std::uint32_t cpu = slot.header().cpu.load(std::memory_order_relaxed);
    if (cpu == 0 || cpu > taken.size() * 64) continue;
    std::uint64_t& word = taken[(cpu - 1) / 64];
    const std::uint64_t bit = std::uint64_t{1} << ((cpu - 1) % 64);
    const std::uint32_t crowded = (word & bit) != 0 ? cpu : 0;
    word |= bit;
    auto& said = slot.header().crowded_cpu;
    if (said.load(std::memory_order_relaxed) != crowded) said.store(crowded, std::memory_order_relaxed);
  }
}

Cores::Neighbour Cores::neighbour_on(Locked locked, int cpu) const noexcept {
  auto found = Neighbour::none;
  for (const WorkerSlot& slot : slots_.all(locked)) {
    if (!slot.has_calls() ||
        slot.header().cpu.load(std::memory_order_relaxed) != static_cast<std::uint32_t>(cpu) + 1)
      continue;
    const auto begun = slot.header().begun_ticks.load(std::memory_order_relaxed);
    const auto now = ticks();
    const double long_since = 8 * load_.average_of(locked, slot) + load_.ticks_of(10'000);
    const bool runs =
        slot.header().begun_attempt.load(std::memory_order_relaxed) == slot.in_flight.front().task->attempt();
    if (!runs || now <= begun || static_cast<double>(now - begun) < long_since) return Neighbour::short_task;
    found = Neighbour::long_task;
  }
  return found;
}

}  // namespace kindred::internal
