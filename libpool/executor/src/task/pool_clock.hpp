#pragma once

#include <chrono>

namespace kindred::internal {

/// The time by which a pool judges limits, silence and idleness. It is the steady clock, or, once a test has
/// stopped it, what the test says.
class PoolClock {
 public:
  using Time = std::chrono::steady_clock::time_point;

  [[nodiscard]] Time now() const noexcept {
    return stopped_at_ == Time{} ? std::chrono::steady_clock::now() : stopped_at_;
  }
  /// For a test, whose thread is the only one that asks.
  void stop_at(Time time) noexcept { stopped_at_ = time; }

 private:
  Time stopped_at_{};  // the epoch: it runs
};

/// That of every pool but those of tests.
inline constexpr PoolClock steady_pool_clock{};

}  // namespace kindred::internal
