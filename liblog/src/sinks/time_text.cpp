#include "sinks/time_text.hpp"

#include <chrono>

#include "kindred/internal/record_reader.hpp"
#include "sinks/text_scan.hpp"

namespace kindred::internal {
namespace {

bool take_two(std::string_view& text, int& number) noexcept { return take_digits(text, 2, number); }

template <std::size_t digits, int base>
bool take_year(std::string_view& text, TimePieces& pieces) noexcept {
  int value = 0;
  if (!take_digits(text, digits, value)) return false;
  pieces.local.tm_year = value + base;
  return true;
}

template <auto member>
bool take_two_of(std::string_view& text, TimePieces& pieces) noexcept {
  return take_two(text, pieces.local.*member);
}

bool take_month(std::string_view& text, TimePieces& pieces) noexcept {
  if (!take_two(text, pieces.local.tm_mon)) return false;
  --pieces.local.tm_mon;
  return true;
}

std::string_view take_letters(std::string_view& text) noexcept {
  std::size_t size = 0;
  while (size < text.size() &&
         ((text[size] >= 'A' && text[size] <= 'Z') || (text[size] >= 'a' && text[size] <= 'z')))
    ++size;
  const auto letters = text.substr(0, size);
  text.remove_prefix(size);
  return letters;
}

bool take_weekday(std::string_view& text, TimePieces&) noexcept { return !take_letters(text).empty(); }

bool take_month_name(std::string_view& text, TimePieces& pieces) noexcept {
  constexpr std::string_view short_names = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const auto letters = take_letters(text);
  const auto at = letters.size() < 3 ? std::string_view::npos : short_names.find(letters.substr(0, 3));
  if (at == std::string_view::npos || at % 3 != 0) return false;
  pieces.local.tm_mon = static_cast<int>(at / 3);
  return true;
}

bool take_half(std::string_view& text, TimePieces& pieces) noexcept {
  const auto letters = take_letters(text);
  pieces.afternoon = letters == "PM";
  return letters == "AM" || letters == "PM";
}

bool take_hour_and_minute(std::string_view& text, TimePieces& pieces) noexcept {
  return take_two(text, pieces.local.tm_hour) && take(text, ":") && take_two(text, pieces.local.tm_min);
}

bool take_clock(std::string_view& text, TimePieces& pieces) noexcept {
  return take_hour_and_minute(text, pieces) && take(text, ":") && take_two(text, pieces.local.tm_sec);
}

bool take_clock_and_half(std::string_view& text, TimePieces& pieces) noexcept {
  return take_clock(text, pieces) && take(text, " ") && take_half(text, pieces);
}

bool take_american_date(std::string_view& text, TimePieces& pieces) noexcept {
  return take_month(text, pieces) && take(text, "/") && take_two(text, pieces.local.tm_mday) &&
         take(text, "/") && take_year<2, 100>(text, pieces);
}

bool take_date_and_clock(std::string_view& text, TimePieces& pieces) noexcept {
  return take_weekday(text, pieces) && take(text, " ") && take_month_name(text, pieces) && take(text, " ") &&
         take_number(text, pieces.local.tm_mday) && take(text, " ") && take_clock(text, pieces) &&
         take(text, " ") && take_year<4, -1900>(text, pieces);
}

bool take_zone(std::string_view& text, TimePieces& pieces) noexcept {
  const bool west = text.starts_with('-');
  int hours = 0;
  int minutes = 0;
  if (!(take(text, "+") || take(text, "-")) || !take_two(text, hours) || !take(text, ":") ||
      !take_two(text, minutes))
    return false;
  pieces.zone_minutes = (west ? -1 : 1) * (hours * 60 + minutes);
  return true;
}

/// Seconds since the epoch of a date and time of day, taken as UTC. Nothing where there is no such time.
std::optional<std::int64_t> seconds_of(const std::tm& time) noexcept {
  const std::chrono::year_month_day date{std::chrono::year{time.tm_year + 1900},
                                         std::chrono::month{static_cast<unsigned>(time.tm_mon + 1)},
                                         std::chrono::day{static_cast<unsigned>(time.tm_mday)}};
  if (!date.ok() || time.tm_hour < 0 || time.tm_hour > 23 || time.tm_min < 0 || time.tm_min > 59 ||
      time.tm_sec < 0 || time.tm_sec > 60)
    return std::nullopt;
  return std::int64_t{std::chrono::sys_days{date}.time_since_epoch().count()} * 86400 + time.tm_hour * 3600 +
         time.tm_min * 60 + time.tm_sec;
}

RecordTime to_record_time(std::int64_t seconds, std::int64_t nanosecond) noexcept {
  return RecordTime{std::chrono::nanoseconds{seconds * 1'000'000'000 + nanosecond}};
}
/// What nanoseconds can count: the years 1678 to 2261.
bool is_in_range(std::int64_t seconds) noexcept {
  return seconds > -9'223'000'000 && seconds < 9'223'000'000;
}

}  // namespace

TakeTimePiece time_piece_of(char flag) noexcept {
  struct Row {
    std::string_view flags;
    TakeTimePiece take;
  };
  static constexpr Row rows[] = {
      {"aA", take_weekday},
      {"bhB", take_month_name},
      {"c", take_date_and_clock},
      {"C", take_year<2, 100>},
      {"Y", take_year<4, -1900>},
      {"Dx", take_american_date},
      {"m", take_month},
      {"d", take_two_of<&std::tm::tm_mday>},
      {"HI", take_two_of<&std::tm::tm_hour>},
      {"M", take_two_of<&std::tm::tm_min>},
      {"S", take_two_of<&std::tm::tm_sec>},
      {"p", take_half},
      {"R", take_hour_and_minute},
      {"r", take_clock_and_half},
      {"TX", take_clock},
      {"z", take_zone},
  };
  for (const Row& row : rows) {
    if (row.flags.find(flag) != std::string_view::npos) return row.take;
  }
  return nullptr;
}

bool TimeReader::settle(TimePieces& pieces, RecordTime& time) {
  if (pieces.epoch) {
    if (!is_in_range(*pieces.epoch)) return false;
    time = to_record_time(*pieces.epoch, pieces.nanosecond);
    return true;
  }
  if (pieces.afternoon) pieces.local.tm_hour = pieces.local.tm_hour % 12 + (*pieces.afternoon ? 12 : 0);
  const auto seconds = seconds_of(pieces.local);
  if (!seconds || !is_in_range(*seconds)) return false;
  if (pieces.zone_minutes) {
    time = to_record_time(*seconds - *pieces.zone_minutes * 60, pieces.nanosecond);
    return true;
  }
  // Local time without its offset: the zone's rules say which it was, and cannot in the hour that comes
  // twice. Asked once a minute.
  if (*seconds / 60 != known_minute_) {
    std::tm local = pieces.local;
    local.tm_isdst = -1;
    local.tm_sec = 0;
    known_offset_ = *seconds - pieces.local.tm_sec - static_cast<std::int64_t>(std::mktime(&local));
    known_minute_ = *seconds / 60;
  }
  time = to_record_time(*seconds - known_offset_, pieces.nanosecond);
  return true;
}

bool take_time(std::string_view& text, RecordTime& time) {
  TimePieces pieces;
  if (!take_year<4, -1900>(text, pieces) || !take(text, "-") || !take_month(text, pieces) ||
      !take(text, "-") || !take_two(text, pieces.local.tm_mday))
    return false;
  if (!(take(text, "T") || take(text, " ")) || !take_clock(text, pieces)) return false;
  std::int64_t nanosecond = 0;
  if (take(text, ".")) {
    std::int64_t unit = 1'000'000'000;
    while (!text.empty() && is_digit(text.front())) {
      unit /= 10;
      nanosecond += (text.front() - '0') * unit;
      text.remove_prefix(1);
    }
  }
  if (!take(text, "Z") && !take_zone(text, pieces)) return false;
  const auto seconds = seconds_of(pieces.local);
  if (!seconds || !is_in_range(*seconds)) return false;
  time = to_record_time(*seconds - std::int64_t{60} * pieces.zone_minutes.value_or(0), nanosecond);
  return true;
}

}  // namespace kindred::internal
