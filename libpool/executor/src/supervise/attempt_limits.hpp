#pragma once

#include <chrono>
#include <optional>

namespace kindred::internal {

/// What is known of one attempt when its time limits are looked at.
struct AttemptTimes {
  std::optional<std::chrono::nanoseconds> timeout = {};
  std::optional<std::chrono::nanoseconds> soft_timeout = {};
  std::optional<std::chrono::nanoseconds> terminate_grace =
      {};                           ///< between SIGTERM and SIGKILL; none: no SIGTERM
  bool begun = false;               ///< by the worker's word
  std::chrono::nanoseconds ran{0};  ///< by the worker's word; 0 where it has not begun
  /// How long the parent has seen the attempt first in its ring; none where it is not first there.
  std::optional<std::chrono::nanoseconds> at_front = {};
  bool stop_asked = false;  ///< this attempt was asked to stop
  bool timed_out = false;   ///< this attempt got SIGTERM, because it ran over its limit
};

/// What is to be done about it.
struct LimitStep {
  enum class Kill : unsigned char {
    none,
    terminate,  ///< SIGTERM, and after the grace, SIGKILL; only where the worker has not finished meanwhile
    kill,       ///< SIGKILL; only where the worker has not finished meanwhile
    kill_for_sure  ///< SIGKILL, whatever the worker says
  };
  bool ask_to_stop = false;
  Kill kill = Kill::none;
  std::chrono::nanoseconds ran{0};  ///< for the error: how long it ran
  /// When to look again. After `terminate` or `kill` it counts only if the worker turned out to have
  /// finished.
  std::optional<std::chrono::nanoseconds> look_again;
};

/// Decides by the worker's word, as long as the parent's own clock does not contradict it: an attempt whose
/// worker is stopped before it begins, or whose worker lies about what it does, gets its limit again, the
/// grace, and a second for a machine that is busy, counted from when the parent found it first in the ring.
[[nodiscard]] LimitStep check_limits(const AttemptTimes& attempt) noexcept;

}  // namespace kindred::internal
