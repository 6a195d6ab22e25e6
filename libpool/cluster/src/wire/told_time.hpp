#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace kindred::internal::cluster {

/// Returns `a - b`, modulo 2^64: of times that another machine has told, which may be any numbers.
[[nodiscard]] constexpr std::int64_t told_difference(std::int64_t a, std::int64_t b) noexcept {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}

/// Returns a duration that another machine has told, at most a year: so that a moment can be added to it.
[[nodiscard]] constexpr std::chrono::nanoseconds told_duration(std::int64_t nanoseconds) noexcept {
  constexpr std::chrono::nanoseconds longest = std::chrono::hours{24 * 365};
  return std::clamp(std::chrono::nanoseconds{nanoseconds}, std::chrono::nanoseconds{0}, longest);
}

}  // namespace kindred::internal::cluster
