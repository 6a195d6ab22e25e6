#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "kindred/log_stats.hpp"

namespace kindred {

/// What one worker place has done, all incarnations together, but for `pid`, `rss_bytes` and `running_task`,
/// which are of the present one.
struct WorkerStats {
  int index = 0;
  std::uint32_t pid = 0;  ///< 0: no process now
  std::uint32_t incarnation = 0;
  std::uint64_t tasks_done = 0;
  std::uint64_t tasks_failed = 0;
  std::uint64_t tasks_lost = 0;
  std::uint64_t restarts = 0;              ///< deaths that were not in good order
  std::uint64_t recycled = 0;              ///< ends in good order: task count, memory, idleness
  std::chrono::nanoseconds queue_time{0};  ///< submit to begin, sum over tasks that ended here
  std::chrono::nanoseconds run_time{0};    ///< begin to end, sum
  std::uint64_t argument_bytes = 0;
  std::uint64_t result_bytes = 0;
  std::uint64_t records = 0;          ///< log records that the collector has taken from it
  std::uint64_t dropped_records = 0;  ///< that it had no room for
  std::uint64_t rss_bytes = 0;
  std::uint64_t running_task = 0;
};

/// What a pool has done so far. A snapshot; the sums are consistent with each other.
struct PoolStats {
  std::uint64_t submitted = 0;
  std::uint64_t done = 0;    ///< ended with a value
  std::uint64_t failed = 0;  ///< the task threw, or its arguments or result could not be sent
  std::uint64_t lost = 0;    ///< ended because the worker died, or ran over its limit
  std::uint64_t cancelled = 0;
  std::uint64_t retried = 0;
  std::uint64_t pending = 0;  ///< not begun
  std::uint64_t running = 0;
  std::uint64_t workers = 0;  ///< processes alive or starting
  std::uint64_t restarts = 0;
  std::uint64_t taken_back = 0;            ///< calls handed to a worker, and taken back for another one
  std::chrono::nanoseconds queue_time{0};  ///< submit to begin, sum over finished tasks
  std::chrono::nanoseconds run_time{0};    ///< begin to end, sum
  std::uint64_t argument_bytes = 0;
  std::uint64_t result_bytes = 0;
  std::uint64_t rss_bytes = 0;  ///< of all workers that live
  std::uint64_t supervisor_wakeups = 0;
  LogStats log;
  std::vector<WorkerStats> per_worker;
};

}  // namespace kindred
