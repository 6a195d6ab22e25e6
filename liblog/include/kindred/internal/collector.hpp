#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/context_life.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/log_area.hpp"
#include "kindred/internal/passkey.hpp"
#include "kindred/internal/sink.hpp"
#include "kindred/internal/tail_visit.hpp"
#include "kindred/log_options.hpp"
#include "kindred/log_record.hpp"
#include "kindred/log_stats.hpp"
#include "kindred/logger.hpp"
#include "kindred/start_method.hpp"

namespace kindred {
class ProcessPoolExecutor;
struct SinkOptions;
}  // namespace kindred

namespace kindred::internal {

class Context;

/// Permission to make a collector: only an executor, or its context, can cut one.
class CollectorKey {
 public:
  explicit CollectorKey(Passkey<ProcessPoolExecutor>) noexcept {}
  explicit CollectorKey(Passkey<Context>) noexcept {}

 private:
  friend struct LogTestAccess;
  CollectorKey() = default;  // NOLINT: not an aggregate
};

/// One process whose records are collected: a worker incarnation.
enum class SourceId : std::uint64_t {};

/// A source as its records name it.
struct SourceIdentity {
  int worker = -1;
  std::uint32_t incarnation = 0;
  std::uint32_t pid = 0;  ///< 0: not known yet, see `set_source_pid`
};

/// What a dead worker left.
struct SourceEnd {
  std::vector<std::string>
      last_lines;  ///< of the latest ten records, oldest first: "[warn] message", escaped
  std::vector<std::uint64_t> last_tasks;  ///< whose they are, line for line
  std::uint64_t records = 0;              ///< committed and collected in all
  std::uint64_t torn = 0;                 ///< begun and never committed
  std::uint64_t dropped = 0;              ///< for want of room
  bool corrupt = false;                   ///< it corrupted its log, which was read only up to there
  bool complete =
      true;  ///< false: the deadline passed (a sink hangs); the rest is delivered when the sink goes on

  /// Those of the last lines that one task logged.
  [[nodiscard]] std::vector<std::string> lines_of(std::uint64_t task) const {
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < last_lines.size() && i < last_tasks.size(); ++i) {
      if (last_tasks[i] == task) lines.push_back(last_lines[i]);
    }
    return lines;
  }
};

/// What the collector asks of its owner. Called on the collector's thread, without a lock; must not call
/// `finish_source`, `flush` or `shutdown`.
struct CollectorHooks {
  /// The name of a task that has none of its own, by its function reference. Cached.
  std::function<std::string(std::uint64_t function_reference)> task_name{};
  /// A source has corrupted its log, and is not read any more: its process is to be killed. Once a source.
  std::function<void(SourceId source, std::string_view what)> corrupt{};
};

/// A range's supply of records. Threads: one at a time.
class RecordSource {
 public:
  RecordSource() = default;
  RecordSource(const RecordSource&) = delete;
  RecordSource& operator=(const RecordSource&) = delete;
  virtual ~RecordSource() = default;
  /// Writes the next record to `record`; false: there will be no more. Blocks: until there is one, where the
  /// source is live.
  virtual bool next(LogRecord& record) = 0;
  /// Writes the next record to `record`; false: there is none now. For a reader that looks now and then.
  virtual bool next_now(LogRecord& record) = 0;
};

/// The parent's drain. Takes records out of the lanes of all sources, orders them by time up to a watermark
/// that it can prove (order_and_watermark.md), formats them, feeds the sinks, and keeps the latest.
///
/// Its thread starts with the first source, sink, emitted record or record of the parent's; until then it
/// costs one eventfd. While nothing is logged anywhere, the thread sleeps without a timeout.
///
/// While no sink has ever been added, records of level warn and above go to stderr, as in Python.
///
/// Threads: any thread, unless said otherwise. Fork: parent only.
class Collector {
 public:
  Collector(CollectorKey, std::shared_ptr<ContextLife> life, LogOptions options, CollectorHooks hooks);
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;
  /// `shutdown` with `options.flush_limit`.
  ~Collector();

