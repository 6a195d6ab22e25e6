#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kindred/log_record.hpp"

namespace kindred {

/// What a rotation predicate is shown besides the record that is about to be written.
struct FileState {
  std::string path;           ///< of the file that is written now
  std::uint64_t bytes = 0;    ///< its size so far
  std::uint64_t records = 0;  ///< written to it by this process
  std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>
      opened{};  ///< when the file was begun
};

/// One reason to begin a new file. Implicit from each of
///
/// * a size: "100 MB", "0.5 GiB", "1e6 B" (kB, MB, GB, TB are powers of 1000; KiB ... of 1024),
/// * a time of day, local: "00:00", "18:30:15"; a weekday: "monday", "sunday at 12:00"; or the words
/// "hourly", "daily", "weekly" (monday
///   00:00), "monthly", "yearly", which mean the turn of the calendar unit,
/// * an interval since the file was begun: "1 week", "10 days", "1 h 30 min", or any `std::chrono` duration,
/// * a signal: "SIGHUP", as `logrotate` and admins send it. The file is begun anew before the record that
/// follows
///   the signal. The signal's handler is set when the file is opened, and calls the one that was there; where
///   the default was in force, the signal does not end the program any more,
/// * a predicate `bool(const LogRecord&, const FileState&)`, asked before each record.
///
/// A file that a former run left is continued, and its own age counts. Errors: `UsageError` that quotes the
/// text and gives examples.
class RotateWhen {
 public:
  using Predicate = std::function<bool(const LogRecord&, const FileState&)>;
  enum class Kind : unsigned char {
    size,
    time_of_day,
    weekday,
    month,
    year,
    hour,
    interval,
    hangup,
    predicate
  };

  RotateWhen(std::string_view text);                                    // NOLINT(google-explicit-constructor)
  RotateWhen(const char* text) : RotateWhen{std::string_view{text}} {}  // NOLINT(google-explicit-constructor)
  RotateWhen(const std::string& text)
      : RotateWhen{std::string_view{text}} {}  // NOLINT(google-explicit-constructor)
  template <class Rep, class Period>
  RotateWhen(std::chrono::duration<Rep, Period> interval)  // NOLINT(google-explicit-constructor)
      : kind_{Kind::interval},
        seconds_{checked_interval(std::chrono::duration_cast<std::chrono::seconds>(interval).count())} {}
  template <class F>
    requires std::predicate<F&, const LogRecord&, const FileState&>
  RotateWhen(F predicate)
      : kind_{Kind::predicate}, predicate_{std::move(predicate)} {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::int64_t seconds() const noexcept { return seconds_; }  ///< interval, or since midnight
  [[nodiscard]] int weekday() const noexcept { return weekday_; }           ///< 0: sunday
  [[nodiscard]] const Predicate& predicate() const noexcept { return predicate_; }

 private:
  static std::int64_t checked_interval(std::int64_t seconds);

  Kind kind_;
  int weekday_ = 0;
  std::uint64_t bytes_ = 0;
  std::int64_t seconds_ = 0;
  Predicate predicate_;
};

/// A file that rotation has put aside.
struct RotatedFile {
  std::string path;
  std::uint64_t bytes = 0;
  std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>
      rotated{};  ///< as its name says
};

/// One limit to the rotated files that are kept. Implicit from each of a count (7), an age ("10 days", a
/// `std::chrono` duration), a total size ("2 GB": the rotated files together, as they are on disk), or a
/// function that is shown them, oldest first, and returns those to remove. Errors: `UsageError` as
/// `RotateWhen`.
class RetainLimit {
 public:
  using Chooser = std::function<std::vector<RotatedFile>(const std::vector<RotatedFile>&)>;
  enum class Kind : unsigned char { count, age, bytes, chooser };

  RetainLimit(std::string_view text);  // NOLINT(google-explicit-constructor)
  RetainLimit(const char* text)
      : RetainLimit{std::string_view{text}} {}  // NOLINT(google-explicit-constructor)
  RetainLimit(const std::string& text)
      : RetainLimit{std::string_view{text}} {}  // NOLINT(google-explicit-constructor)
  template <std::integral N>
  RetainLimit(N count)
      : kind_{Kind::count},
        amount_{checked(static_cast<std::int64_t>(count))} {}  // NOLINT(google-explicit-constructor)
  template <class Rep, class Period>
  RetainLimit(std::chrono::duration<Rep, Period> age)  // NOLINT(google-explicit-constructor)
      : kind_{Kind::age}, amount_{checked(std::chrono::duration_cast<std::chrono::seconds>(age).count())} {}
  template <class F>
    requires std::invocable<F&, const std::vector<RotatedFile>&>
  RetainLimit(F chooser)
      : kind_{Kind::chooser}, chooser_{std::move(chooser)} {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] std::uint64_t amount() const noexcept { return amount_; }  ///< files, seconds or bytes
  [[nodiscard]] const Chooser& chooser() const noexcept { return chooser_; }

