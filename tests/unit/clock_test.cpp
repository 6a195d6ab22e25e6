// Ticks and time.
#include "kindred/internal/clock.hpp"

#include <chrono>
#include <thread>

#include <doctest/doctest.h>

using namespace std::chrono_literals;

TEST_CASE("ticks measure time") {
  const double rate = kindred::internal::ticks_per_nanosecond();
  // The clock is read on both sides of each tick, so that a preemption between two readings does not count.
  using Nanoseconds = std::chrono::duration<double, std::nano>;
  const auto outer = std::chrono::steady_clock::now();
  const auto ticks = kindred::internal::ticks();
  const auto inner = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(20ms);
  const Nanoseconds least = std::chrono::steady_clock::now() - inner;
  const double by_ticks = static_cast<double>(kindred::internal::ticks() - ticks) / rate;
  const Nanoseconds most = std::chrono::steady_clock::now() - outer;
  CHECK(by_ticks >= least.count() * 0.999);
  CHECK(by_ticks <= most.count() * 1.001);
}

TEST_CASE("a process that is told what a tick is believes it") {
  const double rate = kindred::internal::ticks_per_nanosecond();
  kindred::internal::tell_ticks_per_nanosecond(2 * rate);
  CHECK(kindred::internal::ticks_per_nanosecond() == 2 * rate);
  kindred::internal::tell_ticks_per_nanosecond(rate);
  CHECK(kindred::internal::ticks_per_nanosecond() == rate);
}

TEST_CASE("a counter frequency that firmware states wrongly is not believed") {
  CHECK(kindred::internal::believed_tick_rate(0.024, 0.02401) == 0.024);
  CHECK(kindred::internal::believed_tick_rate(0.024, 0.0625) == 0.0625);
  CHECK(kindred::internal::believed_tick_rate(0, 0.0625) == 0.0625);
}
