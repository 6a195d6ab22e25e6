#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <fmt/core.h>

#include "kindred/log_record.hpp"

namespace kindred {

/// A key-value argument of a log call: `log_info("login of {}", name, kv("user", id), kv("ok", true))`. It
/// stands after the arguments of the format, takes no part in the message, and becomes a typed field of the
/// record. Lives no longer than the call.
template <class T>
struct KeyValue {
  std::string_view key;
  const T& value;
};

template <class T>
[[nodiscard]] constexpr KeyValue<T> kv(std::string_view key, const T& value) noexcept {
  return {key, value};
}

namespace internal {

template <class T>
inline constexpr bool is_key_value = false;
template <class T>
inline constexpr bool is_key_value<KeyValue<T>> = true;

/// The value of a field, with the type it was given; what no field can hold becomes its text.
template <class T>
[[nodiscard]] FieldValue to_field_value(const T& value) {
  if constexpr (std::same_as<T, bool>)
    return value;
  else if constexpr (std::same_as<T, char>)
    return std::string(1, value);
  else if constexpr (std::signed_integral<T> && sizeof(T) <= 8)
    return static_cast<std::int64_t>(value);
  else if constexpr (std::unsigned_integral<T> && sizeof(T) <= 8)
    return static_cast<std::uint64_t>(value);
  else if constexpr (std::same_as<T, float> || std::same_as<T, double>)
    return static_cast<double>(value);
  else if constexpr (std::is_array_v<T> && std::same_as<std::remove_cv_t<std::remove_extent_t<T>>, char>)
    return std::string{value, ::strnlen(value, std::extent_v<T>)};  // it may have no NUL
  else if constexpr (std::convertible_to<const T&, std::string_view>)
    return std::string{std::string_view{value}};
  else if constexpr (requires {
                       { value.native() } -> std::convertible_to<std::string_view>;
                     })
    return std::string{std::string_view{value.native()}};  // a path: as it is, not quoted as fmt writes it
  else
    return fmt::format("{}", value);
}

}  // namespace internal

/// A field where a list of them is written: `logger.with({{"user", id}, {"host", name}})`, `LogScope
/// scope{{"request", 17}}`.
struct LogField {
  template <class T>
  LogField(std::string_view key, const T& value) : field{std::string{key}, internal::to_field_value(value)} {}
  Field field;
};

}  // namespace kindred
