#pragma once

#include <chrono>
#include <concepts>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kindred/log_record.hpp"

namespace kindred {

/// Which records a sink takes, beside its level: a predicate, or levels by logger name.
///
///     {.filter = [](const kindred::LogRecord& r) { return r.worker == 2; }}
///     {.filter = {{"net", kindred::Level::warn}, {"net.http", kindred::Level::debug}}}
///
/// A name in the second form stands for the logger of that name and for those that continue it after `.`, `/`
/// or `:` ("net" for "net.http", not for "network"); the longest one that fits counts; "" fits all. A logger
/// that none fits passes. Threads: one thread at a time (the collector's). Fork: parent only.
class LogFilter {
 public:
  LogFilter() = default;  ///< takes every record
  template <class F>
    requires std::predicate<F&, const LogRecord&>
  LogFilter(F accept) : predicate_{std::move(accept)} {}  // NOLINT(google-explicit-constructor)
  LogFilter(std::initializer_list<std::pair<std::string_view, Level>> levels) {
    for (const auto& [name, level] : levels) levels_.emplace_back(name, level);
  }
  /// Takes any map (or list of pairs) from name to `Level`.
  template <class Map>
    requires requires(const Map& map) {
      { map.begin()->first } -> std::convertible_to<std::string_view>;
      { map.begin()->second } -> std::convertible_to<Level>;
    }
  LogFilter(const Map& levels) {  // NOLINT(google-explicit-constructor)
    for (const auto& [name, level] : levels) levels_.emplace_back(std::string_view{name}, level);
  }

  [[nodiscard]] bool accepts(const LogRecord& record) const;
  [[nodiscard]] bool empty() const noexcept { return !predicate_ && levels_.empty(); }

 private:
  std::function<bool(const LogRecord&)> predicate_;
  std::vector<std::pair<std::string, Level>> levels_;
};

/// Does `prefix` name the logger `name` or one above it? "net" does for "net", "net.http", "net/http",
/// "net::http"; "" does for all.
[[nodiscard]] bool logger_is_below(std::string_view name, std::string_view prefix) noexcept;

/// When a sink colours its output.
enum class Color : unsigned char {
  automatic,  ///< where the sink is a terminal that can; NO_COLOR and FORCE_COLOR overrule it
  always,
  never
};

/// How one sink sees the log. Give it to `add_sink`. Checked there. Errors: `UsageError` for a pattern that
/// has no meaning.
struct SinkOptions {
  /// Records below are not for this sink. What the loggers' own levels hold back never arrives at all.
  Level level = Level::trace;
  /// spdlog's pattern flags and ours (see `sinks.hpp`). Empty: the sink's default. In `sinks::json` it makes
  /// the member "text"; callbacks have no use for it.
  std::string pattern{};
  LogFilter filter{};
  /// After a record of this level or above the sink is flushed at once, not at the next pause (a tenth of a
  /// second at most). `off`: never. `LogOptions::flush_on` also makes the log call wait for it.
  Level flush_on = Level::off;
  /// For at most this time, records that repeat the one before (level, logger, message, fields) are held back
  /// and counted. Then the last of them is written, with a field `repeated`. 0: each is written.
  std::chrono::milliseconds fold{0};
  Color color = Color::automatic;
  /// Colours by level name, before those that `define_level` gave custom levels: {{"audit", "bold magenta"},
  /// {"info", "green"}}. Words: black, red, green, yellow, blue, magenta, cyan, white, their "bright " forms,
  /// with "bold", "dim", "underline", "reverse", "on " before a background.
  std::vector<std::pair<std::string, std::string>> colors{};

  /// Does the record pass level and filter? Threads: one thread at a time. May throw what a predicate of the
  /// user's throws.
  [[nodiscard]] bool accepts(const LogRecord& record) const {
    return record.level >= level && (filter.empty() || filter.accepts(record));
  }
};

}  // namespace kindred
