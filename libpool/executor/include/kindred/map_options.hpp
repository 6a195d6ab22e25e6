#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "kindred/count.hpp"

namespace kindred {

namespace internal {
/// The type of `OnItemError::keep`: by it `map` knows at compile time that its range yields outcomes.
struct KeepsErrors {
  explicit constexpr KeepsErrors(int) noexcept {}
};
}  // namespace internal

/// What a map does when an item fails: it throws, its worker dies, it runs over its time.
class OnItemError {
 public:
  /// The loop gets the results before the item, then its error, and ends; what has not begun is cancelled.
  static const OnItemError stop;
  /// The loop goes on: each item comes as an `Outcome`, a value or an error.
  static constexpr internal::KeepsErrors keep{0};

  constexpr OnItemError(internal::KeepsErrors) noexcept : keeps_{true} {}
  friend constexpr bool operator==(OnItemError, OnItemError) noexcept = default;

 private:
  struct Stop {};
  constexpr explicit OnItemError(Stop) noexcept {}
  bool keeps_ = false;
};
inline constexpr OnItemError OnItemError::stop{Stop{}};

/// How `map` works. An aggregate for designated initialisers.
struct MapOptions {
  /// Items per task; 0: adapted while it runs, so that a task takes some 50 microseconds. Negative:
  /// `UsageError`.
  Count chunk_size = 0;
  /// Most items that are fetched from the input and not yet taken from the output; 0: enough to keep all
  /// workers busy. With n, at most n items are fetched before the first result is taken, and one more for
  /// each taken.
  Count buffer_size = 0;
  /// For the whole map, counted from the call; over it the loop throws `TimeoutError`, and what has not begun
  /// is cancelled.
  std::optional<std::chrono::nanoseconds> timeout = {};
  /// Results in the order of the items; false: as they come.
  bool ordered = true;
  /// Called in the iterating thread with (results taken so far, items fetched so far), after each result. A
  /// `ProgressBar` may stand here.
  std::function<void(std::size_t, std::size_t)> progress = {};
  /// `stop`, or `keep`: the range yields `Outcome`s. `keep` must be written in the call, because the type of
  /// the range follows from it: `pool.map(f, items, {.on_error = OnItemError::keep})`. Options that are a
  /// variable go to `map_outcomes`, where this member is not looked at.
  OnItemError on_error = OnItemError::stop;
  /// Longest run of one item; over it the item's worker is killed and the item fails with `TaskTimeout`. Each
  /// item is a task of its own then, whatever `chunk_size` says. As `TaskOptions::timeout`.
  std::optional<std::chrono::nanoseconds> item_timeout = {};
  /// How often an item is run again after its worker was lost or it ran over `item_timeout`.
  int retries = 0;
  /// For messages and log records; empty: the function's name.
  std::string name = {};
};

/// `MapOptions` with `.on_error = OnItemError::keep` written in the call. Braces make it: do not name it.
struct KeepingMapOptions {
  Count chunk_size = 0;
  Count buffer_size = 0;
  std::optional<std::chrono::nanoseconds> timeout = {};
  bool ordered = true;
  std::function<void(std::size_t, std::size_t)> progress = {};
  internal::KeepsErrors on_error;  // no default value: braces without this member make a `MapOptions`
  std::optional<std::chrono::nanoseconds> item_timeout = {};
  int retries = 0;
  std::string name = {};

  operator MapOptions() && {
    return {chunk_size, buffer_size,  timeout, ordered,        std::move(progress),
            on_error,   item_timeout, retries, std::move(name)};
  }
};

}  // namespace kindred
