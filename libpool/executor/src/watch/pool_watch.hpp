#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "kindred/internal/code_reference.hpp"
#include "watch/metrics_file.hpp"
#include "watch/pool_view.hpp"
#include "watch/task_names.hpp"
#include "watch/time_histogram.hpp"
#include "watch/trace_feed.hpp"
#include "watch/trace_writer.hpp"

namespace kindred::internal {

/// What a pool notes of its tasks and workers for the programs that look at it, beside `PoolStats`. The hot
/// path notes only while that is wanted: while a trace or a metrics file is written, or a guest asked in the
/// last five minutes.
struct PoolWatch {
  static constexpr std::size_t deaths_kept = 32;
  static constexpr double patience_nanoseconds = 300e9;  // a scrape a minute must not lose what is between

  // Guarded by the pool's lock.
  TimeHistogram queue_time;
  TimeHistogram run_time;
  TaskNames names;
  std::deque<std::shared_ptr<const WorkerDeath>> deaths;
  std::map<std::string, std::uint64_t> restarts_by_kind;
  std::uint64_t until = 0;             ///< in ticks: after this, no program has asked for long
  std::uint64_t counters_told_at = 0;  ///< in ticks: to the trace
  bool always = false;                 ///< a metrics file is written
  std::shared_ptr<TraceFeed> feed;     ///< a trace is written
  std::uint64_t trace_lost = 0;        ///< by traces that have ended
  SystemTime since{};

  // Guarded by `files_lock`, which is taken before the pool's.
  std::mutex files_lock;
  std::unique_ptr<TraceWriter> trace;
  std::unique_ptr<MetricsFile> metrics_file;

  // Guarded by the lock of the window's gate: the names of functions are looked for in the program's symbols,
  // which takes time.
  std::map<CodeReference, std::string> known_code;
};

}  // namespace kindred::internal
