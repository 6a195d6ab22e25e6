#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kindred/internal/byte_stream.hpp"

// How messages become bytes: each message lists its members once, in `fields(archive)`, and the two archives
// below write and read that list. Numbers are little-endian; texts and lists begin with their length.
namespace kindred::internal::cluster {

using Bytes = std::vector<std::byte>;

template <class T>
concept PlainNumber = std::is_arithmetic_v<T> || std::is_enum_v<T>;

/// Appends members to a vector.
class ArchiveWriter {
 public:
  explicit ArchiveWriter(Bytes& out) noexcept : out_{out} {}
  template <class... T>
  void operator()(const T&... values) {
    (put(values), ...);
  }

 private:
  void raw(const void* from, std::size_t bytes) {
    const auto* const begin = static_cast<const std::byte*>(from);
    out_.insert(out_.end(), begin, begin + bytes);
  }
  template <PlainNumber T>
  void put(const T& value) {
    raw(&value, sizeof value);
  }
  void put(const std::string& text) { put_block(text.data(), text.size()); }
  void put(const Bytes& bytes) { put_block(bytes.data(), bytes.size()); }
  template <class T>
  void put(const std::vector<T>& list) {
    put(static_cast<std::uint32_t>(list.size()));
    for (const T& item : list) put(item);
  }
  template <class T>
    requires requires(T& value, ArchiveWriter& archive) { value.fields(archive); }
  void put(const T& value) {
    const_cast<T&>(value).fields(*this);  // which only reads it
  }
  void put_block(const void* data, std::size_t bytes) {
    put(static_cast<std::uint32_t>(bytes));
    raw(data, bytes);
  }

  Bytes& out_;
};

/// Reads members. Any program may have written the bytes: each length is checked against what is left before
/// memory is taken for it. Errors: `DecodeError`.
class ArchiveReader {
 public:
  explicit ArchiveReader(std::span<const std::byte> bytes) noexcept : in_{ContextId{}, bytes} {}
  template <class... T>
  void operator()(T&... values) {
    (get(values), ...);
  }
  [[nodiscard]] std::size_t left() const noexcept { return in_.left(); }
  /// Refuses what follows the last member: bytes that nobody checks.
  void require_end() const {
    if (in_.left() != 0)
      throw DecodeError{"the message has " + std::to_string(in_.left()) + " bytes too many"};
  }

 private:
  template <PlainNumber T>
  void get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      const auto byte = in_.read_value<std::uint8_t>();
      if (byte > 1) throw DecodeError{"a truth value is neither 0 nor 1"};
      value = byte != 0;
    } else {
      value = in_.read_value<T>();
    }
  }
  void get(std::string& text) {
    const auto bytes = in_.take(in_.read_value<std::uint32_t>());
    text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void get(Bytes& out) {
    const auto bytes = in_.take(in_.read_value<std::uint32_t>());
    out.assign(bytes.begin(), bytes.end());
  }
  template <class T>
  void get(std::vector<T>& list) {
    const auto count = in_.read_value<std::uint32_t>();
    if (count > in_.left()) throw DecodeError{"a list is longer than its message"};
    list.clear();
    for (std::uint32_t i = 0; i < count; ++i) get(list.emplace_back());
  }
  template <class T>
    requires requires(T& value, ArchiveReader& archive) { value.fields(archive); }
  void get(T& value) {
    value.fields(*this);
  }

  Decoder in_;
};

}  // namespace kindred::internal::cluster
