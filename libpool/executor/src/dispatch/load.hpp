#pragma once

#include <cstdint>

#include "dispatch/placement.hpp"
#include "link/worker_slots.hpp"
#include "task/completion.hpp"

namespace kindred::internal {

/// What is known of how busy the workers are: the run times of recent calls, and which worker responds. Reads
/// words of the workers, but no worker can harm more than its own share by them. Guarded by the pool's lock.
class Load {
 public:
  Load(double ticks_a_nanosecond, const Completion& completion) noexcept
      : ticks_a_nanosecond_{ticks_a_nanosecond}, times_{ticks_a_nanosecond}, completion_{completion} {}

  [[nodiscard]] const PlacementTimes& times() const noexcept { return times_; }
  [[nodiscard]] double ticks_of(double nanoseconds) const noexcept {
    return nanoseconds * ticks_a_nanosecond_;
  }

  /// How long a call runs on the average, in ticks; 0: not known.
  [[nodiscard]] double average(Locked) const noexcept { return average_.ticks(); }
  [[nodiscard]] double average_of(Locked, const WorkerSlot& slot) const noexcept {
    return slot.average.ticks_or(average_);
  }
  /// Results were taken in.
  void note_times(Locked, WorkerSlot& slot, const RunAverage::Batch& times) noexcept;
  [[nodiscard]] RunAverage::Batch new_batch(Locked locked, const WorkerSlot& slot) const noexcept {
    RunAverage::Batch batch;
    batch.max_counted = RunAverage::max_counted(average_of(locked, slot), ticks_of(1'000));
    return batch;
  }
  struct Sums {
    std::uint64_t run = 0;
    std::uint64_t queue = 0;
  };
  [[nodiscard]] const Sums& sums(Locked) const noexcept { return sums_; }  ///< of all workers, in ticks

  /// While a task with a priority is open, a worker has one call at a time, so that the next one can be
  /// overtaken.
  [[nodiscard]] bool one_at_a_time(Locked locked) const noexcept {
    return completion_.prioritized(locked) != 0;
  }
  /// How many calls the worker may have.
  [[nodiscard]] std::size_t prefetch_limit(Locked locked, const WorkerSlot& slot) const noexcept {
    return internal::prefetch_limit(times_, !slot.ready || one_at_a_time(locked), average_of(locked, slot));
  }

  /// Has the worker's running call been running for long?
  [[nodiscard]] bool runs_long(Locked locked, const WorkerSlot& slot, std::uint64_t now) const noexcept {
    if (!slot.ready || slot.in_flight.empty() ||
        static_cast<std::int64_t>(now - slot.progress_ticks) < times_.long_run)
      return false;  // no look at what the worker writes
    return runs_long_by_its_word(locked, slot, now);
  }
  /// Has the worker shown neither a begin nor a result for long, by our clock?
  [[nodiscard]] bool is_unresponsive(Locked, const WorkerSlot& slot, std::uint64_t now) const noexcept {
    return slot.ready && internal::is_unresponsive(times_, slot.progress_ticks, now);
  }

 private:
  [[nodiscard]] bool runs_long_by_its_word(Locked locked, const WorkerSlot& slot,
                                           std::uint64_t now) const noexcept;

  const double ticks_a_nanosecond_;
  const PlacementTimes times_;
  const Completion& completion_;
  RunAverage average_;
  Sums sums_;
};

/// Has the worker not begun the first of its calls?
[[nodiscard]] bool front_is_unbegun(Locked, const WorkerSlot& slot) noexcept;
/// Has the worker passed all its calls, though a result is missing? A call is passed when its result is
/// published, so the missing call is one whose word says that it was revoked, but not by us.
[[nodiscard]] bool has_lost_a_call(Locked, WorkerSlot& slot) noexcept;
/// For a silent worker: looks whether it has passed what was revoked.
[[nodiscard]] bool still_silent(Locked, WorkerSlot& slot) noexcept;

}  // namespace kindred::internal
