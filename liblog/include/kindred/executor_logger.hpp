#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "kindred/internal/collector.hpp"
#include "kindred/log_record.hpp"
#include "kindred/log_records.hpp"
#include "kindred/log_stats.hpp"
#include "kindred/logger.hpp"
#include "kindred/sinks.hpp"

namespace kindred {

/// The parent's end of an executor's log: `executor.logger()`. Every record of every worker, and the parent's
/// own, passes here.
///
///     pool.logger().add_sink(kindred::sinks::stdout_color(), {.level = kindred::Level::warn});
///     pool.logger().add_sink("app.log");
///     pool.logger().info("{} workers", 4);
///
/// Sinks, formatting and files are the parent's alone: workers only copy arguments into shared memory.
/// While no sink was ever added, records of level warn and above go to stderr.
///
/// Threads: any thread. Fork: parent only; used in another process its calls throw the `UsageError` that
/// names both contexts.
class ExecutorLogger : public internal::LogCalls<ExecutorLogger> {
 public:
  ExecutorLogger(internal::CollectorKey, internal::Collector& collector) noexcept : collector_{collector} {}
  ExecutorLogger(const ExecutorLogger&) = delete;
  ExecutorLogger& operator=(const ExecutorLogger&) = delete;

  /// Adds where records go, from the next one on. Takes what `kindred::sinks` gives, any `spdlog::sink_ptr`,
  /// a path, or a callable that takes `const LogRecord&`. A sink that throws is reported on stderr at most
  /// once a second, and disabled after `LogOptions::sink_failures` in a row. Errors: `UsageError` (options,
  /// path), `SystemError` (the file cannot be opened).
  SinkId add_sink(const AnySink& sink, SinkOptions options = {});
  /// Removes a sink once all that was committed before is in it. Returns whether there was such a sink.
  bool remove_sink(SinkId sink);
  void remove_sinks();

  /// Sets what is logged, by all loggers in all processes; in force at the next log call of each.
  void set_level(Level level);
  /// The same for loggers at or below a name: "net" is meant for "net" and "net.http". The longest name that
  /// fits counts. Errors: `UsageError` where the name is longer than 62 bytes, or the 41st.
  void set_level(std::string_view logger, Level level);
  /// The same for one worker, also after it was restarted. -1 is the parent.
  void set_level(int worker, Level level);
  [[nodiscard]] Level level() const;

  /// All that was committed before the call, in any process, is in every sink when it returns. Returns false
  /// where that is not so: a sink took nothing for `LogOptions::flush_limit`, or for `limit` where it is
  /// given. Errors: `UsageError` from within a sink. Blocks: until done.
  bool flush(std::optional<std::chrono::milliseconds> limit = {});

  /// Calls `fn` with each record before the sinks see it, on the collector's thread; it may change the
  /// record. An empty one ends that.
  void on_record(std::function<void(LogRecord&)> fn);

  /// Adds records of other machines to this log, in the order given and with their own times. An executor
  /// over many machines uses it.
  void deliver(std::vector<LogRecord> records);

  /// The log as a range, live: what is kept (`LogOptions::keep_bytes`), then what comes, until the executor
  /// is shut down. A reader that is too slow loses the oldest, and is told how many by a record of origin
  /// lifecycle. Blocks: its iteration, until there is a record.
  [[nodiscard]] LogRecords records() const;
  /// What is kept now, as a range that ends. Call `flush()` first where all that was committed is wanted.
  [[nodiscard]] LogRecords kept_records() const;

  /// What this log did so far.
  [[nodiscard]] LogStats stats() const;

  /// A logger that is bound to this log, with fields or under a name.
  [[nodiscard]] Logger with(std::initializer_list<LogField> fields) const;
  [[nodiscard]] Logger named(std::string_view name) const;

  [[nodiscard]] bool enabled(LevelCode level) const { return collector_.logger().enabled(level); }
  [[nodiscard]] internal::LogTarget target() const { return collector_.logger().target(); }

 private:
  internal::Collector& collector_;
};

}  // namespace kindred
