#pragma once

#include <chrono>
#include <cstdint>

#include "dispatch/load.hpp"
#include "link/worker_slots.hpp"

namespace kindred::internal {

/// Which thread runs on which core: one that waits for results must not take a core from the workers, nor two
/// workers take one from each other. Guarded by the pool's lock.
class Cores {
 public:
  Cores(unsigned usable, const WorkerSlots& slots, const Load& load) noexcept
      : usable_{usable}, slots_{slots}, load_{load} {}

  [[nodiscard]] unsigned usable() const noexcept { return usable_; }
  enum class Neighbour : std::uint8_t { none, short_task, long_task };
  /// What the worker runs that has calls and ran on that core last.
  [[nodiscard]] Neighbour neighbour_on(Locked locked, int cpu) const noexcept;
  /// Do workers fill all cores with short tasks, enough of them for that long?
  [[nodiscard]] bool saturated(Locked locked, std::chrono::nanoseconds nap) const noexcept;
  /// Asks workers that share a core to move apart, where there are as many cores as workers with calls.
  void spread_over_cores(Locked locked) const noexcept;

 private:
  const unsigned usable_;
  const WorkerSlots& slots_;
  const Load& load_;
};

}  // namespace kindred::internal
