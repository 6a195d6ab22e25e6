#include "kindred/internal/clock.hpp"

#include <atomic>
#include <cmath>

namespace kindred::internal {
namespace {

struct Pair {
  std::uint64_t tick;
  std::chrono::steady_clock::time_point time;
};

// The reading of both clocks that took the fewest ticks of several, so that a preemption between the two does
// not count.
Pair read_both() noexcept {
  Pair best{};
  std::uint64_t best_width = ~std::uint64_t{0};
  for (int attempt = 0; attempt < 8; ++attempt) {
    const auto before = ticks();
    const auto time = std::chrono::steady_clock::now();
    const auto after = ticks();
    if (after - before < best_width) {
      best_width = after - before;
      best = {before + (after - before) / 2, time};
    }
  }
  return best;
}

// When the program was loaded. Most pools are made some milliseconds later, and then no thread needs to wait
// for time to pass.
const Pair& at_load() noexcept {
  static const Pair pair = read_both();
  return pair;
}
[[maybe_unused]] const Pair& load = at_load();

// The least and the longest time between two readings: during a longer one the machine may have slept.
constexpr std::chrono::milliseconds shortest_base{2};
constexpr std::chrono::seconds longest_base{1};

double measure() noexcept {
  Pair begin = at_load();
  Pair end = read_both();
  if (end.time - begin.time > longest_base) begin = end;
  while (end.time - begin.time < shortest_base) end = read_both();
  const double measured = static_cast<double>(end.tick - begin.tick) /
                          std::chrono::duration<double, std::nano>(end.time - begin.time).count();
#if defined(__aarch64__)
  std::uint64_t frequency;
  asm volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
  return believed_tick_rate(static_cast<double>(frequency) / 1e9, measured);
#else
  return measured;
#endif
}

constinit std::atomic<double> told_rate{0};

}  // namespace

double believed_tick_rate(double told, double measured) noexcept {
  return std::abs(told - measured) <= measured / 100 ? told : measured;
}

double ticks_per_nanosecond() noexcept {
  if (const double told = told_rate.load(std::memory_order_relaxed); told > 0) [[likely]]
    return told;
  static const double rate = measure();
  told_rate.store(rate, std::memory_order_relaxed);
  return rate;
}

void tell_ticks_per_nanosecond(double rate) noexcept { told_rate.store(rate, std::memory_order_relaxed); }

void TickTranslator::refresh() noexcept {
  nanoseconds_per_tick_ = 1.0 / ticks_per_nanosecond();
  std::uint64_t best_width = ~std::uint64_t{0};
  for (int attempt = 0; attempt < 8; ++attempt) {
    const auto before = ticks();
    const auto time = std::chrono::system_clock::now();
    const auto after = ticks();
    if (after - before < best_width) {
      best_width = after - before;
      base_ticks_ = before + (after - before) / 2;
      base_time_ = std::chrono::time_point_cast<std::chrono::nanoseconds>(time);
    }
  }
}

}  // namespace kindred::internal
