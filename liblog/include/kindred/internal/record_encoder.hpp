#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "kindred/key_value.hpp"

namespace kindred::internal {

/// How an argument lies in a record.
enum class ArgType : std::uint8_t {
  none = 0,
  boolean,
  character,
  int32,
  uint32,
  int64,
  uint64,
  real32,
  real64,
  string,   ///< u32 bytes, text
  pointer,  ///< u64
  message,  ///< as string: the whole message, formatted by the caller
  fields    ///< u32 count, then for each u8 type, u16 bytes, key, value
};
/// Added to the code of a key-value argument: its key (u16 length, bytes) stands before the value.
inline constexpr std::uint8_t arg_is_field = 0x80;

/// A record's texts are cut to this, all together.
inline constexpr std::size_t longest_text = 64U * 1024 * 1024;

// What a call's argument is turned into before it is stored: few types, so that few functions are
// instantiated.
inline bool as_stored(bool value) noexcept { return value; }
inline char as_stored(char value) noexcept { return value; }
inline float as_stored(float value) noexcept { return value; }
inline double as_stored(double value) noexcept { return value; }
template <std::signed_integral T>
  requires(!std::same_as<T, char> && sizeof(T) <= 8)
auto as_stored(T value) noexcept {
  return static_cast<std::conditional_t<sizeof(T) <= 4, std::int32_t, std::int64_t>>(value);
}
template <std::unsigned_integral T>
  requires(!std::same_as<T, char> && !std::same_as<T, bool> && sizeof(T) <= 8)
auto as_stored(T value) noexcept {
  return static_cast<std::conditional_t<sizeof(T) <= 4, std::uint32_t, std::uint64_t>>(value);
}
inline std::string_view as_stored(std::string_view value) noexcept { return value; }
inline std::string_view as_stored(const char* value) noexcept {
  return value == nullptr ? std::string_view{"(null)"} : as_stored(std::string_view{value});
}
/// The text in an array: up to its NUL, or all of it where there is none.
template <std::size_t N>
[[nodiscard]] constexpr std::string_view text_in(const char (&value)[N]) noexcept {
  const std::string_view whole{value, N};
  return whole.substr(0, whole.find('\0'));
}
template <std::size_t N>
std::string_view as_stored(const char (&value)[N]) noexcept {
  return {value, ::strnlen(value, N)};
}
inline const void* as_stored(const void* value) noexcept { return value; }
inline const void* as_stored(std::nullptr_t) noexcept { return nullptr; }

template <class T>
inline constexpr bool is_character_array = false;
template <std::size_t N>
inline constexpr bool is_character_array<char[N]> = true;
template <std::size_t N>
inline constexpr bool is_character_array<const char[N]> = true;

/// May an argument of type `T` (without reference) go into the record as it is?
template <class T>
inline constexpr bool is_storable =
    std::same_as<T, bool> || std::same_as<T, char> || std::same_as<T, float> || std::same_as<T, double> ||
    (std::integral<T> && sizeof(T) <= 8 && !std::same_as<T, wchar_t> && !std::same_as<T, char8_t> &&
     !std::same_as<T, char16_t> && !std::same_as<T, char32_t>) ||
    std::same_as<T, std::string> || std::same_as<T, std::string_view> || std::same_as<T, const char*> ||
    std::same_as<T, char*> || is_character_array<T> || std::same_as<T, const void*> ||
    std::same_as<T, void*> || std::same_as<T, std::nullptr_t>;
template <class T>
inline constexpr bool is_storable<KeyValue<T>> = is_storable<std::remove_cv_t<T>>;

template <class T>
  requires is_storable<T>
auto as_stored(const KeyValue<T>& field) noexcept {
  struct StoredField {
    std::string_view key;
    decltype(as_stored(field.value)) value;
  };
  return StoredField{field.key.substr(0, 0xffff), as_stored(field.value)};
}

template <class S>
concept StoredField = requires(const S& stored) {
  stored.key;
  stored.value;
};

/// The type code of what `as_stored` returned.
template <class S>
consteval std::uint8_t stored_type() {
  if constexpr (StoredField<S>)
    return static_cast<std::uint8_t>(stored_type<decltype(S::value)>() | arg_is_field);
  else if constexpr (std::same_as<S, bool>)
    return static_cast<std::uint8_t>(ArgType::boolean);
  else if constexpr (std::same_as<S, char>)
    return static_cast<std::uint8_t>(ArgType::character);
  else if constexpr (std::same_as<S, std::int32_t>)
    return static_cast<std::uint8_t>(ArgType::int32);
  else if constexpr (std::same_as<S, std::uint32_t>)
    return static_cast<std::uint8_t>(ArgType::uint32);
  else if constexpr (std::same_as<S, std::int64_t>)
    return static_cast<std::uint8_t>(ArgType::int64);
  else if constexpr (std::same_as<S, std::uint64_t>)
    return static_cast<std::uint8_t>(ArgType::uint64);
  else if constexpr (std::same_as<S, float>)
    return static_cast<std::uint8_t>(ArgType::real32);
  else if constexpr (std::same_as<S, double>)
    return static_cast<std::uint8_t>(ArgType::real64);
  else if constexpr (std::same_as<S, std::string_view>)
    return static_cast<std::uint8_t>(ArgType::string);
  else
    return static_cast<std::uint8_t>(ArgType::pointer);
}

/// The type codes of a list of stored arguments: an array whose address also names the list.
template <class... S>
struct StoredTypes {
  alignas(8) static constexpr char codes[sizeof...(S) + 1] = {static_cast<char>(stored_type<S>())..., 0};
  static constexpr std::string_view view() noexcept { return {codes, sizeof...(S)}; }
};

template <class S>
[[nodiscard]] constexpr std::size_t stored_bytes(const S& stored) noexcept {
  if constexpr (StoredField<S>)
    return 2 + stored.key.size() + stored_bytes(stored.value);
  else if constexpr (std::same_as<S, std::string_view>)
    return 4 + stored.size();
  else
    return sizeof(S);
}

/// What `as_stored` returned, with no text longer than `most`.
template <class S>
[[nodiscard]] constexpr S shortened(S stored, std::size_t most) noexcept {
  if constexpr (StoredField<S>)
    stored.value = shortened(stored.value, most);
  else if constexpr (std::same_as<S, std::string_view>)
    stored = stored.substr(0, most);
  return stored;
}
/// Cuts the arguments of one record to what the collector takes: `longest_text`, all together.
template <class... S>
constexpr void shorten_all(S&... stored) noexcept {
  ((stored = shortened(stored, longest_text)), ...);
  // The collector allows for what stands beside the texts (counts, numbers, keys), so a single text of the
  // full length is not cut.
  constexpr std::size_t beside_texts = std::size_t{1} << 20U;
  if ((stored_bytes(stored) + ... + std::size_t{0}) <= longest_text + beside_texts) [[likely]]
    return;
  constexpr std::size_t share = longest_text / (sizeof...(S) + 1);
  constexpr std::size_t longest_head = 0xffff + 8;  // a key, and the counts
  [[maybe_unused]] constexpr std::size_t each = share > longest_head ? share - longest_head : 0;
  ((stored = shortened(stored, each)), ...);
}

/// Is no function called where it is stored? Then `shortened` changes nothing, either.
template <class S>
[[nodiscard]] constexpr bool is_copied_here(const S& stored) noexcept {
  if constexpr (StoredField<S>)
    return stored.key.size() <= 32 && is_copied_here(stored.value);
  else if constexpr (std::same_as<S, std::string_view>)
    return stored.size() <= 32;
  else
    return true;
}

/// Copies a text. Short ones, which most are, without the call of a function.
[[gnu::always_inline]] inline void copy_text(std::byte* target, const char* source,
                                             std::size_t bytes) noexcept {
  if (bytes > 32) [[unlikely]] {
    std::memcpy(target, source, bytes);
  } else if (bytes > 16) {
    std::memcpy(target, source, 16);
    std::memcpy(target + bytes - 16, source + bytes - 16, 16);
  } else if (bytes >= 8) [[likely]] {
    std::memcpy(target, source, 8);
    std::memcpy(target + bytes - 8, source + bytes - 8, 8);
  } else if (bytes >= 4) {
    std::memcpy(target, source, 4);
    std::memcpy(target + bytes - 4, source + bytes - 4, 4);
  } else {
    for (std::size_t i = 0; i < bytes; ++i) target[i] = static_cast<std::byte>(source[i]);
  }
}

/// Copies an argument to `target`, unaligned, and returns the end of it.
template <class S>
[[gnu::always_inline]] inline std::byte* store(std::byte* target, const S& stored) noexcept {
  if constexpr (StoredField<S>) {
    const auto size = static_cast<std::uint16_t>(stored.key.size());
    std::memcpy(target, &size, sizeof size);
    copy_text(target + sizeof size, stored.key.data(), size);
    return store(target + sizeof size + size, stored.value);
  } else if constexpr (std::same_as<S, std::string_view>) {
    const auto size = static_cast<std::uint32_t>(stored.size());
    std::memcpy(target, &size, sizeof size);
    copy_text(target + sizeof size, stored.data(), size);
    return target + sizeof size + size;
  } else {
    std::memcpy(target, &stored, sizeof stored);
    return target + sizeof stored;
  }
}

}  // namespace kindred::internal
