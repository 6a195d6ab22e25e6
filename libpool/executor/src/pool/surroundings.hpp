#pragma once

#include "kindred/internal/launcher.hpp"
#include "task/pool_clock.hpp"

namespace kindred::internal {

/// What a pool takes from outside itself. A unit test has surroundings of its own: workers that are no
/// processes, a clock that it moves, and no supervisor's thread, so that each step happens when the test says
/// so.
struct Surroundings {
  MakeLauncher make_launcher = &internal::make_launcher;
  const PoolClock& clock = steady_pool_clock;
  bool supervisor_has_thread = true;  ///< without it, the test calls `Supervisor::round`
};

}  // namespace kindred::internal
