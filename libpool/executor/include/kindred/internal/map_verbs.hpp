#pragma once

#include <cstddef>
#include <initializer_list>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "kindred/internal/task_entry.hpp"
#include "kindred/map.hpp"
#include "kindred/map_options.hpp"

namespace kindred::internal {

/// The members `map` and `map_outcomes` of an executor, whose chunks run at `Home` (see `LocalMapHome`).
template <class Executor, class Home>
class MapVerbs {
 public:
  /// Calls `function` with the items of one or more ranges (to the end of the shortest), in workers; returns
  /// a lazy range of the results, in order. The last argument may be `MapOptions`. An lvalue range is
  /// referred to and must outlive the result; an rvalue is moved in. See `BasicMapRange`.
  ///
  ///     for (double area : pool.map(area_of, radii, {.chunk_size = 8})) ...
  ///
  /// With `{.on_error = OnItemError::keep}` written in the call, it is `map_outcomes`.
  template <class F, class... Args>
  auto map(F&& function, Args&&... args) {
    return map_all<false>(function, std::forward<Args>(args)...);
  }
  // Those with the options last, so that they may be braces: `pool.map(add, left, right, {.chunk_size = 8})`.
  // Braces that say `.on_error = OnItemError::keep` fit both kinds of options: the const functions are the
  // worse match then, and nothing else tells them apart.
  template <class F, class Range>
  auto map(F&& function, Range&& range, MapOptions options) const {
    return map_all<false>(function, std::forward<Range>(range), std::move(options));
  }
  template <class F, class Range>
  auto map(F&& function, Range&& range, KeepingMapOptions options) {
    return map_all<true>(function, std::forward<Range>(range), MapOptions(std::move(options)));
  }
  template <class F, class First, class Second>
  auto map(F&& function, First&& first, Second&& second, MapOptions options) const {
    return map_all<false>(function, std::forward<First>(first), std::forward<Second>(second),
                          std::move(options));
  }
  template <class F, class First, class Second>
  auto map(F&& function, First&& first, Second&& second, KeepingMapOptions options) {
    return map_all<true>(function, std::forward<First>(first), std::forward<Second>(second),
                         MapOptions(std::move(options)));
  }
  template <class F, class First, class Second, class Third>
  auto map(F&& function, First&& first, Second&& second, Third&& third, MapOptions options) const {
    return map_all<false>(function, std::forward<First>(first), std::forward<Second>(second),
                          std::forward<Third>(third), std::move(options));
  }
  template <class F, class First, class Second, class Third>
  auto map(F&& function, First&& first, Second&& second, Third&& third, KeepingMapOptions options) {
    return map_all<true>(function, std::forward<First>(first), std::forward<Second>(second),
                         std::forward<Third>(third), MapOptions(std::move(options)));
  }
  /// The items in braces: `pool.map(area, {1.0, 2.0, 3.0})`.
  template <class F, class T>
  auto map(F&& function, std::initializer_list<T> items, MapOptions options = {}) const {
    return map_all<false>(function, std::vector<T>(items), std::move(options));
  }
  template <class F, class T>
  auto map(F&& function, std::initializer_list<T> items, KeepingMapOptions options) {
    return map_all<true>(function, std::vector<T>(items), MapOptions(std::move(options)));
  }
  /// For a function that is known at compile time: `pool.map<area>(radii)`.
  template <auto function, class... Args>
  auto map(Args&&... args) {
    return map(FunctionConstant<function>{}, std::forward<Args>(args)...);
  }
  template <auto function, class Range>
  auto map(Range&& range, MapOptions options) const {
    return map_all<false>(FunctionConstant<function>{}, std::forward<Range>(range), std::move(options));
  }
  template <auto function, class Range>
  auto map(Range&& range, KeepingMapOptions options) {
    return map_all<true>(FunctionConstant<function>{}, std::forward<Range>(range),
                         MapOptions(std::move(options)));
  }

  /// `map` that goes on where an item fails: its range yields an `Outcome` for each item, a value or an error
  /// with the item's index. `MapOptions::on_error` is not looked at.
  ///
  ///     for (auto& outcome : pool.map_outcomes(parse, files, {.item_timeout = 5s, .retries = 1})) ...
  template <class F, class... Args>
  auto map_outcomes(F&& function, Args&&... args) {
    return map_all<true>(function, std::forward<Args>(args)...);
  }
  template <class F, class Range>
  auto map_outcomes(F&& function, Range&& range, MapOptions options) {
    return map_all<true>(function, std::forward<Range>(range), std::move(options));
  }
  template <class F, class First, class Second>
  auto map_outcomes(F&& function, First&& first, Second&& second, MapOptions options) {
    return map_all<true>(function, std::forward<First>(first), std::forward<Second>(second),
                         std::move(options));
  }
  template <class F, class First, class Second, class Third>
  auto map_outcomes(F&& function, First&& first, Second&& second, Third&& third, MapOptions options) {
    return map_all<true>(function, std::forward<First>(first), std::forward<Second>(second),
                         std::forward<Third>(third), std::move(options));
  }
  template <class F, class T>
  auto map_outcomes(F&& function, std::initializer_list<T> items, MapOptions options = {}) {
    return map_all<true>(function, std::vector<T>(items), std::move(options));
  }
  template <auto function, class... Args>
  auto map_outcomes(Args&&... args) {
    return map_outcomes(FunctionConstant<function>{}, std::forward<Args>(args)...);
  }
  template <auto function, class Range>
  auto map_outcomes(Range&& range, MapOptions options) {
    return map_outcomes(FunctionConstant<function>{}, std::forward<Range>(range), std::move(options));
  }

 private:
  friend Executor;
  MapVerbs() = default;

  // The last argument may be the options.
  template <bool keeps, class F, class... Args>
  auto map_all(F&& function, Args&&... args) const {
    constexpr std::size_t count = sizeof...(Args);
    static_assert(count > 0, "kindred: map needs at least one range of arguments");
    auto all = std::forward_as_tuple(std::forward<Args>(args)...);
    if constexpr (count == 0) {
      return NoRange{};
    } else if constexpr (std::is_same_v<
                             std::remove_cvref_t<std::tuple_element_t<count - 1, std::tuple<Args...>>>,
                             MapOptions>) {
      return map_over<keeps>(function, std::get<count - 1>(all), all, std::make_index_sequence<count - 1>{});
    } else {
      return map_over<keeps>(function, MapOptions{}, all, std::make_index_sequence<count>{});
    }
  }
  template <bool keeps, class F, class All, std::size_t... I>
  auto map_over(F& function, MapOptions options, All& all, std::index_sequence<I...>) const {
    using Function = std::decay_t<F>;
    if constexpr (check_map<Function, Held<std::tuple_element_t<I, All>>...>()) {
      return BasicMapRange<Home, keeps, Function, Held<std::tuple_element_t<I, All>>...>{
          static_cast<const Executor&>(*this).map_core(), Function(function), std::move(options),
          std::forward<std::tuple_element_t<I, All>>(std::get<I>(all))...};
    } else {
      return NoRange{};
    }
  }
  /// An lvalue range is held by reference, an rvalue by value.
  template <class Range>
  using Held = std::conditional_t<std::is_lvalue_reference_v<Range>, Range, std::remove_reference_t<Range>>;
};

}  // namespace kindred::internal
