#pragma once

#include <memory>
#include <string>

#include "kindred/internal/future_state.hpp"

namespace kindred::internal {

/// How far the pool is on its way from open to ended. Guarded by the pool's lock.
struct PoolPhase {
  bool closed = false;
  bool finishes_chains = true;  ///< closed, but callbacks of accepted tasks may still submit
  bool ended = false;           ///< all workers and the supervisor are gone
  int kill_signal = 0;          ///< all workers are ended with it; 0: they are not
  std::unique_ptr<Failure> broken;
  std::string broken_text;
};

}  // namespace kindred::internal
