#pragma once

#include "support/bench.hpp"

namespace bench {

/// The items of the row `map_heavy_tailed`: how many iterations each takes. One in each hundred, not at the
/// same place in each, takes a hundred times as many as the others.
[[nodiscard]] inline std::vector<std::int64_t> heavy_tailed(std::size_t items, std::size_t iterations) {
  std::vector<std::int64_t> found(items, static_cast<std::int64_t>(iterations));
  for (std::size_t hundred = 0; hundred * 100 < items; ++hundred) {
    const std::size_t at = hundred * 100 + hundred * 37 % 100;
    if (at < items) found[at] *= 100;
  }
  return found;
}

/// What is mapped over them.
[[nodiscard]] inline double run_heavy_tailed(std::int64_t iterations) {
  return static_cast<double>(work(static_cast<std::uint64_t>(iterations)) >> 16U);
}

/// Ends the program where an item has another result than its work gives.
inline void check_heavy_tailed(const std::vector<std::int64_t>& items, const std::vector<double>& results) {
  const auto [shortest, longest] = std::minmax_element(items.begin(), items.end());
  const double of_short = run_heavy_tailed(*shortest);
  const double of_long = run_heavy_tailed(*longest);
  if (results.size() != items.size()) fail("not every item has a result");
  for (std::size_t at = 0; at < items.size(); ++at) {
    if (results[at] != (items[at] == *shortest ? of_short : of_long)) fail("a wrong result");
  }
}

}  // namespace bench
