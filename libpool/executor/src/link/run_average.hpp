#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace kindred::internal {

/// The moving average of how long recent calls ran, in ticks.
///
/// The kernel may interrupt a task to run something else. Such an outlier must not look like a change of what
/// tasks take: it would wake workers that then take the core from others. So one call counts for at most
/// `max_counted()`; a real change is followed within some tens of calls.
class RunAverage {
 public:
  /// What the results that were taken in together say of their times.
  struct Batch {
    std::uint64_t max_counted = 0;  ///< what one call counts at most
    std::uint64_t counted = 0;      ///< the sum of what each call counts
    std::uint64_t ran = 0;          ///< the sum of the run times
    std::uint64_t queued = 0;       ///< the sum of the times from submit to begin
    std::size_t results = 0;

    void add(std::uint64_t call_ran, std::uint64_t call_queued) noexcept {
      queued += call_queued;
      ran += call_ran;
      counted += std::min(call_ran, max_counted);
      ++results;
    }
  };

  /// No call counts for longer, whatever its worker says.
  static constexpr std::uint64_t longest_counted_ticks = std::uint64_t{1} << 50U;

  [[nodiscard]] bool known() const noexcept { return ticks_ > 0; }
  [[nodiscard]] double ticks() const noexcept { return ticks_; }
  [[nodiscard]] double ticks_or(const RunAverage& other) const noexcept {
    return ticks_ > 0 ? ticks_ : other.ticks_;
  }
  void forget() noexcept { ticks_ = 0; }

  /// What one call counts at most, where the average is `average`; anything where nothing is known yet.
  [[nodiscard]] static std::uint64_t max_counted(double average, double ticks_a_microsecond) noexcept {
    return average > 0 ? static_cast<std::uint64_t>(limit_of_one(average, ticks_a_microsecond))
                       : longest_counted_ticks;
  }

  /// The share of the old average that stays after that many results.
  [[nodiscard]] static double kept_share(std::size_t results) noexcept {
    constexpr double kept_by_one = 0.875;
    return results == 1 ? kept_by_one : std::pow(kept_by_one, static_cast<double>(results));
  }

  void move_towards(double mean, double kept, double ticks_a_microsecond) noexcept {
    ticks_ = ticks_ == 0
                 ? mean
                 : ticks_ * kept + std::min(mean, limit_of_one(ticks_, ticks_a_microsecond)) * (1 - kept);
  }

 private:
  [[nodiscard]] static double limit_of_one(double average, double ticks_a_microsecond) noexcept {
    return 16 * average + ticks_a_microsecond;
  }

  double ticks_ = 0;  // 0: nothing known
};

}  // namespace kindred::internal
