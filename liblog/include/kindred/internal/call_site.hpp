#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>

#include <fmt/core.h>

#include "kindred/key_value.hpp"
#include "kindred/level.hpp"

namespace kindred::internal {

/// An address that no other call has (other expansions of one macro aside, whose formats differ).
[[nodiscard]] inline const void* address_of(const std::source_location& where) noexcept {
  if constexpr (sizeof(std::source_location) == sizeof(const void*))
    return std::bit_cast<const void*>(where);
  else
    return where.function_name() + where.line();
}

/// A log call's format and place.
struct CallSite {
  std::string_view format;
  std::source_location where;
  /// The message must be made by the caller: the format is no constant, or takes a width or precision from an
  /// argument.
  bool format_here;
  [[nodiscard]] const void* address() const noexcept { return address_of(where); }
};

inline constexpr unsigned shape_level_shift = 24;
/// Bytes of a format and level of its call, in one word.
[[nodiscard]] constexpr std::uint32_t site_shape(std::size_t format_bytes, LevelCode level) noexcept {
  return static_cast<std::uint32_t>(format_bytes) | std::uint32_t{level.value} << shape_level_shift;
}
[[nodiscard]] constexpr LevelCode level_of(std::uint32_t shape) noexcept {
  LevelCode level = Level::trace;
  level.value = static_cast<std::uint8_t>(shape >> shape_level_shift);
  return level;
}
inline constexpr std::size_t shape_longest_format = (std::size_t{1} << shape_level_shift) - 1;

/// A longer format is made into a message by the caller: the collector would cut it.
inline constexpr std::size_t longest_kept_format = 64 * 1024;
static_assert(longest_kept_format <= shape_longest_format);

/// Does `format` need its arguments as they are at the call: a field within a field, as in `{:{}}`, or the
/// address of a text, `{:p}`?
[[nodiscard]] constexpr bool needs_the_caller(std::string_view format) noexcept {
  if (format.size() > longest_kept_format) return true;
  bool inside = false;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] == '{') {
      if (inside) return true;
      if (i + 1 < format.size() && format[i + 1] == '{')
        ++i;
      else
        inside = true;
    } else if (format[i] == '}') {
      inside = false;
    } else if (format[i] == 'p' && inside) {
      return true;
    }
  }
  return false;
}

/// What `fmt::runtime(text)` gives; fmt names the type anew from one major version to the next.
using RuntimeFormat = decltype(fmt::runtime(fmt::string_view{}));

template <class... Ts>
struct TypeList {};

/// The `fmt::format_string` of a call's arguments without its key-values.
template <class Done, class... Rest>
struct CheckedFormat;
template <class... Done>
struct CheckedFormat<TypeList<Done...>> {
  using type = fmt::format_string<Done...>;
};
template <class... Done, class Next, class... Rest>
struct CheckedFormat<TypeList<Done...>, Next, Rest...>
    : std::conditional_t<is_key_value<std::remove_cvref_t<Next>>, CheckedFormat<TypeList<Done...>, Rest...>,
                         CheckedFormat<TypeList<Done..., Next>, Rest...>> {};

/// The first parameter of every log call: a format that is checked against the arguments when the call is
/// compiled, and the place of the call. Made from a string constant, or from `fmt::runtime(text)`, which is
/// checked when it runs: a format that does not fit is logged as it stands, with the reason.
template <class... Args>
class LogFormat : public CallSite {
 public:
  /// A text that is no constant is no format: braces in it would be taken for fields.
  LogFormat(const std::string&) {  // NOLINT(google-explicit-constructor)
    static_assert(sizeof...(Args) == ~std::size_t{0},
                  "the format of a log call is known when it is compiled: log a text as an argument, "
                  "log_info(\"{}\", text), or say fmt::runtime(text) if it is a format");
  }
  template <class S>
    requires(std::convertible_to<const S&, std::string_view> && !std::same_as<S, std::string>)
  consteval LogFormat(const S& text,
                      std::source_location where_called = std::source_location::current())  // NOLINT
      : CallSite{std::string_view{text}, where_called, needs_the_caller(std::string_view{text})} {
    [[maybe_unused]] const typename CheckedFormat<TypeList<>, Args...>::type checked{text};
  }
  LogFormat(RuntimeFormat text,
            std::source_location where_called = std::source_location::current())  // NOLINT
      : CallSite{{text.str.data(), text.str.size()}, where_called, true} {}
};

}  // namespace kindred::internal