 private:
  static std::uint64_t checked(std::int64_t amount);

  Kind kind_;
  std::uint64_t amount_ = 0;
  Chooser chooser_;
};

/// A list of `Item`s that is also made from a single one: `.rotate = "100 MB"` and `.rotate = {"100 MB",
/// "00:00"}`.
template <class Item>
class AnyOf {
 public:
  AnyOf() = default;
  AnyOf(std::initializer_list<Item> items) : items_{items} {}
  template <class T>
    requires(std::convertible_to<T, Item> && !std::same_as<std::remove_cvref_t<T>, AnyOf>)
  AnyOf(T&& item) {
    items_.emplace_back(std::forward<T>(item));
  }  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool empty() const noexcept { return items_.empty(); }
  [[nodiscard]] auto begin() const noexcept { return items_.begin(); }
  [[nodiscard]] auto end() const noexcept { return items_.end(); }

 private:
  std::vector<Item> items_;
};

/// How rotated files are packed. Done by a thread of low priority, never by the one that writes the log.
enum class Compression : unsigned char { none, gz, zst };

/// How `sinks::file` and `sinks::json` treat their file.
///
///     pool.logger().add_sink(kindred::sinks::file("app.log", {.rotate = {"100 MB", "00:00"}, .retention =
///     {10, "30 days"},
///                                                             .compression = kindred::Compression::zst}));
///
/// A rotated file is called after the moment of its rotation, in UTC: `app.20260726T140311.482913Z.log`
/// (`.gz`, `.zst`). Only files so named are ever compressed or removed. Where the path has `{time}` in its
/// last part, `app.{time}.log`, each file is so named from its begin, and rotation begins the next one; so
/// does each start of the program. `link` keeps one name for the file that is written now.
///
/// The path is made absolute when the file is opened first: the program may change its directory.
/// "/dev/stdout", "/dev/stderr" and "/dev/fd/N" mean what is open there; that is never rotated.
///
/// Opening refuses, with a clear error, a symbolic link, a file with further hard links, a FIFO, a socket and
/// a directory in the file's place: nobody who may write to the directory can lead the log elsewhere. The
/// directories on the way are followed as they are, links included, so they must be trusted; those that are
/// missing are made (0777 less the umask). A character device
/// (/dev/null) is taken as it is, and never rotated.
///
/// Nothing is locked: two processes that rotate one file disturb each other. Give each its own. Other
/// programs may append to the file (O_APPEND) or cut it (logrotate's copytruncate): its size is asked of the
/// kernel, and nothing is cut that is not ours.
///
/// A clock that is wrong for a while does not upset names and ages: a stamp that is more than a day ahead of
/// the clock is not continued, and such a file's age goes by its last write.
///
/// On a full disk the sink keeps what its buffer holds, counts each record that it cannot keep, tells stderr
/// once a second, and goes on by itself when there is room, with a record in the log that says how many are
/// missing. Lines stay whole.
///
/// Errors (at `add_sink`): `UsageError`, `SystemError`.
struct FileOptions {
  AnyOf<RotateWhen> rotate{};  ///< any of them begins a new file
  AnyOf<RetainLimit>
      retention{};  ///< what exceeds any of them is removed, oldest first; after a rotation and at the start
  Compression compression = Compression::none;
  bool truncate = false;  ///< begin empty; otherwise append
  bool delay = false;     ///< open (and make) the file at the first record only
  bool watch =
      false;  ///< look once a second whether the file was moved away or removed (logrotate), and make it anew
  std::string link{};  ///< a symbolic link that is kept leading to the file that is written now; none: empty
  unsigned mode = 0640;  ///< permissions of a new file, less the umask
  /// Lines are written when so many bytes came together, and at every `flush()`; 4 KiB ... 64 MiB. While they
  /// come without a pause, four times as many are written at once, but no more than 512 KiB beyond these; and
  /// while a write goes on, up to 1 MiB more may wait.
  std::size_t buffer_bytes = 128 * 1024;
};

}  // namespace kindred
