#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string_view>

#include "kindred/log_record.hpp"

namespace kindred::internal {

/// What a line says of its time, piece by piece.
struct TimePieces {
  std::tm local{};
  std::int64_t nanosecond = 0;
  std::optional<int> zone_minutes;
  std::optional<std::int64_t> epoch;
  std::optional<bool> afternoon;
};

/// Takes a piece from the front of `text`. False: it is not there.
using TakeTimePiece = bool (*)(std::string_view& text, TimePieces& pieces);
/// How the piece that a flag of a pattern writes is read; null: it cannot be.
[[nodiscard]] TakeTimePiece time_piece_of(char flag) noexcept;

using RecordTime = decltype(LogRecord::time);

/// Puts the pieces of lines together, one line after the other.
class TimeReader {
 public:
  /// False: there is no such time.
  [[nodiscard]] bool settle(TimePieces& pieces, RecordTime& time);

 private:
  std::int64_t known_minute_ = INT64_MIN;
  std::int64_t known_offset_ = 0;
};

}  // namespace kindred::internal
