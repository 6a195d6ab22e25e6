#include "kindred/internal/rotation.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <utility>

#include "kindred/error.hpp"

namespace kindred {
namespace {

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::string lower(std::string_view text) {
  std::string result{text};
  for (auto& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

/// Takes a number off the front; nothing where there is none.
std::optional<double> take_number(std::string_view& text) {
  double number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc{} || !(number >= 0) || number > 1e18) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
  return number;
}

/// "00:00", "18:30:15": seconds since midnight.
std::optional<std::int64_t> parse_time_of_day(std::string_view text) {
  std::array<int, 3> parts{};
  std::size_t count = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (count < 3) {
    const auto read = std::from_chars(at, end, parts[count]);
    if (read.ec != std::errc{} || read.ptr - at > 2 || parts[count] < 0) return std::nullopt;
    ++count;
    at = read.ptr;
    if (at == end) break;
    if (*at != ':') return std::nullopt;
    ++at;
  }
  if (at != end || count < 2 || parts[0] > 23 || parts[1] > 59 || parts[2] > 59) return std::nullopt;
  return std::int64_t{parts[0]} * 3600 + parts[1] * 60 + parts[2];
}

std::optional<int> parse_weekday(std::string_view text) {
  constexpr std::array<std::string_view, 7> days{"sunday",   "monday", "tuesday", "wednesday",
                                                 "thursday", "friday", "saturday"};
  const auto* const found = std::ranges::find(days, text);
  if (found == days.end()) return std::nullopt;
  return static_cast<int>(found - days.begin());
}

}  // namespace

namespace internal {

std::optional<std::int64_t> parse_duration(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::int64_t>, 24> units{{{"s", 1},
                                                                             {"sec", 1},
                                                                             {"secs", 1},
                                                                             {"second", 1},
                                                                             {"seconds", 1},
                                                                             {"min", 60},
                                                                             {"mins", 60},
                                                                             {"minute", 60},
                                                                             {"minutes", 60},
                                                                             {"h", 3600},
                                                                             {"hour", 3600},
                                                                             {"hours", 3600},
                                                                             {"d", 86400},
                                                                             {"day", 86400},
                                                                             {"days", 86400},
                                                                             {"w", 604800},
                                                                             {"week", 604800},
                                                                             {"weeks", 604800},
                                                                             {"month", 30 * 86400},
                                                                             {"months", 30 * 86400},
                                                                             {"y", 365 * 86400},
                                                                             {"year", 365 * 86400},
                                                                             {"years", 365 * 86400},
                                                                             {"m", 60}}};
  const std::string small = lower(trim(text));
  std::string_view rest = small;
  if (rest.empty()) return std::nullopt;
  double seconds = 0;
  while (!(rest = trim(rest)).empty()) {
    if (rest.front() == ',') {
      rest.remove_prefix(1);
      continue;
    }
    const auto number = take_number(rest);
    if (!number) return std::nullopt;
    rest = trim(rest);
    const auto word = rest.substr(0, rest.find_first_not_of("abcdefghijklmnopqrstuvwxyz"));
    const auto* const unit =
        std::ranges::find(units, word, &std::pair<std::string_view, std::int64_t>::first);
    if (unit == units.end()) return std::nullopt;
    seconds += *number * static_cast<double>(unit->second);
    rest.remove_prefix(word.size());
  }
  if (seconds < 1 || seconds > 1e11) return std::nullopt;
  return static_cast<std::int64_t>(seconds);
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  std::string_view rest = trim(text);
  const auto number = take_number(rest);
  rest = trim(rest);
  if (!number || rest.empty() || rest.back() != 'B') return std::nullopt;
  rest.remove_suffix(1);
  double factor = 1;
  if (!rest.empty()) {
    const bool binary = rest.back() == 'i';
    if (binary) rest.remove_suffix(1);
    constexpr std::string_view prefixes = "kmgt";
    const std::string prefix = lower(rest);
    const auto power = prefix.size() == 1 ? prefixes.find(prefix) : std::string_view::npos;
    if (power == std::string_view::npos) return std::nullopt;
    for (std::size_t i = 0; i <= power; ++i) factor *= binary ? 1024 : 1000;
  }
  const double bytes = *number * factor;
  if (bytes < 1 || bytes > 1e18) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

FileTime next_turn(const RotateWhen& trigger, FileTime from) {
  using Kind = RotateWhen::Kind;
  if (trigger.kind() == Kind::size || trigger.kind() == Kind::predicate) return FileTime::max();
  if (trigger.kind() == Kind::interval) return from + std::chrono::seconds{trigger.seconds()};
  const auto clock =
      static_cast<std::time_t>(std::chrono::floor<std::chrono::seconds>(from).time_since_epoch().count());
  std::tm time{};
  ::localtime_r(&clock, &time);
  if (trigger.kind() == Kind::hour) {
    // Full hours are those of the time zone, which may differ from UTC by half an hour. They are counted in
    // seconds and not by the calendar, so a change to or from summer time makes no hour longer.
    return std::chrono::floor<std::chrono::seconds>(from) +
           std::chrono::seconds{3600 - (time.tm_min * 60 + time.tm_sec)};
  }
  // The calendar days from that day on that can be it; mktime puts a day beyond the month's end right, and a
  // time that daylight saving leaves out.
  for (int ahead = 0; ahead <= 400; ++ahead) {
    std::tm candidate{};
    candidate.tm_year = time.tm_year;
    candidate.tm_mon = time.tm_mon;
    candidate.tm_mday = time.tm_mday + ahead;
    candidate.tm_hour = static_cast<int>(trigger.seconds() / 3600);
    candidate.tm_min = static_cast<int>(trigger.seconds() / 60 % 60);
    candidate.tm_sec = static_cast<int>(trigger.seconds() % 60);
    candidate.tm_isdst = -1;
    const auto turn = FileTime{std::chrono::seconds{std::mktime(&candidate)}};
    if (turn <= from) continue;
    if (trigger.kind() == Kind::weekday && candidate.tm_wday != trigger.weekday()) continue;
    if (trigger.kind() == Kind::month && candidate.tm_mday != 1) continue;
    if (trigger.kind() == Kind::year && candidate.tm_yday != 0) continue;
    return turn;
  }
  return FileTime::max();
}

void RotationSchedule::begin(FileTime opened) {
  if (hangups_ != nullptr) hangups_seen_ = hangups_->load(std::memory_order_relaxed);
  next_ = FileTime::max();
  for (const auto& trigger : triggers_) next_ = std::min(next_, next_turn(trigger, opened));
}

RotationSchedule::RotationSchedule(AnyOf<RotateWhen> triggers) : triggers_{std::move(triggers)} {
  for (const auto& trigger : triggers_) {
    if (trigger.kind() == RotateWhen::Kind::hangup) hangups_ = &watch_hangups();
  }
}

bool RotationSchedule::too_large(std::uint64_t line_bytes, const FileState& file) const noexcept {
  for (const auto& trigger : triggers_) {
    if (trigger.kind() == RotateWhen::Kind::size && file.bytes != 0 &&
        file.bytes + line_bytes > trigger.bytes())
      return true;
  }
  return false;
}

bool RotationSchedule::asks() const noexcept {
  return std::ranges::any_of(
      triggers_, [](const RotateWhen& trigger) { return trigger.kind() == RotateWhen::Kind::predicate; });
}

bool RotationSchedule::due(const LogRecord& record, std::uint64_t line_bytes, const FileState& file,
                           FileTime (*now)()) const {
  if (record.time >= next_ && now() >= next_) return true;
  if (hangups_ != nullptr && hangups_->load(std::memory_order_relaxed) != hangups_seen_) return true;
  for (const auto& trigger : triggers_) {
    if (trigger.kind() == RotateWhen::Kind::predicate && trigger.predicate()(record, file)) return true;
  }
  return too_large(line_bytes, file);
}

}  // namespace internal

RotateWhen::RotateWhen(std::string_view text) : kind_{Kind::size} {
  const std::string word = lower(trim(text));
  if (const auto size = internal::parse_size(text)) {
    bytes_ = *size;
    return;
  }
  if (const auto time = parse_time_of_day(word)) {
    kind_ = Kind::time_of_day;
    seconds_ = *time;
    return;
  }
  if (const auto interval = internal::parse_duration(text)) {
    kind_ = Kind::interval;
    seconds_ = *interval;
    return;
  }
  if (word == "hourly") {
    kind_ = Kind::hour;
    return;
  }
  if (word == "daily") {
    kind_ = Kind::time_of_day;
    return;
  }
  if (word == "weekly") {
    kind_ = Kind::weekday;
    weekday_ = 1;
    return;
  }
  if (word == "monthly") {
    kind_ = Kind::month;
    return;
  }
  if (word == "yearly") {
    kind_ = Kind::year;
    return;
  }
  if (word == "sighup") {
    kind_ = Kind::hangup;
    return;
  }
  const auto at = word.find(" at ");
  const auto day = parse_weekday(trim(std::string_view{word}.substr(0, at)));
  const auto time = at == std::string::npos ? std::optional<std::int64_t>{0}
                                            : parse_time_of_day(trim(std::string_view{word}.substr(at + 4)));
  if (day && time) {
    kind_ = Kind::weekday;
    weekday_ = *day;
    seconds_ = *time;
    return;
  }
  throw UsageError{
      "FileOptions::rotate does not understand '" + std::string{text} +
      "'. Examples: \"100 MB\", \"0.5 GiB\" (a size), \"00:00\", \"18:30\" (a time of day), \"monday\", \"sunday at 12:00\", "
      "\"hourly\", \"daily\", \"weekly\", \"monthly\", \"1 week\", \"1 h 30 min\" (an interval of at least a second), \"SIGHUP\", or a function."};
}

std::int64_t RotateWhen::checked_interval(std::int64_t seconds) {
  if (seconds < 1)
    throw UsageError{"FileOptions::rotate: an interval of " + std::to_string(seconds) +
                     " s is too short. Give at least one second."};
  return seconds;
}

RetainLimit::RetainLimit(std::string_view text) : kind_{Kind::count} {
  if (const auto size = internal::parse_size(text)) {
    kind_ = Kind::bytes;
    amount_ = *size;
    return;
  }
  if (const auto age = internal::parse_duration(text)) {
    kind_ = Kind::age;
    amount_ = static_cast<std::uint64_t>(*age);
    return;
  }
  const auto number = trim(text);
  const auto read = std::from_chars(number.data(), number.data() + number.size(), amount_);
  if (!number.empty() && read.ec == std::errc{} && read.ptr == number.data() + number.size()) return;
  throw UsageError{
      "FileOptions::retention does not understand '" + std::string{text} +
      "'. Examples: 10 (files), \"10 days\", \"3 months\" (an age), \"2 GB\" (all together), or a function."};
}

std::uint64_t RetainLimit::checked(std::int64_t amount) {
  if (amount < 0)
    throw UsageError{"FileOptions::retention: " + std::to_string(amount) +
                     " is negative. Give a count or an age, 0 to keep none."};
  return static_cast<std::uint64_t>(amount);
}

}  // namespace kindred
