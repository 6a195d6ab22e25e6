#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "kindred/level.hpp"

namespace kindred {

/// What a log call does when its lane is full, because the sinks are slower than the program.
enum class WhenFull : unsigned char {
  block,        ///< waits for room, at most `block_limit`; then drops until the collector moves again
  drop_newest,  ///< drops the record at hand; never waits
  drop_oldest   ///< gives up the oldest records of the lane, an eighth of it at a time; never waits
};

/// How an executor's log is laid out. Every dropped record is counted and reported in the log at its place,
/// whatever the policy.
///
/// Checked in the executor's constructor before anything is acquired. Errors: `UsageError` with option, value
/// and range.
struct LogOptions {
  /// What is logged at all, until `set_level` says otherwise. Nothing: `KINDRED_LOG_LEVEL`, else
  /// `SPDLOG_LEVEL`, else info. The variables may also set levels by logger name:
  /// `KINDRED_LOG_LEVEL=info,net=debug,net.http=trace`.
  std::optional<Level> level{};
  WhenFull when_full = WhenFull::block;
  /// How long a log call may wait for room under `WhenFull::block`; a message that is larger than its lane,
  /// under each policy.
  std::chrono::milliseconds block_limit{1000};
  /// How long records of others wait for a thread that was stopped in the middle of a log call, before they
  /// go on without it and what it then delivers is marked `late`.
  std::chrono::milliseconds hold_limit{100};
  /// How long `flush`, `shutdown` and the destructor wait for a sink that takes nothing any more.
  std::chrono::milliseconds flush_limit{5000};
  /// Log calls of the parent at this level and above return when their records, and all before them in any
  /// process, are in every sink, flushed (at most `flush_limit`): what they say is there whatever happens
  /// next, SIGKILL included. Costs each such call a turn of the collector's thread, some 20 to 100 us and as
  /// long as the sinks take, and every other log call of the parent some nanoseconds. Records of workers need
  /// no such wait: they are in memory that outlives the worker; for them, all sinks are flushed at once.
  /// Nothing: off. `SinkOptions::flush_on` is the same for one sink, without waiting.
  std::optional<Level> flush_on{};
  /// When a fatal signal (SIGSEGV, SIGABRT, SIGTERM, SIGINT ...) or an uncaught exception ends
  /// this program, say so in the log, flush it (at most `flush_limit`), and let the program end as it would
  /// have. Sets handlers for these signals, for good, which call those that were there; SIGTERM, SIGINT,
  /// SIGHUP and SIGQUIT are left alone where the program handles or ignores them. See doc/program_end.md.
  bool last_words = false;
  /// Memory for the latest records, encoded, for `records()`, `Future::log()` and the last lines in
  /// `WorkerLost`. At least 64 KiB.
  std::size_t keep_bytes = 4 * 1024 * 1024;
  /// Room for records of the thread that runs a worker's tasks: a power of two, 16 KiB to 8 MiB. A burst that
  /// fits is never slowed by the sinks; a longer message passes in pieces.
  std::size_t lane_bytes = 256 * 1024;
  /// The same for each further thread of a worker, and for each of the parent's beyond the first.
  std::size_t thread_lane_bytes = 32 * 1024;
  /// How many further threads have a lane of their own, 1 to 48; the others share the last one, under a lock.
  unsigned thread_lanes = 7;
  /// Room for the places in the code that log: some 150 bytes each. Those beyond travel with each record,
  /// which is slower.
  std::size_t site_bytes = 64 * 1024;
  /// Bridge spdlog's default logger and every registered one, in workers, into this log.
  bool bridge_spdlog = true;
  /// A sink that has thrown this many times in a row is taken out of service. A flush that succeeds between
  /// records that fail does not end the row.
  unsigned sink_failures = 100;
  /// Flight recorder: records from this level up, although below the logger's level, are kept encoded, and
  /// reach the sinks only if their task fails or dies (and, of a worker that dies, those that it logged
  /// outside of tasks). Nothing: off. They cost lane room and `flight_bytes`, never formatting.
  std::optional<Level> flight_recorder{};
  /// Memory for the flight recorder; the oldest records are forgotten first.
  std::size_t flight_bytes = 1024 * 1024;
  /// Offer this log to `kindred-tail`, for this user (and root) on this machine: a listening socket under an
  /// abstract name, opened with the first worker. It costs nothing until a visitor comes; then a thread of
  /// nice 19 for each, at most 16.
  bool tail = true;

  void validate() const;
};

}  // namespace kindred
