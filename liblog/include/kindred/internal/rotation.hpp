#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kindred/file_options.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/last_words.hpp"

namespace kindred::internal {

/// When a file is full: the triggers of `FileOptions::rotate`, with the next turn of those that go by the
/// clock. One thread at a time.
class RotationSchedule {
 public:
  explicit RotationSchedule(AnyOf<RotateWhen> triggers);
  [[nodiscard]] bool empty() const noexcept { return triggers_.empty(); }
  /// A file was begun at that time.
  void begin(FileTime opened);
  /// Is there a predicate, which is to see each record?
  [[nodiscard]] bool asks() const noexcept;
  /// Is another file due before `record`, whose line takes `line_bytes`? A time trigger goes by the record's
  /// time, but never before the clock agrees: one record with a wrong time must not upset the schedule.
  /// Would the line make the file larger than a trigger allows?
  [[nodiscard]] bool too_large(std::uint64_t line_bytes, const FileState& file) const noexcept;
  [[nodiscard]] bool due(const LogRecord& record, std::uint64_t line_bytes, const FileState& file,
                         FileTime (*now)()) const;

 private:
  AnyOf<RotateWhen> triggers_;
  FileTime next_ = FileTime::max();
  const std::atomic<std::uint64_t>* hangups_ = nullptr;  ///< counted, where SIGHUP is a trigger
  std::uint64_t hangups_seen_ = 0;
};

/// The next turn of a time trigger strictly after `from`; `FileTime::max()` for other triggers. Local time,
/// daylight saving followed.
[[nodiscard]] FileTime next_turn(const RotateWhen& trigger, FileTime from);

/// Reads "1 week", "1 h 30 min" as seconds, "100 MB" as bytes; nothing where it is something else.
[[nodiscard]] std::optional<std::int64_t> parse_duration(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);

}  // namespace kindred::internal
