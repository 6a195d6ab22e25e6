#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "kindred/internal/text_buffer.hpp"

namespace kindred::internal {

/// The decimal digits of 0 to 999 from the left, and how many they are.
struct SmallNumber {
  char digits[3];
  std::uint8_t size;
};
inline constexpr std::array<SmallNumber, 1000> small_numbers = [] {
  std::array<SmallNumber, 1000> all{};
  for (unsigned number = 0; number < 1000; ++number) {
    SmallNumber& one = all[number];
    if (number >= 100) one.digits[one.size++] = static_cast<char>('0' + number / 100);
    if (number >= 10) one.digits[one.size++] = static_cast<char>('0' + number / 10 % 10);
    one.digits[one.size++] = static_cast<char>('0' + number % 10);
  }
  return all;
}();
/// The same with leading zeros.
inline constexpr std::array<SmallNumber, 1000> padded_numbers = [] {
  std::array<SmallNumber, 1000> all{};
  for (unsigned number = 0; number < 1000; ++number)
    all[number] = {{static_cast<char>('0' + number / 100), static_cast<char>('0' + number / 10 % 10),
                    static_cast<char>('0' + number % 10)},
                   3};
  return all;
}();

/// As `write_decimal`, faster for numbers below a million, which most are that programs log. Up to three
/// bytes behind the digits are written over: `target` has room for 24.
[[gnu::always_inline]] inline char* write_number(char* target, std::uint64_t number) noexcept {
  if (number < 1000) [[likely]] {
    std::memcpy(target, &small_numbers[number], sizeof(SmallNumber));
    return target + small_numbers[number].size;
  }
  if (number >= 1'000'000) [[unlikely]]
    return write_decimal(target, number);
  const std::uint32_t thousands = static_cast<std::uint32_t>(number) / 1000;
  std::memcpy(target, &small_numbers[thousands], sizeof(SmallNumber));
  target += small_numbers[thousands].size;
  std::memcpy(target, &padded_numbers[static_cast<std::uint32_t>(number) - thousands * 1000],
              sizeof(SmallNumber));
  return target + 3;
}
[[gnu::always_inline]] inline char* write_number(char* target, std::int64_t number) noexcept {
  if (number >= 0) [[likely]]
    return write_number(target, static_cast<std::uint64_t>(number));
  *target = '-';
  return write_decimal(target + 1, ~static_cast<std::uint64_t>(number) + 1);
}

/// Writes the six digits of `number`, which is below a million, and nothing behind them.
[[gnu::always_inline]] inline void write_six_digits(char* target, std::uint32_t number) noexcept {
  const std::uint32_t thousands = number / 1000;
  std::memcpy(target, &padded_numbers[thousands], sizeof(SmallNumber));
  std::memcpy(target + 3, padded_numbers[number - thousands * 1000].digits, 3);
}

/// Writes the nine digits of `number`, which is below a billion, and nothing behind them.
[[gnu::always_inline]] inline void write_nine_digits(char* target, std::uint32_t number) noexcept {
  const std::uint32_t millions = number / 1'000'000;
  std::memcpy(target, &padded_numbers[millions], sizeof(SmallNumber));
  write_six_digits(target + 3, number - millions * 1'000'000);
}

}  // namespace kindred::internal
