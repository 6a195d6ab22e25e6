#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kindred/internal/text_buffer.hpp"

namespace kindred::internal {

/// No number of ten-thousandths.
inline constexpr std::uint64_t no_places = ~std::uint64_t{0};

/// As `places_of`, for a size of 1e11 and more: with fewer than four places, there are 15 digits at most.
[[gnu::noinline]] inline std::uint64_t places_of_large(double size) noexcept {
  constexpr double limit = 1e15;
  if (!(size < limit)) return no_places;
  double power = 1000;
  while (size * power >= limit) power /= 10;
  const auto digits = static_cast<std::int64_t>(size * power + 0.5);
  if (static_cast<double>(digits) / power != size) return no_places;
  return static_cast<std::uint64_t>(digits) * static_cast<std::uint64_t>(10000 / static_cast<int>(power));
}

/// How many ten-thousandths the number is, without its sign, where it is a decimal with at most four places
/// after the point and at most 15 digits in all; else `no_places`. Most numbers that programs log are of this
/// kind, and a general algorithm takes several times as long for them.
///
/// Why this is exact: `digits` is below 2^53 and the power of ten is a double, so `digits / power` is the
/// double nearest to that decimal. Where it equals `value`, the decimal reads back as `value`; decimals of up
/// to 15 digits read back as different doubles, so there is no other of that length, and none shorter but the
/// same without the zeros at its end, which are left out.
inline std::uint64_t places_of(double value) noexcept {
  const double size = std::fabs(value);
  const double scaled = size * 10000;
  if (!(scaled < 1e15)) [[unlikely]]
    return places_of_large(size);
  const auto digits = static_cast<std::int64_t>(scaled + 0.5);
  if (static_cast<double>(digits) / 10000 != size || (digits == 0 && std::signbit(value))) return no_places;
  return static_cast<std::uint64_t>(digits);
}

/// Writes the number `places` / 10,000 as `fmt::format("{}")` would: 4.25, -0.5, 1000. Returns where the text
/// ends. `target` has room for 24 characters.
inline char* write_places(char* target, bool negative, std::uint64_t places) noexcept {
  if (negative) *target++ = '-';
  const std::uint64_t whole = places / 10000;
  const auto rest = static_cast<std::uint32_t>(places - whole * 10000);
  if (whole < 10)
    *target++ = static_cast<char>('0' + whole);
  else
    target = write_decimal(target, whole);
  if (rest == 0) return target;
  *target++ = '.';
  const std::uint32_t last = rest % 100;
  target = write_pair(target, rest / 100);
  if (last != 0) target = write_pair(target, last);
  return target[-1] == '0' ? target - 1 : target;
}

}  // namespace kindred::internal
