#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "kindred/internal/record_encoder.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

/// Reads encoded bytes from front to back. Where they end early, `ok` turns false and zeros come: the writer
/// may be hostile. The bytes must be private (a copy), because they are looked at more than once.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) noexcept
      : next_{bytes.data()}, end_{bytes.data() + bytes.size()} {}

  template <class T>
  [[nodiscard]] T value() noexcept {
    T result{};
    if (left() < sizeof(T)) [[unlikely]]
      return fail(), result;
    std::memcpy(&result, next_, sizeof result);
    next_ += sizeof result;
    return result;
  }
  [[nodiscard]] std::span<const std::byte> bytes(std::size_t count) noexcept {
    if (left() < count) [[unlikely]]
      return fail(), std::span<const std::byte>{};
    const std::span result{next_, count};
    next_ += count;
    return result;
  }
  [[nodiscard]] std::string_view text(std::size_t count) noexcept {
    const auto found = bytes(count);
    return {reinterpret_cast<const char*>(found.data()), found.size()};
  }
  [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - next_); }
  [[nodiscard]] std::span<const std::byte> rest() const noexcept { return {next_, left()}; }
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  void fail() noexcept {
    ok_ = false;
    next_ = end_;
  }

 private:
  const std::byte* next_;
  const std::byte* end_;
  bool ok_ = true;
};

/// Appends "u32 count, then for each u8 type, u16 bytes, key, value". Fields that would make it longer than
/// `max_bytes` are left out, and long texts in them cut.
void encode_fields(std::vector<std::byte>& out, std::span<const Field> fields, std::size_t max_bytes);
/// Appends what `encode_fields` wrote; a field whose key is there already replaces it. False where the bytes
/// are nothing of that kind.
bool decode_fields(std::span<const std::byte> bytes, std::vector<Field>& fields);
/// Appends one field, its value from `reader` as `type` says. False where there is no such type.
bool decode_field(ByteReader& reader, std::uint8_t type, std::vector<Field>& fields);

}  // namespace kindred::internal
