#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kindred/internal/collector.hpp"
#include "kindred/internal/locked.hpp"
#include "link/worker_slot.hpp"
#include "watch/pool_watch.hpp"

namespace kindred::internal {

struct CrashReport;

/// Writes down, in a `PoolWatch`, what happens to tasks and workers. Guarded by the pool's lock.
class WatchNotes {
 public:
  WatchNotes(PoolWatch& watch, const CodeBook& code, double ticks_a_nanosecond) noexcept
      : watch_{watch},
        code_{code},
        ticks_a_nanosecond_{ticks_a_nanosecond},
        nanoseconds_a_tick_{1 / ticks_a_nanosecond} {}

  /// Are results to be noted? The hot path asks before it calls anything else here.
  [[nodiscard]] bool on(Locked) const noexcept { return on_; }
  /// Results are counted: a program looks, or a metrics file is written.
  void count_results(Locked) noexcept { on_ = counting_ = true; }
  /// What happens is put into that feed, until `end_trace`.
  void trace_to(Locked, std::shared_ptr<TraceFeed> feed) noexcept;
  void end_trace(Locked) noexcept { watch_.feed.reset(); }

  /// A result lies in a worker's ring and is about to be taken. Its times are the worker's word: they move
  /// these numbers and nothing else.
  void note_result(Locked, const WorkerSlot& slot, std::span<const std::byte> message) noexcept;
  /// After results were taken in: tells the trace how many tasks wait, at most once a millisecond, and looks
  /// whether all this is still wanted.
  void note_queue(Locked, std::uint64_t now, std::size_t live_workers, std::size_t pending,
                  std::size_t in_flight) noexcept;
  /// The calling thread runs a callback of a task, and submits another one.
  void note_submit(Locked, std::uint64_t task_id, std::uint64_t now) noexcept;
  void note_worker(Locked, const WorkerSlot& slot, bool started) noexcept;
  /// An attempt that has begun ends without a result (`lost`), or the trace ends while it runs.
  void note_run_without_end(Locked, const WorkerSlot& slot, const TaskState& task, bool lost) noexcept;
  struct Burial {
    bool good_order = false;
    bool cancelled = false;
    const ExitReason& reason;
    const SourceEnd& log;
    const CrashReport& crash;
    const TaskState* lost = nullptr;
  };
  void note_burial(Locked locked, const WorkerSlot& slot, const Burial& burial);

 private:
  [[nodiscard]] TaskNameEntry& name_entry(const TaskState& task);
  [[nodiscard]] std::uint64_t nanoseconds(std::uint64_t begin, std::uint64_t end) const noexcept;
  void count(TaskNameEntry& name, const ResultHeader& result, std::uint64_t submitted) noexcept;

  PoolWatch& watch_;
  const CodeBook& code_;
  const double ticks_a_nanosecond_;
  const double nanoseconds_a_tick_;
  bool on_ = false;        // either of the two
  bool counting_ = false;  // else only the trace wants to know
};

}  // namespace kindred::internal
