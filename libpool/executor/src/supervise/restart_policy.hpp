#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>

namespace kindred::internal {

/// Counts the deaths of workers within the last period. A task that succeeds clears the count: where tasks
/// succeed in between, it is no crash loop.
class RestartLimiter {
 public:
  using Time = std::chrono::steady_clock::time_point;
  RestartLimiter(std::int64_t max_deaths, std::chrono::nanoseconds period) noexcept
      : max_deaths_{max_deaths}, period_{period} {}

  void note_success() noexcept {
    if (!deaths_.empty()) [[unlikely]]
      deaths_.clear();
  }
  void note_death(Time now) { deaths_.push_back(now); }
  /// Have more workers died within the period than may?
  [[nodiscard]] bool exceeded(Time now) noexcept {
    while (!deaths_.empty() && deaths_.front() + period_ < now) deaths_.pop_front();
    return static_cast<std::int64_t>(deaths_.size()) > max_deaths_;
  }
  [[nodiscard]] std::size_t deaths() const noexcept { return deaths_.size(); }
  [[nodiscard]] std::chrono::nanoseconds period() const noexcept { return period_; }

 private:
  std::int64_t max_deaths_;
  std::chrono::nanoseconds period_;
  std::deque<Time> deaths_;
};

/// When a start that failed is tried again. What it lacked (processes, descriptors, memory) may be there
/// again soon, so each failure in a row waits a little longer; where no worker lives and several starts
/// failed, the pool is given up.
class StartBackoff {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::milliseconds step{50};
  static constexpr unsigned max_failures_without_workers = 4;

  void note_success() noexcept { failures_ = 0; }
  /// Returns false where the pool is to be given up. `hopeless`: the next start would fail as well.
  [[nodiscard]] bool note_failure(Time now, bool hopeless, std::size_t live_workers) noexcept {
    ++failures_;
    if (hopeless || (live_workers == 0 && failures_ >= max_failures_without_workers)) return false;
    next_start_ = now + step * failures_;
    return true;
  }
  [[nodiscard]] bool may_start(Time now) const noexcept { return next_start_ <= now; }
  [[nodiscard]] Time next_start() const noexcept { return next_start_; }

 private:
  unsigned failures_ = 0;
  Time next_start_{};
};

}  // namespace kindred::internal