  // --- sources ---
  /// Collects from `area`, which is formatted here and which only the worker-to-be will write. `keep_alive`
  /// is held as long as the collector may touch the area, which is beyond `finish_source` only where that was
  /// incomplete.
  [[nodiscard]] SourceId add_source(std::span<std::byte> area, const SourceIdentity& identity,
                                    std::shared_ptr<const void> keep_alive);
  void set_source_pid(SourceId source, std::uint32_t pid);
  /// The source's process is dead (reaped, or never born): delivers all that it has committed, to every sink,
  /// flushed, and forgets it. Blocks: until done, at most until the deadline. Errors: `UsageError` on the
  /// collector's own thread.
  /// `died`: not in good order. Then what the flight recorder has of the task that it was running (0: none),
  /// and of what it logged outside of tasks, goes to the sinks.
  struct Death {
    bool died = false;
    std::uint64_t task_id = 0;
  };
  SourceEnd finish_source(SourceId source, Deadline deadline, Death death);
  SourceEnd finish_source(SourceId source, Deadline deadline) { return finish_source(source, deadline, {}); }
  [[nodiscard]] LogSourceStats source_stats(SourceId source) const;
  /// The descriptor that a worker's `attach_log` needs (duplicate it into the worker).
  /// Has a collector that sleeps look at all lanes: a worker may have destroyed a ring of its bell.
  void look_again() noexcept;
  [[nodiscard]] int bell_fd() const noexcept;
  [[nodiscard]] StartMethod start_method() const noexcept;

  // --- records of the parent ---
  /// Puts a record that the parent made into the log: lifecycle, crash, captured output. `at` (ticks) is its
  /// time in the order; 0: now. `time` is set from it where it is empty.
  void emit(LogRecord&& record, std::uint64_t at = 0);
  /// A logger that writes to this log from this process, under no name.
  [[nodiscard]] const Logger& logger() const noexcept;

  // --- sinks ---
  SinkId add_sink(std::unique_ptr<Sink> sink, SinkOptions options);
  /// Delivers what was committed before, flushes the sink, destroys it. Returns false where there is none of
  /// that id. On the collector's own thread it is taken away after the record at hand.
  bool remove_sink(SinkId sink);
  void remove_sinks();
  /// Calls `fn` with each record before the sinks see it; what it changes, they see. Replaces the former one;
  /// empty: none.
  void on_record(std::function<void(LogRecord&)> fn);

  // --- levels ---
  void set_level(Level level);  ///< of all loggers without a level of their own, everywhere
  void set_level(std::string_view logger,
                 Level level);  ///< of loggers at or below a name. Errors: `UsageError` (41st name, too long)
  void set_level(int worker, Level level);  ///< of one worker, restarts included; -1: the parent
  [[nodiscard]] Level level() const noexcept;

  // --- reading ---
  /// All that was committed before the call, in any process, is in every sink, and these are flushed. False:
  /// no record moved for `options.flush_limit`, or the deadline passed. Errors: `UsageError` on the
  /// collector's own thread.
  bool flush(Deadline deadline = {});
  /// What is kept, then (where `live`) what comes, until shutdown. A reader that is too slow loses the
  /// oldest, and is told so by a record of origin lifecycle. Outlives the collector.
  [[nodiscard]] std::unique_ptr<RecordSource> records(bool live) const;
  /// What is kept of a task, in order, all of it that was committed before the call.
  [[nodiscard]] std::vector<LogRecord> records_of_task(std::uint64_t task_id);
  /// The task failed: what the flight recorder has of it goes to the sinks.
  void release_flight(std::uint64_t task_id);
  [[nodiscard]] LogStats stats() const;

  // --- kindred-tail ---
  /// Has requests `ask=<word>` that come to the door of `kindred-tail` answered so (see `tail_visit.hpp`).
  /// Before `offer_tail`.
  void offer_at_tail(std::string word, TailAnswer answer);
  /// Offers this log to `kindred-tail` (`LogOptions::tail`). Returns the descriptor that becomes readable
  /// when a visitor comes; -1: it is not offered.
  [[nodiscard]] int offer_tail() noexcept;
  /// A visitor has come: lets it in, or not. Never blocks. False: the descriptor is to be waited on no
  /// longer, and then the offer withdrawn.
  bool answer_tail() noexcept;
  void withdraw_tail() noexcept;

  /// Closes the log: later records of the parent go to stderr; all that was committed is delivered, flushed,
  /// the thread ends. Idempotent. False: a sink took nothing until the deadline; its thread is left to
  /// itself, and stderr was told what was lost.
  bool shutdown(Deadline deadline);

  struct State;  ///< what the collector's thread shares with this object, so that a hung sink cannot hold it
                 ///< up

 private:
  std::shared_ptr<State> state_;
};

}  // namespace kindred::internal
