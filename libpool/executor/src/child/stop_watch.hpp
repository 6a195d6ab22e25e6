#pragma once

#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "kindred/internal/segment.hpp"

namespace kindred::internal {

/// Whether the attempt at hand was asked to stop: as a question, and as a stop token, which a thread watches
/// for.
class StopWatch {
 public:
  explicit StopWatch(const SegmentHeader& header) noexcept : header_{header} {}

  [[nodiscard]] bool stop_requested() const noexcept {
    const auto attempt = begun_attempt();
    return attempt != 0 && header_.stop_attempt.load(std::memory_order_acquire) == attempt;
  }
  /// Any thread of a task.
  [[nodiscard]] std::stop_token token();

 private:
  [[nodiscard]] AttemptId begun_attempt() const noexcept {
    return header_.begun_attempt.load(std::memory_order_relaxed);
  }
  void watch();

  const SegmentHeader& header_;
  std::mutex mutex_;
  std::optional<std::stop_source> source_;
  AttemptId attempt_ = 0;  // which attempt that source belongs to
  bool is_watched_ = false;
};

}  // namespace kindred::internal
