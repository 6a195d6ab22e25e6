#pragma once

#include <cstddef>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "kindred/error.hpp"

namespace kindred {

template <class Home, bool keeps, class F, class... Ranges>
class BasicMapRange;

/// What became of one item of a map that goes on after errors (`map_outcomes`): a value, or an error.
///
///     for (auto& outcome : pool.map_outcomes(parse, files)) {
///       if (outcome.has_value()) use(outcome.value()); else report(outcome.index(), outcome.error());
///     }
///
/// Threads: one at a time. Fork: value, of the parent.
template <class T>
class Outcome {
 public:
  using value_type = T;

  [[nodiscard]] bool has_value() const noexcept { return value_.has_value(); }
  [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }
  /// Returns the value. Errors: throws `error()` where there is none.
  decltype(auto) value() & { return get(*this); }
  decltype(auto) value() const& { return get(*this); }
  decltype(auto) value() && { return get(std::move(*this)); }
  /// Returns the value, or `other` where there is none.
  template <class U>
    requires(!std::is_void_v<T>)
  [[nodiscard]] T value_or(U&& other) const {
    return value_ ? *value_ : static_cast<T>(std::forward<U>(other));
  }
  /// Only where there is a value.
  [[nodiscard]] auto& operator*() noexcept
    requires(!std::is_void_v<T>)
  {
    return *value_;
  }
  [[nodiscard]] const auto& operator*() const noexcept
    requires(!std::is_void_v<T>)
  {
    return *value_;
  }
  [[nodiscard]] auto* operator->() noexcept
    requires(!std::is_void_v<T>)
  {
    return &*value_;
  }
  [[nodiscard]] const auto* operator->() const noexcept
    requires(!std::is_void_v<T>)
  {
    return &*value_;
  }
  /// Returns why there is no value, as `Future::exception` would: a `TaskError`, `WorkerLost`, `TaskTimeout`;
  /// null where there is a value.
  [[nodiscard]] const std::exception_ptr& error() const noexcept { return error_; }
  /// Returns the place of the item in the input, counted from 0.
  [[nodiscard]] std::size_t index() const noexcept { return index_; }

 private:
  using Stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;
  template <class Home, bool keeps, class F, class... Ranges>
  friend class BasicMapRange;

  Outcome(std::size_t index, Stored value) : index_{index}, value_{std::move(value)} {}
  Outcome(std::size_t index, std::exception_ptr error) : index_{index}, error_{std::move(error)} {}

  template <class Self>
  static decltype(auto) get(Self&& self) {
    if (!self.value_) std::rethrow_exception(self.error_);
    if constexpr (!std::is_void_v<T>) return (*std::forward<Self>(self).value_);
  }

  std::size_t index_;
  std::optional<Stored> value_;
  std::exception_ptr error_;
};

}  // namespace kindred
