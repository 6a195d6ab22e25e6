#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "kindred/internal/clock.hpp"

namespace kindred::internal {

/// Turns ticks into the system's time, without turning records round. Threads: the collector's.
class RecordClock {
 public:
  using Time = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>;

  /// Measures the clock, which may take some milliseconds.
  void begin() {
    clock_.emplace();
    refresh_ticks_ = in_ticks(std::chrono::milliseconds{100});
    read_at_ = ticks();
  }
  [[nodiscard]] static std::uint64_t in_ticks(std::chrono::nanoseconds time) noexcept {
    return static_cast<std::uint64_t>(ticks_per_nanosecond() * static_cast<double>(time.count()));
  }
  /// Anchors the clock anew, ten times a second.
  void refresh(std::uint64_t now) {
    if (now - read_at_ <= refresh_ticks_) return;
    clock_->refresh();
    read_at_ = now;
  }
  [[nodiscard]] std::uint64_t refresh_ticks() const noexcept { return refresh_ticks_; }
  [[nodiscard]] Time time_of(std::uint64_t tick) noexcept {
    auto time = clock_->to_system(tick).time_since_epoch().count();
    // Ten times a second the clock is set anew, and then jumps by some nanoseconds: that must not swap the
    // times of two records. A jump by more than `jitter` is a step of the system's clock, and is followed.
    constexpr std::int64_t jitter = 1'000'000;
    if (tick >= last_tick_) {
      if (time < last_time_ && last_time_ - time < jitter) time = last_time_;
      last_time_ = time;
      last_tick_ = tick;
    }
    return Time{std::chrono::nanoseconds{time}};
  }

 private:
  std::optional<TickTranslator> clock_;
  std::uint64_t read_at_ = 0;  ///< ticks of the latest refresh
  std::uint64_t refresh_ticks_ = 0;
  std::uint64_t last_tick_ = 0;
  std::int64_t last_time_ = 0;
};

}  // namespace kindred::internal
