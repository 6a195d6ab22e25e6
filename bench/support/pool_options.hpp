#pragma once

#include <kindred/kindred.hpp>

#include "support/bench.hpp"

namespace bench {

/// The executor that a row is measured on: defaults, but for the number of workers and the start method of
/// the command line.
[[nodiscard]] inline kindred::ExecutorOptions pool_options(const Options& options, std::size_t workers = 2) {
  const auto method = options.text("start-method", "");
  return {
      .start_method = method.empty() ? kindred::default_start_method() : kindred::parse_start_method(method),
      .max_workers = options.number("workers", workers)};
}

/// The executor with all of its workers up, so that no row but `start` measures how they come to be.
[[nodiscard]] inline kindred::ExecutorOptions warm_pool_options(const Options& options,
                                                                std::size_t workers = 2) {
  auto chosen = pool_options(options, workers);
  chosen.start_all = true;
  return chosen;
}

}  // namespace bench
