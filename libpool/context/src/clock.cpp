#include "kindred/internal/clock.hpp"

#include <cmath>

namespace kindred::internal {
namespace {

struct Pair {
  std::uint64_t tick;
  std::chrono::steady_clock::time_point time;
};

// The reading of both clocks that took the fewest ticks of several, so that a preemption between the two does not count.
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

double measure() noexcept {
#if defined(__aarch64__)
  std::uint64_t frequency;
  asm volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
  return static_cast<double>(frequency) / 1e9;
#else
  const Pair begin = read_both();
  Pair end = begin;
  while (end.time - begin.time < std::chrono::milliseconds{2}) end = read_both();
  return static_cast<double>(end.tick - begin.tick) / std::chrono::duration<double, std::nano>(end.time - begin.time).count();
#endif
}

}  // namespace

double ticks_per_nanosecond() noexcept {
  static const double rate = measure();
  return rate;
}

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
