#pragma once

#include <concepts>
#include <cstdint>
#include <utility>

namespace kindred {

/// A count of anything, from any integer: an option out of range is then an error with its value, never a
/// wrapped number.
class Count {
 public:
  constexpr Count() = default;
  template <std::integral I>
  constexpr Count(I value) noexcept  // NOLINT(google-explicit-constructor)
      : value_{std::cmp_greater(value, INT64_MAX) ? INT64_MAX : static_cast<std::int64_t>(value)} {}
  [[nodiscard]] constexpr std::int64_t value() const noexcept { return value_; }
  friend constexpr bool operator==(Count, Count) = default;

 private:
  std::int64_t value_ = 0;
};

}  // namespace kindred
