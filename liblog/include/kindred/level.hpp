#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kindred {

/// spdlog's seven levels, with its numbers.
enum class Level : unsigned char {
  trace = 0,
  debug = 1,
  info = 2,
  warn = 3,
  error = 4,
  critical = 5,
  off = 6
};

/// Returns "trace" ... "off": a string that lives for ever.
[[nodiscard]] std::string_view to_string(Level level) noexcept;

/// Reads a name as `to_string` gives it, in any case; also "warning" and "err". Errors: `UsageError` that
/// lists the names.
[[nodiscard]] Level parse_level(std::string_view text);

/// A level of the program's own, made by `define_level`. A value; its name lives as long as the process.
///
/// Wherever levels are compared (loggers, sinks, filters) it counts as its `base()`; its records carry its
/// name.
class CustomLevel {
 public:
  [[nodiscard]] std::string_view name() const noexcept;
  [[nodiscard]] int number() const noexcept;
  [[nodiscard]] Level base() const noexcept;
  [[nodiscard]] std::string_view color()
      const noexcept;  ///< in the words of `SinkOptions::colors`; empty: as its base
  friend bool operator==(CustomLevel, CustomLevel) = default;

 private:
  friend CustomLevel define_level(std::string_view, int, std::string_view);
  friend std::optional<CustomLevel> find_level(std::string_view) noexcept;
  friend struct LevelCode;
  explicit CustomLevel(std::uint8_t code) noexcept : code_{code} {}
  std::uint8_t code_;
};

/// Makes a level: `const auto audit = kindred::define_level("audit", 35, "bold magenta");`, then
/// `logger.log(audit, "...")`.
///
/// `number` is on Loguru's and Python's scale (trace 5, debug 10, info 20, warn 30, error 40, critical 50);
/// the base is the highest standard level that is not above it. Define it where every process of the program
/// passes, before it is used: at namespace scope, or first in `main`. Defining it again in the same words
/// gives the same level.
///
/// Errors: `UsageError` for an empty name, one of the seven, a number outside 0 ... 59, another number under
/// a name that exists, and the 201st level. Threads: any thread.
[[nodiscard]] CustomLevel define_level(std::string_view name, int number, std::string_view color = {});
/// Returns the custom level of that name, if this process has defined it.
[[nodiscard]] std::optional<CustomLevel> find_level(std::string_view name) noexcept;

/// What the logging calls take: one of the seven, or a custom level. One byte.
struct LevelCode {
  /// A value that is no level, from a cast, counts as `off`: nothing is logged at it.
  constexpr LevelCode(Level level) noexcept  // NOLINT(google-explicit-constructor)
      : value{static_cast<std::uint8_t>(level < Level::off ? level : Level::off)} {}
  LevelCode(CustomLevel level) noexcept : value{level.code_} {}  // NOLINT(google-explicit-constructor)
  [[nodiscard]] Level base() const noexcept {
    return value < first_custom ? static_cast<Level>(value) : custom_base(value);
  }
  static constexpr std::uint8_t first_custom = 16;
  std::uint8_t value;

 private:
  static Level custom_base(std::uint8_t value) noexcept;
};

}  // namespace kindred
