#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kindred/file_options.hpp"
#include "kindred/sink_options.hpp"

namespace spdlog::sinks {
class sink;
}

namespace kindred {

namespace internal {
class Sink;
}

/// The names of the keys that `sinks::json` writes.
enum class JsonKeys : unsigned char {
  loguru,  ///< as Loguru's `serialize=True` has them
  ecs      ///< Elastic Common Schema
};

/// How `sinks::journald` sends.
struct JournaldOptions {
  std::string identifier{};  ///< SYSLOG_IDENTIFIER; empty: the name of the program's file
  std::string socket = "/run/systemd/journal/socket";
};

/// Anything that `add_sink` takes: what the functions of `kindred::sinks` return, any `spdlog::sink_ptr`, a
/// path (a text file), or a callable that takes `const LogRecord&`. A value: it says what to make, and the
/// sink itself is made (its file opened) by `add_sink`. Fork: parent only.
class AnySink {
 public:
  AnySink(const char* path) : AnySink{std::string{path}} {}       // NOLINT(google-explicit-constructor)
  AnySink(std::string_view path) : AnySink{std::string{path}} {}  // NOLINT(google-explicit-constructor)
  AnySink(std::string path);                                      // NOLINT(google-explicit-constructor)
  /// A `std::filesystem::path`, without the weight of its header.
  template <class Path>
    requires requires(const Path& path) {
      { path.native() } -> std::convertible_to<std::string>;
    }
  AnySink(const Path& path) : AnySink{std::string{path.native()}} {}  // NOLINT(google-explicit-constructor)
  /// Any sink of spdlog's, unchanged: see "spdlog sinks" in the namespace `sinks`.
  template <class S>
    requires std::convertible_to<S*, spdlog::sinks::sink*>
  AnySink(std::shared_ptr<S> sink)
      : AnySink{of_spdlog(std::move(sink))} {}  // NOLINT(google-explicit-constructor)
  template <class F>
    requires std::invocable<std::decay_t<F>&, const LogRecord&>
  AnySink(F&& fn)
      : AnySink{of_callback(shared_callable(std::forward<F>(fn)))} {}  // NOLINT(google-explicit-constructor)

  /// For the logger: makes the sink. `start_method` is the executor's, for sinks that tell it. Errors:
  /// `UsageError` (pattern, path), `SystemError` (the file cannot be opened).
  [[nodiscard]] std::unique_ptr<internal::Sink> make(const SinkOptions& options,
                                                     std::string_view start_method = {}) const;
  /// For the library's own kinds of sink.
  using Maker =
      std::function<std::unique_ptr<internal::Sink>(const SinkOptions&, std::string_view start_method)>;
  [[nodiscard]] static AnySink of_maker(Maker make);

 private:
  struct Made {};
  AnySink(Made, Maker make);
  static AnySink of_spdlog(std::shared_ptr<spdlog::sinks::sink> sink);
  static AnySink of_callback(std::function<void(const LogRecord&)> fn);
  template <class F>
  static std::function<void(const LogRecord&)> shared_callable(F&& fn) {
    // Shared, so that a callable that only moves can be a sink too.
    return [held = std::make_shared<std::decay_t<F>>(std::forward<F>(fn))](const LogRecord& record) {
      (*held)(record);
    };
  }

