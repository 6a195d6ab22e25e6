#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

namespace kindred::internal {

/// The decimal digits of 0 to 99, two each.
inline constexpr std::array<char, 200> digit_pairs = [] {
  std::array<char, 200> digits{};
  for (std::size_t i = 0; i < 100; ++i) {
    digits[i * 2] = static_cast<char>('0' + i / 10);
    digits[i * 2 + 1] = static_cast<char>('0' + i % 10);
  }
  return digits;
}();

/// The powers of ten; but for the first, which is 0, so that 0 has one digit.
inline constexpr std::array<std::uint64_t, 20> powers_of_ten = [] {
  std::array<std::uint64_t, 20> all{};
  std::uint64_t power = 1;
  for (auto& each : all) {
    each = power;
    power *= 10;
  }
  all[0] = 0;
  return all;
}();

/// How many decimal digits `number` has.
[[nodiscard]] inline std::size_t count_digits(std::uint64_t number) noexcept {
  // 1233 / 4096 is the logarithm of 2, near enough.
  const auto guess = static_cast<std::size_t>(std::bit_width(number | 1U)) * 1233 >> 12U;
  return guess + (number >= powers_of_ten[guess] ? 1 : 0);
}

/// Writes the two digits of `number`, which is below 100, and returns their end.
[[gnu::always_inline]] inline char* write_pair(char* target, std::size_t number) noexcept {
  std::memcpy(target, &digit_pairs[number * 2], 2);
  return target + 2;
}

/// As `write_decimal`, for a number of five digits and more.
inline char* write_long_decimal(char* target, std::uint64_t number) noexcept {
  char* const end = target + count_digits(number);
  char* at = end;
  for (; number >= 100; number /= 100) {
    at -= 2;
    std::memcpy(at, &digit_pairs[static_cast<std::size_t>(number % 100) * 2], 2);
  }
  if (number >= 10)
    std::memcpy(at - 2, &digit_pairs[static_cast<std::size_t>(number) * 2], 2);
  else
    at[-1] = static_cast<char>('0' + number);
  return end;
}

/// Writes `number` in decimal, at most 20 characters, and returns their end.
inline char* write_decimal(char* target, std::uint64_t number) noexcept {
  if (number >= 10000) [[unlikely]]
    return write_long_decimal(target, number);
  // Most numbers that programs log are as short as this.
  const auto small = static_cast<std::uint32_t>(number);
  const std::uint32_t hundreds = small / 100;
  const std::uint32_t rest = small % 100;
  if (hundreds == 0) {
    if (rest >= 10) return write_pair(target, rest);
    *target = static_cast<char>('0' + rest);
    return target + 1;
  }
  if (hundreds >= 10)
    target = write_pair(target, hundreds);
  else
    *target++ = static_cast<char>('0' + hundreds);
  return write_pair(target, rest);
}
inline char* write_decimal(char* target, std::int64_t number) noexcept {
  if (number >= 0) return write_decimal(target, static_cast<std::uint64_t>(number));
  *target = '-';
  return write_decimal(target + 1, ~static_cast<std::uint64_t>(number) + 1);
}
/// Writes `number` with leading zeros to exactly `digits` places.
inline void write_padded(char* target, std::uint32_t number, std::size_t digits) noexcept {
  for (; digits >= 2; number /= 100)
    std::memcpy(target + (digits -= 2), &digit_pairs[static_cast<std::size_t>(number % 100) * 2], 2);
  if (digits != 0) *target = static_cast<char>('0' + number % 10);
}

/// Text that grows at its end: where lines are put together before they are written. Keeps its memory, and
/// does not fill it with zeros first. One thread at a time.
class TextBuffer {
 public:
  /// Returns room for `bytes` more at the end, to be filled and then counted by `advance`.
  char* reserve(std::size_t bytes) {
    if (bytes > capacity_ - size_) [[unlikely]]
      grow(bytes);
    return data_.get() + size_;
  }
  void advance(std::size_t bytes) noexcept { size_ += bytes; }
  /// Counts what was filled up to `end`.
  void end_at(const char* end) noexcept { size_ = static_cast<std::size_t>(end - data_.get()); }
  void append(std::string_view text) {
    char* const target = reserve(text.size());
    if (!text.empty()) std::memcpy(target, text.data(), text.size());
    size_ += text.size();
  }
  void push_back(char c) {
    *reserve(1) = c;
    ++size_;
  }
  void append_number(std::uint64_t number) {
    char* const target = reserve(20);
    advance(static_cast<std::size_t>(write_decimal(target, number) - target));
  }
  void append_number(std::int64_t number) {
    if (number < 0) push_back('-');
    append_number(number < 0 ? ~static_cast<std::uint64_t>(number) + 1 : static_cast<std::uint64_t>(number));
  }
  /// Writes `number` with leading zeros to exactly `digits` places.
  void append_padded(std::uint32_t number, std::size_t digits) {
    write_padded(reserve(digits), number, digits);
    size_ += digits;
  }
  void truncate(std::size_t size) noexcept { size_ = size; }
  void clear() noexcept { size_ = 0; }
  void erase_front(std::size_t bytes) noexcept {
    if (bytes == 0) return;
    size_ -= bytes;
    std::memmove(data_.get(), data_.get() + bytes, size_);
  }
  /// Opens a gap of `bytes` at `at`, filled with `fill`.
  void insert(std::size_t at, std::size_t bytes, char fill) {
    reserve(bytes);
    std::memmove(data_.get() + at + bytes, data_.get() + at, size_ - at);
    std::memset(data_.get() + at, fill, bytes);
    size_ += bytes;
  }
  /// Gives memory back where a giant line had made it larger than `bytes`. Only where it is empty.
  void shrink(std::size_t bytes) noexcept {
    if (size_ == 0 && capacity_ > bytes) {
      data_.reset();
      capacity_ = 0;
    }
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] char* data() noexcept { return data_.get(); }
  [[nodiscard]] std::string_view view() const noexcept { return {data_.get(), size_}; }
  [[nodiscard]] std::string_view view(std::size_t from) const noexcept {
    return {data_.get() + from, size_ - from};
  }

 private:
  void grow(std::size_t bytes) {
    const std::size_t capacity = std::max({capacity_ * 2, size_ + bytes, std::size_t{1024}});
    auto larger = std::make_unique_for_overwrite<char[]>(capacity);
    if (size_ != 0) std::memcpy(larger.get(), data_.get(), size_);
    data_ = std::move(larger);
    capacity_ = capacity;
  }

  std::unique_ptr<char[]> data_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace kindred::internal
