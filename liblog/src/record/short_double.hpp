#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kindred/internal/text_buffer.hpp"

namespace kindred::internal {

/// Writes a number that is a decimal with at most four places after the point and at most 15 digits in all,
/// as `fmt::format("{}")` writes it: 4.25, -0.5, 1000. Most numbers that programs log are of this kind, and a
/// general algorithm takes several times as long for them. Returns where the text ends; null for every other
/// number, and then nothing is written. `target` has room for 24 characters.
///
/// Why this is exact: `digits` is below 2^53 and the power of ten is a double, so `digits / power` is the
/// double nearest to that decimal. Where it equals `value`, the decimal reads back as `value`; decimals of up
/// to 15 digits read back as different doubles, so there is no other of that length, and none shorter but the
/// same without the zeros at its end, which are left out.
inline char* write_short_double(char* target, double value) noexcept {
  constexpr double limit = 1e15;
  const double size = std::fabs(value);
  if (!(size < limit) || (size == 0 && std::signbit(value))) return nullptr;
  // Four decimal places, or fewer: there are 15 digits at most.
  double power = 10000;
  while (size * power >= limit) power /= 10;
  const auto digits = static_cast<std::int64_t>(size * power + 0.5);
  if (static_cast<double>(digits) / power != size) return nullptr;
  if (value < 0) *target++ = '-';
  // From here on as if there were four places.
  const auto shift = static_cast<std::uint64_t>(power == 10000 ? 1 : 10000 / static_cast<int>(power));
  const std::uint64_t places = static_cast<std::uint64_t>(digits) * shift;
  const auto rest = static_cast<std::uint32_t>(places % 10000);
  target = write_decimal(target, places / 10000);
  if (rest == 0) return target;
  *target = '.';
  write_padded(target + 1, rest, 4);
  if (rest % 100 != 0) return target + (rest % 10 != 0 ? 5 : 4);
  return target + (rest % 1000 != 0 ? 3 : 2);
}

}  // namespace kindred::internal
