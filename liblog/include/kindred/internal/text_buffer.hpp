#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

namespace kindred::internal {

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
    size_ += write_number(target, number);
  }
  void append_number(std::int64_t number) {
    if (number < 0) push_back('-');
    append_number(number < 0 ? ~static_cast<std::uint64_t>(number) + 1 : static_cast<std::uint64_t>(number));
  }
  /// Writes `number` with leading zeros to exactly `digits` places.
  void append_padded(std::uint32_t number, std::size_t digits) {
    char* const target = reserve(digits);
    size_ += digits;
    for (; digits >= 2; number /= 100)
      std::memcpy(target + (digits -= 2), &pairs[static_cast<std::size_t>(number % 100) * 2], 2);
    if (digits != 0) *target = static_cast<char>('0' + number % 10);
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
  static constexpr std::array<char, 200> pairs = [] {
    std::array<char, 200> digits{};
    for (std::size_t i = 0; i < 100; ++i) {
      digits[i * 2] = static_cast<char>('0' + i / 10);
      digits[i * 2 + 1] = static_cast<char>('0' + i % 10);
    }
    return digits;
  }();
  static std::size_t write_number(char* target, std::uint64_t number) noexcept {
    if (number < 10) {
      *target = static_cast<char>('0' + number);
      return 1;
    }
    std::size_t digits = 1;
    for (std::uint64_t rest = number; rest >= 10; rest /= 10) ++digits;
    for (std::size_t i = digits; i-- > 0; number /= 10) target[i] = static_cast<char>('0' + number % 10);
    return digits;
  }
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
