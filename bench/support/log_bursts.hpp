#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "kindred/internal/clock.hpp"
#include "support/bench.hpp"

namespace bench {

/// What every logger is given in the row `log_call`: a string, an int, a double, twenty times in a burst, and
/// then a pause that lets the reader catch up, as a program that does something between its messages would.
inline constexpr std::size_t burst = 20;
inline constexpr std::chrono::microseconds burst_pause{1000};

/// Ticks of the TSC in a nanosecond, by 20 ms of both clocks: exact to a thousandth, which is more than the
/// machine is.
[[nodiscard]] inline double ticks_a_nanosecond() {
  const double begin = now_ns();
  const auto ticks = kindred::internal::ticks();
  std::this_thread::sleep_for(std::chrono::milliseconds{20});
  return static_cast<double>(kindred::internal::ticks() - ticks) / (now_ns() - begin);
}

/// What the TSC can tell apart: the median difference of two readings that follow on each other and differ
/// (10 ns on some virtual machines).
[[nodiscard]] inline double tick_step() {
  std::vector<std::uint64_t> differences;
  auto last = kindred::internal::ticks();
  for (int reading = 0; reading < 10'000; ++reading) {
    const auto now = kindred::internal::ticks();
    if (now != last) differences.push_back(now - last);
    last = now;
  }
  const auto middle = differences.begin() + static_cast<std::ptrdiff_t>(differences.size() / 2);
  std::nth_element(differences.begin(), middle, differences.end());
  return static_cast<double>(*middle);
}

/// Nanoseconds a call, measured over each burst by the TSC. `log(text, number, real)` is the call.
template <class Log>
[[nodiscard]] Samples time_bursts(std::size_t bursts, Log&& log) {
  const double ticks_a_ns = ticks_a_nanosecond();
  const std::string text = "customer 4711";
  Samples samples{bursts, tick_step() / ticks_a_ns / static_cast<double>(burst)};
  std::int64_t number = 0;
  for (std::size_t done = 0; done < bursts + bursts / 10 + 1; ++done) {
    const auto begin = kindred::internal::ticks();
    for (std::size_t call = 0; call < burst; ++call, ++number)
      log(text, number, 0.25 * static_cast<double>(number));
    const auto took = kindred::internal::ticks() - begin;
    if (done > bursts / 10) samples.add(static_cast<double>(took) / ticks_a_ns / static_cast<double>(burst));
    std::this_thread::sleep_for(burst_pause);
  }
  return samples;
}

}  // namespace bench
