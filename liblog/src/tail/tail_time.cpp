#include "tail/tail_time.hpp"

#include <charconv>
#include <ctime>
#include <string>

#include "kindred/internal/record_reader.hpp"
#include "kindred/internal/rotation.hpp"

namespace kindred::internal {
namespace {

constexpr std::int64_t second = 1'000'000'000;

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::tm local_day_of(std::int64_t now, int days_before) {
  const auto clock = static_cast<std::time_t>(now / second);
  std::tm day{};
  ::localtime_r(&clock, &day);
  day.tm_hour = day.tm_min = day.tm_sec = 0;
  day.tm_mday -= days_before;
  day.tm_isdst = -1;
  return day;
}

std::optional<std::int64_t> to_epoch(std::tm& local) {
  const auto clock = std::mktime(&local);
  if (clock == -1) return std::nullopt;
  return std::int64_t{clock} * second;
}

/// Takes a number of exactly `digits` digits, up to `most`, off the front.
bool take_digits(std::string_view& text, std::size_t digits, int most, int& number) {
  if (text.size() < digits) return false;
  const auto read = std::from_chars(text.data(), text.data() + digits, number);
  if (read.ec != std::errc{} || read.ptr != text.data() + digits || number < 0 || number > most) return false;
  text.remove_prefix(digits);
  return true;
}

bool take_sign(std::string_view& text, char sign) {
  if (!text.starts_with(sign)) return false;
  text.remove_prefix(1);
  return true;
}

/// "14:03", "14:03:11", "14:03:11.25": into `day`, and the fraction.
bool take_time_of_day(std::string_view text, std::tm& day, std::int64_t& fraction) {
  if (!take_digits(text, 2, 23, day.tm_hour) || !take_sign(text, ':') ||
      !take_digits(text, 2, 59, day.tm_min))
    return false;
  if (take_sign(text, ':') && !take_digits(text, 2, 59, day.tm_sec)) return false;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    if (text.empty() || text.size() > 9) return false;
    std::int64_t unit = second / 10;
    for (const char c : text) {
      if (c < '0' || c > '9') return false;
      fraction += (c - '0') * unit;
      unit /= 10;
    }
    text = {};
  }
  return text.empty();
}

std::optional<std::int64_t> parse_date(std::string_view text) {
  std::tm day{};
  day.tm_isdst = -1;
  if (!take_digits(text, 4, 9999, day.tm_year) || !take_sign(text, '-') ||
      !take_digits(text, 2, 12, day.tm_mon) || !take_sign(text, '-') ||
      !take_digits(text, 2, 31, day.tm_mday))
    return std::nullopt;
  day.tm_year -= 1900;
  day.tm_mon -= 1;
  std::int64_t fraction = 0;
  if (!text.empty()) {
    if (text.front() != ' ' && text.front() != 'T') return std::nullopt;
    text.remove_prefix(1);
    if (!take_time_of_day(text, day, fraction)) return std::nullopt;
  }
  const auto time = to_epoch(day);
  if (!time) return std::nullopt;
  return *time + fraction;
}

}  // namespace

std::optional<std::int64_t> parse_moment(std::string_view text, std::int64_t now) {
  text = trim(text);
  if (text == "now") return now;
  if (text == "today" || text == "yesterday") {
    auto day = local_day_of(now, text == "today" ? 0 : 1);
    return to_epoch(day);
  }
  if (text.starts_with('@')) {
    std::int64_t seconds = 0;
    const auto read = std::from_chars(text.data() + 1, text.data() + text.size(), seconds);
    if (read.ec != std::errc{} || read.ptr != text.data() + text.size() || seconds < 0 ||
        seconds > INT64_MAX / second)
      return std::nullopt;
    return seconds * second;
  }
  std::string_view length = text;
  if (length.starts_with('-')) length.remove_prefix(1);
  if (length.ends_with(" ago")) length.remove_suffix(4);
  if (const auto seconds = parse_duration(trim(length))) {
    if (*seconds > now / second) return 0;
    return now - *seconds * second;
  }
  if (const auto date = parse_date(text)) return date;
  // As our own lines have it, with a zone.
  std::string_view rest = text;
  std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds> exact;
  if (take_time(rest, exact) && rest.empty()) return exact.time_since_epoch().count();
  auto day = local_day_of(now, 0);
  std::int64_t fraction = 0;
  if (!take_time_of_day(text, day, fraction)) return std::nullopt;
  const auto time = to_epoch(day);
  if (!time) return std::nullopt;
  return *time + fraction;
}

}  // namespace kindred::internal
