#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kindred::internal {

/// The times by which calls are placed, in ticks of this machine's clock.
struct PlacementTimes {
  explicit PlacementTimes(double ticks_a_nanosecond) noexcept
      : work_ahead{500'000 * ticks_a_nanosecond},
        wake{30'000 * ticks_a_nanosecond},
        wake_crowded{100'000 * ticks_a_nanosecond},
        unknown_call{1'000'000 * ticks_a_nanosecond},
        pack{8'000 * ticks_a_nanosecond},
        long_run{static_cast<std::int64_t>(50'000 * ticks_a_nanosecond)},
        unresponsive{static_cast<std::int64_t>(10'000'000 * ticks_a_nanosecond)} {}

  /// How much work a worker has ahead of it: enough that it does not run dry while the parent does something
  /// else.
  double work_ahead;
  double wake;  ///< what it costs to wake a worker that sleeps
  /// The same where no core is free for it: it takes one from a busy worker or from the thread that submits,
  /// and as long as the tasks are short, both are soon done without it.
  double wake_crowded;
  double unknown_call;  ///< what a call is taken for where no run time is known
  /// Below this much queued work, waking another worker costs more than it saves: two workers that share
  /// short tasks take a core from each other and from the thread that submits.
  double pack;
  std::int64_t long_run;  ///< a call that has run for this long is worth revoking the calls behind it
  /// After this long without a result the worker's own status is ignored (it is stopped or corrupted) and its
  /// unstarted calls are revoked.
  std::int64_t unresponsive;
};

/// How many calls a worker may have, the running one included, beyond what its average run time says.
inline constexpr std::int64_t max_calls_ahead = 1024;

/// Has a worker with `calls` calls enough ahead of it? `average`: ticks a call takes; 0: not known. Without a
/// division, since each submit asks.
[[nodiscard]] inline bool has_enough_ahead(const PlacementTimes& times, bool one_at_a_time,
                                           std::int64_t calls, double average) noexcept {
  if (one_at_a_time) return calls >= 1;
  if (average <= 0) return calls >= 2;
  return calls > 1 && (calls > max_calls_ahead || static_cast<double>(calls) * average > times.work_ahead);
}

/// How many calls a worker may have. `one_at_a_time`: a call that was dispatched ahead could not be overtaken
/// by one of a higher priority, nor be run while the worker still starts.
[[nodiscard]] inline std::size_t prefetch_limit(const PlacementTimes& times, bool one_at_a_time,
                                                double average) noexcept {
  if (one_at_a_time) return 1;
  if (average <= 0) return 2;
  return 1 + static_cast<std::size_t>(
                 std::clamp(times.work_ahead / average, 1.0, static_cast<double>(max_calls_ahead)));
}

/// Has a worker that last made progress at `progress` (ticks) shown neither a begin nor a result for too long
/// that its own status no longer counts?
[[nodiscard]] inline bool is_unresponsive(const PlacementTimes& times, std::uint64_t progress,
                                          std::uint64_t now) noexcept {
  return static_cast<std::int64_t>(now - progress) >= times.unresponsive;
}

/// Chooses the worker that would start a call soonest. Each worker that takes calls is considered once:
///
///     Placement<Worker> placement{times};
///     for (each worker) placement.consider_idle(...) or placement.consider_busy(...);
///     placement.choose()
///
/// To wake a sleeping worker takes as long as many short tasks, so a busy worker with little work is
/// preferred to it; a worker that spins costs no waking.
template <class Worker>
class Placement {
 public:
  /// `cores`: how many the program may use.
  Placement(const PlacementTimes& times, unsigned cores) noexcept : times_{&times}, cores_{cores} {}

  struct Busy {
    bool starts = false;         ///< it has not said yet that it is ready
    bool one_at_a_time = false;  ///< priorities are used
    bool full = false;           ///< its ring has no room
    std::int64_t calls = 0;      ///< the running one included
    double average = 0;          ///< ticks a call takes there; 0: not known
  };

  /// A worker without a call.
  void consider_idle(Worker& worker, bool sleeps) noexcept {
    Worker*& place = sleeps ? sleeper_ : spinner_;
    if (place == nullptr) place = &worker;
  }
  /// A worker that runs something, or starts. `runs_long()` tells whether its running call has been running
  /// for long, which may go on: such a worker is chosen only where it has no other call, and costs what an
  /// unknown call costs on top.
  template <class RunsLong>
  void consider_busy(Worker& worker, const Busy& busy, const RunsLong& runs_long) noexcept {
    ++busy_;
    if (busy.full || has_enough_ahead(*times_, busy.starts || busy.one_at_a_time, busy.calls, busy.average))
      return;
    double cost = static_cast<double>(busy.calls) *
                  (busy.average > 0 && !busy.starts ? busy.average : times_->unknown_call);
    if (runs_long()) {
      if (busy.calls > 1) return;
      cost += times_->unknown_call;
    }
    if (best_ != nullptr && cost >= least_) return;
    best_ = &worker;
    least_ = cost;
  }

  struct Choice {
    Worker* worker = nullptr;
    bool look_again = false;  ///< an idle worker was passed over, because the work ahead should be short
  };
  [[nodiscard]] Choice choose() const noexcept {
    if (spinner_ != nullptr && (best_ == nullptr || least_ >= times_->pack)) return {spinner_, false};
    if (sleeper_ == nullptr && spinner_ == nullptr) return {best_, false};
    const bool crowded = busy_ + 1 >= cores_;  // this thread runs, too
    if (best_ == nullptr || least_ >= (crowded ? times_->wake_crowded : times_->wake))
      return {sleeper_, false};
    return {best_, true};
  }

 private:
  const PlacementTimes* times_;
  unsigned cores_;
  unsigned busy_ = 0;
  Worker* best_ = nullptr;
  Worker* spinner_ = nullptr;
  Worker* sleeper_ = nullptr;
  double least_ = 0;
};

/// Chooses the worker from which an idle worker is given calls: the one with the most unstarted calls behind
/// a call that has run for long. The calls behind a young call stay, as it may end in no time.
template <class Worker>
class RebalancePlan {
 public:
  /// `unstarted`: its calls that it has not begun. `blocked`: it starts, or its running call runs long.
  void consider(Worker& worker, std::size_t unstarted, bool blocked) noexcept {
    if (unstarted == 0) return;
    if (!blocked) {
      look_again_ = true;
      return;
    }
    if (unstarted <= most_) return;
    most_ = unstarted;
    victim_ = &worker;
  }
  [[nodiscard]] Worker* victim() const noexcept { return victim_; }
  [[nodiscard]] bool look_again() const noexcept { return look_again_; }  ///< calls wait behind a young call

 private:
  Worker* victim_ = nullptr;
  std::size_t most_ = 0;
  bool look_again_ = false;
};

}  // namespace kindred::internal
