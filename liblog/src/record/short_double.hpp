#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>

#include <fmt/compile.h>

namespace kindred::internal {

/// Writes a number that is a decimal with at most four places after the point and at most 15 digits in all,
/// as `fmt::format("{}")` writes it: 4.25, -0.5, 1000. Most numbers that programs log are of this kind, and a
/// general algorithm takes several times as long for them. Returns where the text ends; null for every other
/// number, and then nothing is written. `target` has room for 24 characters.
///
/// Why this is exact: `digits` is below 2^53 and the power of ten is a double, so `digits / power` is the
/// double nearest to that decimal. Where it equals `value`, the decimal reads back as `value`; decimals of up
/// to 15 digits read back as different doubles, so there is no shorter one. The smallest number of places is
/// tried first, so the text ends in no zero.
inline char* write_short_double(char* target, double value) noexcept {
  constexpr double powers[] = {1, 10, 100, 1000, 10000};
  constexpr double limit = 1e15;
  const double size = std::fabs(value);
  if (!(size < limit) || (size == 0 && std::signbit(value))) return nullptr;
  for (unsigned places = 0; places < std::size(powers); ++places) {
    const double scaled = size * powers[places];
    if (!(scaled < limit)) return nullptr;
    const auto digits = static_cast<std::uint64_t>(scaled + 0.5);
    if (static_cast<double>(digits) / powers[places] != size) continue;
    if (value < 0) *target++ = '-';
    auto whole = digits;
    std::uint64_t rest = 0;
    if (places != 0) {
      const auto power = static_cast<std::uint64_t>(powers[places]);
      whole = digits / power;
      rest = digits % power;
    }
    target = fmt::format_to(target, FMT_COMPILE("{}"), whole);
    if (places == 0) return target;
    *target = '.';
    for (unsigned i = places; i > 0; --i, rest /= 10) target[i] = static_cast<char>('0' + rest % 10);
    return target + places + 1;
  }
  return nullptr;
}

}  // namespace kindred::internal
