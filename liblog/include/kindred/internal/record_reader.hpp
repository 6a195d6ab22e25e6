#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/pattern.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

/// Turns a line that a sink wrote back into the record. The line may be anything: what is no such line is
/// refused, never guessed at. One thread at a time.
class RecordReader {
 public:
  RecordReader() = default;
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;
  virtual ~RecordReader() = default;
  /// Fills `record`, which is fresh. False: the line is no record; `record` may hold anything then.
  [[nodiscard]] virtual bool read(std::string_view line, LogRecord& record) = 0;
};

/// Reads what a text sink with this pattern (empty: the default one) wrote. Errors: `UsageError` for a
/// pattern whose lines cannot be taken apart again: parts that touch each other, or something behind the
/// message.
[[nodiscard]] std::unique_ptr<RecordReader> make_text_reader(std::string_view pattern);
/// Reads what `sinks::json` wrote, and what Loguru writes with `serialize=True`.
[[nodiscard]] std::unique_ptr<RecordReader> make_json_reader();

/// Takes a field `key=value` off the front of `text`, as the fields of a text line have it. False: there is
/// none.
[[nodiscard]] bool take_field(std::string_view& text, Field& field);
/// Takes a time off the front, "2026-07-26T14:03:11.482913742+02:00" (or with a blank, fewer digits, and Z).
/// False: there is none.
[[nodiscard]] bool take_time(
    std::string_view& text,
    std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>& time);
/// Returns the same text, kept as long as the program lives: for the strings of a `SourceLocation`.
[[nodiscard]] std::string_view intern(std::string_view text);

}  // namespace kindred::internal
