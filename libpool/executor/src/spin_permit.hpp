#pragma once

#include <algorithm>
#include <cstdint>

#include "kindred/internal/clock.hpp"

namespace kindred::internal {

/// Whether a thread may spin, or yield its core while it waits. Spinning pays only while nobody else wants
/// the core: beside another program the kernel takes the core away when the spinning thread has used up its
/// time, and gives it back some milliseconds later. A thread that sleeps is woken within microseconds, also
/// there, since it has used little time.
///
/// One step of a spin takes less than a microsecond. A step that took `long_step_nanoseconds` says that
/// another program had the core; the thread sleeps at once for a while then, and for twice as long where the
/// next spins end the same way. One thread at a time.
class SpinPermit {
 public:
  static constexpr double long_step_nanoseconds = 200'000;
  static constexpr double first_pause_nanoseconds = 10'000'000;
  static constexpr double longest_pause_nanoseconds = 1'000'000'000;

  explicit SpinPermit(double ticks_a_nanosecond = ticks_per_nanosecond()) noexcept
      : long_step_{to_ticks(long_step_nanoseconds, ticks_a_nanosecond)},
        first_pause_{to_ticks(first_pause_nanoseconds, ticks_a_nanosecond)},
        longest_pause_{to_ticks(longest_pause_nanoseconds, ticks_a_nanosecond)} {}

  [[nodiscard]] bool holds(std::uint64_t now) const noexcept { return now >= again_at_; }

  /// One step of a spin, between two looks at the clock. Returns whether the thread may go on.
  bool note_step(std::uint64_t before, std::uint64_t after) noexcept {
    if (after - before < long_step_) [[likely]]
      return true;
    // Where spinning went well for longer than the last pause, this failure has a new cause.
    const bool again = pause_ != 0 && after - again_at_ < pause_;
    pause_ = again ? std::min(2 * pause_, longest_pause_) : first_pause_;
    again_at_ = after + pause_;
    return false;
  }

 private:
  static std::uint64_t to_ticks(double nanoseconds, double ticks_a_nanosecond) noexcept {
    return static_cast<std::uint64_t>(nanoseconds * ticks_a_nanosecond);
  }

  const std::uint64_t long_step_;
  const std::uint64_t first_pause_;
  const std::uint64_t longest_pause_;
  std::uint64_t pause_ = 0;
  std::uint64_t again_at_ = 0;
};

}  // namespace kindred::internal
