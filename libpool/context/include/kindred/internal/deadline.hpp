#pragma once

#include <chrono>
#include <optional>

namespace kindred::internal {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;  ///< nothing: for ever

/// A wait this long is a wait for ever: it would overflow the clock.
inline constexpr std::chrono::hours longest_wait{24 * 365 * 100};

/// The same for a limit that is kept: a sum of two of these still fits the clock.
[[nodiscard]] constexpr std::chrono::nanoseconds within_longest_wait(
    std::chrono::nanoseconds limit) noexcept {
  return limit < longest_wait ? limit : longest_wait;
}

template <class Rep, class Period>
[[nodiscard]] Deadline deadline_after(const std::chrono::duration<Rep, Period>& duration) {
  if (duration > longest_wait) return {};
  if (duration <= duration.zero()) return std::chrono::steady_clock::now();
  return std::chrono::steady_clock::now() + std::chrono::ceil<std::chrono::steady_clock::duration>(duration);
}

/// A time of another clock is translated once, when the wait begins.
template <class Clock, class Duration>
[[nodiscard]] Deadline deadline_at(const std::chrono::time_point<Clock, Duration>& time) {
  const auto now = Clock::now();
  if (time <= now) return std::chrono::steady_clock::now();  // before the difference, which could overflow
  return deadline_after(time - now);
}

}  // namespace kindred::internal
