// Ticks and time.
#include "kindred/internal/clock.hpp"

#include <chrono>
#include <thread>

#include <doctest/doctest.h>


using namespace std::chrono_literals;

TEST_CASE("ticks measure time") {
  const double rate = kindred::internal::ticks_per_nanosecond();
  const auto begin = std::chrono::steady_clock::now();
  const auto ticks = kindred::internal::ticks();
  std::this_thread::sleep_for(50ms);
  const double by_ticks = static_cast<double>(kindred::internal::ticks() - ticks) / rate;
  const double by_clock = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
  CHECK(by_ticks == doctest::Approx(by_clock).epsilon(0.02));
}

TEST_CASE("a process that is told what a tick is believes it") {
  const double rate = kindred::internal::ticks_per_nanosecond();
  kindred::internal::tell_ticks_per_nanosecond(2 * rate);
  CHECK(kindred::internal::ticks_per_nanosecond() == 2 * rate);
  kindred::internal::tell_ticks_per_nanosecond(rate);
  CHECK(kindred::internal::ticks_per_nanosecond() == rate);
}