  Maker make_;
};

/// Where the log goes. All of it happens in the parent, on the collector's thread, so a slow sink delays the
/// others but never a task.
///
/// **Lines.** A record is one line, whatever it holds: control bytes, bytes that are not UTF-8, direction
/// overrides and line separators are escaped (`\n`, `\x1b`, `\xff`, `\u202e`, and `\\` for a backslash;
/// `internal/escape.hpp` has the table), names that are more than a word are quoted, and the only control
/// bytes are colours, where they are on. So a line can be taken apart again without guessing, and `read_log`
/// does. The default pattern writes
///
///     [2026-07-26 14:03:11.482913+02:00] [info] [w0 area#41 net.http] radius 2 {user=7 path="a b"}
///
/// **Patterns.** spdlog's flags mean what they mean there (`%v %l %L %n %t %P %Y %m %d %H %M %S %e %f %F %z
/// %T %s %g %# %! %@ %^ %$ %E %u` ...; `%8l`,
/// `%-8l`, `%=8l` pad, `%3!l` cuts), except that `%P` and `%t` are of the process and thread that logged, and
/// `%+` is our default pattern. Ours:
///
/// | flag | shows | | flag | shows |
/// | --- | --- | --- | --- | --- |
/// | `%w` | worker: its index, or "parent" | | `%V` | all fields, ` {key=value ...}`, a blank before |
/// | `%k` | incarnation | | `%{key}` | one field, nothing where there is none |
/// | `%j` | task id | | `%K` | origin: log, stdout, stderr, lifecycle, crash |
/// | `%J` | task name | | `%N` | "late" where the record is |
/// | `%q` | attempt | | `%W` | in short: `w0.2 area#41/3 logger <stdout> !late`, what is usual left out |
/// | `%Q` | sequence | | | (incarnation 0, attempt 1, no task, no logger name, origin log) |
///
/// **JSON.** `json` writes Loguru's keys (`serialize=True`): `text` (the pattern's line, else the message),
/// and in `record`: `message`, `time`
/// {`repr` to the nanosecond, `timestamp`}, `level` {`name`, `no` as Python counts: 5, 10, 20, 30, 40, 50},
/// `name` (the logger's), `file` {`name`, `path`}, `line`, `function`, `process` {`id`}, `thread` {`id`},
/// `extra` (the fields, typed; the last of a name counts). Beside them ours: `worker` (null: the parent),
/// `incarnation`, `task` (null, or {`id`, `name`, `attempt`}), `sequence`, `origin`, `late` (only where
/// true), `start_method`. What JSON cannot carry is replaced (U+FFFD for bytes that are not UTF-8, "NaN",
/// "Infinity") and repeated exactly, escaped as in lines, in a member `exact` beside `record`: so `read_log`
/// gives back what was logged. Loguru's `elapsed`, `exception` and `module` are not written.
///
/// With `JsonKeys::ecs` the keys are those of the Elastic Common Schema: `@timestamp` (UTC), `log.level`,
/// `message`, `ecs.version`, `log.logger`, `process.pid`, `process.thread.id`, `log.origin`, `error.type` and
/// `error.message` (from `log_exception`), `labels` (the fields, typed), and `kindred` {`worker`,
/// `incarnation`, `task`, `sequence`, `origin`, `late`, `start_method`}. `read_log` reads them too, but for
/// bytes that JSON cannot carry.
///
/// **spdlog sinks** are used as they are. They see the record's time, level, logger name, thread and place,
/// and as payload the escaped message with its fields; their own formatter and level stay in force (a `%P` in
/// it is spdlog's own: the parent's pid). With `SinkOptions::pattern`, our formatter is set on the sink: then
/// `%P`, the worker and the task are shown right, and coloured sinks colour what is between `%^` and `%$`.
namespace sinks {

/// Writes lines to standard output. Colours where it is a terminal (see `Color`). A reader that went away
/// (EPIPE) is no error: the records are counted as lost, silently.
[[nodiscard]] AnySink stdout_color();
/// The same to standard error.
[[nodiscard]] AnySink stderr_color();
/// Writes lines to a text file. Errors (here): `UsageError` where an option is out of range; (at `add_sink`):
/// see `FileOptions`.
[[nodiscard]] AnySink file(std::string path, FileOptions options = {});
/// Writes one JSON object a line. Errors: as `file`.
[[nodiscard]] AnySink json(std::string path, FileOptions options = {}, JsonKeys keys = JsonKeys::loguru);
/// Sends records to systemd-journald, each with its fields, so that `journalctl -t PROGRAM KINDRED_WORKER=2
/// -p warning` finds them: MESSAGE (the pattern's line, where one is given), PRIORITY, SYSLOG_IDENTIFIER,
/// CODE_FILE, CODE_LINE, CODE_FUNC, TID, KINDRED_LEVEL, KINDRED_LOGGER, KINDRED_WORKER, KINDRED_PID,
/// KINDRED_TASK_ID, KINDRED_TASK, KINDRED_ATTEMPT, KINDRED_ORIGIN, KINDRED_SEQUENCE, KINDRED_TIME_NS, and the
/// record's own fields in capitals (`user` is USER; what journald does not allow in a name is `_`, and a name
/// that is taken gets FIELD_ before it). Speaks journald's native protocol: no library is needed. What cannot
/// be sent is counted as lost and told on stderr; a journald that is restarted is found again.
///
/// Errors (at `add_sink`): `SystemError` where no journald listens. Blocks: the collector, while journald's
/// queue is full, at most a second a record; never a task.
[[nodiscard]] AnySink journald(JournaldOptions options = {});
template <class Path>
  requires requires(const Path& path) {
    { path.native() } -> std::convertible_to<std::string>;
  }
[[nodiscard]] AnySink file(const Path& path, FileOptions options = {}) {
  return file(std::string{path.native()}, std::move(options));
}
template <class Path>
  requires requires(const Path& path) {
    { path.native() } -> std::convertible_to<std::string>;
  }
[[nodiscard]] AnySink json(const Path& path, FileOptions options = {}, JsonKeys keys = JsonKeys::loguru) {
  return json(std::string{path.native()}, std::move(options), keys);
}
/// Calls `fn` with each record, on the collector's thread, one at a time. What it throws is reported, and
/// never reaches a task.
template <class F>
  requires std::invocable<std::decay_t<F>&, const LogRecord&>
[[nodiscard]] AnySink callback(F&& fn) {
  return AnySink{std::forward<F>(fn)};
}

}  // namespace sinks
}  // namespace kindred
