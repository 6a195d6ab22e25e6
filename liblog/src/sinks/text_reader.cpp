#include <charconv>
#include <ctime>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/record_reader.hpp"

namespace kindred::internal {
namespace {

using Kind = PatternPart::Kind;

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

bool take(std::string_view& text, std::string_view expected) noexcept {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

template <class Number>
bool take_number(std::string_view& text, Number& number) noexcept {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
  return true;
}

/// Takes exactly so many digits.
bool take_digits(std::string_view& text, std::size_t digits, int& number) noexcept {
  if (text.size() < digits) return false;
  int value = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    if (!is_digit(text[i])) return false;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  number = value;
  return true;
}

bool take_quoted(std::string_view& text, std::string& out) {
  if (!take(text, "\"")) return false;
  for (std::size_t end = 0; end < text.size(); ++end) {
    if (text[end] == '\\') {
      ++end;
    } else if (text[end] == '"') {
      if (!append_unescaped(out, text.substr(0, end))) return false;
      text.remove_prefix(end + 1);
      return true;
    }
  }
  return false;
}

std::string_view take_bare(std::string_view& text) noexcept {
  std::size_t end = 0;
  while (end < text.size() && is_token_char(text[end])) ++end;
  const auto bare = text.substr(0, end);
  text.remove_prefix(end);
  return bare;
}

bool take_token(std::string_view& text, std::string& out) {
  if (text.starts_with('"')) return take_quoted(text, out);
  out.append(take_bare(text));
  return true;
}

bool take_value(std::string_view& text, FieldValue& value) {
  if (text.starts_with('"')) {
    std::string quoted;
    if (!take_quoted(text, quoted)) return false;
    value = std::move(quoted);
    return true;
  }
  const std::string_view bare = take_bare(text);
  if (bare.empty()) return false;
  if (bare == "true" || bare == "false") {
    value = bare == "true";
  } else if (bare == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (bare == "inf" || bare == "-inf") {
    value =
        bare == "inf" ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  } else if (is_digit(bare.front()) || bare.front() == '-') {
    std::string_view rest = bare;
    if (bare.find_first_of(".e") != std::string_view::npos) {
      double number = 0;
      if (!take_number(rest, number) || !rest.empty()) return false;
      value = number;
      return true;
    }
    std::int64_t number = 0;
    if (take_number(rest, number)) {
      value = number;
    } else {
      std::uint64_t large = 0;
      if (!take_number(rest, large)) return false;
      value = large;
    }
    return rest.empty();
  } else {
    value = std::string{bare};
  }
  return true;
}

bool take_origin(std::string_view& text, Origin& origin) noexcept {
  for (const auto each : {Origin::log, Origin::stdout, Origin::stderr, Origin::lifecycle, Origin::crash}) {
    if (!take(text, to_string(each))) continue;
    origin = each;
    return true;
  }
  return false;
}

bool take_level(std::string_view& text, LogRecord& record) {
  std::string name;
  if (!take_token(text, name) || name.empty()) return false;
  for (int level = 0; level <= static_cast<int>(Level::off); ++level) {
    if (to_string(static_cast<Level>(level)) != name) continue;
    record.level = static_cast<Level>(level);
    return true;
  }
  if (const auto custom = find_level(name)) record.level = custom->base();
  record.level_name = std::move(name);
  return true;
}

bool take_who(std::string_view& text, LogRecord& record) {
  if (take(text, "w")) {
    if (!take_number(text, record.worker) || record.worker < 0) return false;
    if (take(text, ".") && !take_number(text, record.incarnation)) return false;
  } else if (!take(text, "parent")) {
    return false;
  }
  while (text.size() >= 2 && text.front() == ' ') {
    const char next = text[1];
    if (next == '<') {
      text.remove_prefix(2);
      if (!take_origin(text, record.origin) || !take(text, ">")) return false;
    } else if (next == '!') {
      text.remove_prefix(1);
      if (!take(text, "!late")) return false;
      record.late = true;
    } else if (next == '"' || next == '#' || is_token_char(next)) {
      text.remove_prefix(1);
      std::string name;
      if (!take_token(text, name)) return false;
      if (!take(text, "#")) {
        record.logger = std::move(name);
        continue;
      }
      record.task_name = std::move(name);
      record.attempt = 1;
      if (!take_number(text, record.task_id)) return false;
      if (take(text, "/") && !take_number(text, record.attempt)) return false;
    } else {
      break;
    }
  }
  return true;
}

bool take_fields(std::string_view text, std::vector<Field>& fields) {
  if (!take(text, " {")) return false;
  if (text == "}") return true;
  while (true) {
    if (!take_field(text, fields.emplace_back())) return false;
    if (text == "}") return true;
    if (!take(text, " ")) return false;
  }
}

/// What a pattern says of the time, piece by piece.
struct TimePieces {
  std::tm local{};
  std::int64_t nanosecond = 0;
  std::optional<int> zone_minutes;
  std::optional<std::int64_t> epoch;
  std::optional<bool> afternoon;
};

constexpr std::string_view short_months = "JanFebMarAprMayJunJulAugSepOctNovDec";

bool take_time_piece(char flag, std::string_view& text, TimePieces& pieces) {
  auto& local = pieces.local;
  const auto two = [&](int& target) { return take_digits(text, 2, target); };
  const auto year = [&](std::size_t digits, int base) {
    int value = 0;
    if (!take_digits(text, digits, value)) return false;
    local.tm_year = value + base;
    return true;
  };
  const auto month = [&] {
    if (!two(local.tm_mon)) return false;
    --local.tm_mon;
    return true;
  };
  const auto word = [&] {
    std::size_t size = 0;
    while (size < text.size() &&
           ((text[size] >= 'A' && text[size] <= 'Z') || (text[size] >= 'a' && text[size] <= 'z')))
      ++size;
    const auto letters = text.substr(0, size);
    text.remove_prefix(size);
    return letters;
  };
  const auto month_word = [&] {
    const auto letters = word();
    const auto at = letters.size() < 3 ? std::string_view::npos : short_months.find(letters.substr(0, 3));
    if (at == std::string_view::npos || at % 3 != 0) return false;
    local.tm_mon = static_cast<int>(at / 3);
    return true;
  };
  const auto half = [&] {
    const auto letters = word();
    pieces.afternoon = letters == "PM";
    return letters == "AM" || letters == "PM";
  };
  const auto clock = [&] {
    return two(local.tm_hour) && take(text, ":") && two(local.tm_min) && take(text, ":") && two(local.tm_sec);
  };
  switch (flag) {
    case 'a':
    case 'A': return !word().empty();
    case 'b':
    case 'h':
    case 'B': return month_word();
    case 'c':
      return !word().empty() && take(text, " ") && month_word() && take(text, " ") &&
             take_number(text, local.tm_mday) && take(text, " ") && clock() && take(text, " ") &&
             year(4, -1900);
    case 'C': return year(2, 100);
    case 'Y': return year(4, -1900);
    case 'D':
    case 'x': return month() && take(text, "/") && two(local.tm_mday) && take(text, "/") && year(2, 100);
    case 'm': return month();
    case 'd': return two(local.tm_mday);
    case 'H':
    case 'I': return two(local.tm_hour);
    case 'M': return two(local.tm_min);
    case 'S': return two(local.tm_sec);
    case 'p': return half();
    case 'R': return two(local.tm_hour) && take(text, ":") && two(local.tm_min);
    case 'r': return clock() && take(text, " ") && half();
    case 'T':
    case 'X': return clock();
    case 'z': {
      const bool west = text.starts_with('-');
      int hours = 0;
      int minutes = 0;
      if (!(take(text, "+") || take(text, "-")) || !two(hours) || !take(text, ":") || !two(minutes))
        return false;
      pieces.zone_minutes = (west ? -1 : 1) * (hours * 60 + minutes);
      return true;
    }
    default: return false;
  }
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

using RecordTime = decltype(LogRecord::time);

RecordTime to_record_time(std::int64_t seconds, std::int64_t nanosecond) noexcept {
  return RecordTime{std::chrono::nanoseconds{seconds * 1'000'000'000 + nanosecond}};
}
/// What nanoseconds can count: the years 1678 to 2261.
bool is_in_range(std::int64_t seconds) noexcept {
  return seconds > -9'223'000'000 && seconds < 9'223'000'000;
}

std::string without_colors(std::string_view line) {
  std::string plain;
  while (true) {
    const auto escape = line.find('\x1b');
    plain.append(line.substr(0, escape));
    if (escape == std::string_view::npos) return plain;
    const auto end = line.find('m', escape);
    if (end == std::string_view::npos) return plain;
    line.remove_prefix(end + 1);
  }
}

class TextReader final : public RecordReader {
 public:
  explicit TextReader(std::string_view pattern)
      : parts_{parse_pattern(pattern.empty() ? default_pattern : pattern)} {
    std::erase_if(parts_, [](const PatternPart& part) {
      return part.kind == Kind::color_begin || part.kind == Kind::color_end;
    });
    for (std::size_t i = 0; i + 1 < parts_.size(); ++i) require_border(parts_[i], parts_[i + 1], pattern);
  }

  bool read(std::string_view line, LogRecord& record) override {
    std::string plain;
    if (line.find('\x1b') != std::string_view::npos) line = plain = without_colors(line);
    TimePieces pieces;
    pieces.local.tm_mday = 1;
    pieces.local.tm_year = 70;
    bool with_time = false;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto& part = parts_[i];
      if (part.kind == Kind::message) {
        const bool fields = i + 1 < parts_.size();
        return read_message(line, fields, record) && (!with_time || settle_time(pieces, record));
      }
      if (part.align == PatternPart::Align::right || part.align == PatternPart::Align::center)
        while (line.starts_with(' ')) line.remove_prefix(1);
      if (part.kind == Kind::fields) {
        // Without the message before it, it stands at the end.
        return (line.empty() || take_fields(line, record.fields)) &&
               (!with_time || settle_time(pieces, record));
      }
      with_time |= part.kind == Kind::time || part.kind == Kind::epoch;
      if (!read_part(part, line, pieces, record)) return false;
      if (part.align == PatternPart::Align::left || part.align == PatternPart::Align::center)
        while (line.starts_with(' ')) line.remove_prefix(1);
    }
    return line.empty() && (!with_time || settle_time(pieces, record));
  }

 private:
  /// A part whose length is not fixed must end where something begins that it cannot contain.
  static void require_border(const PatternPart& part, const PatternPart& next, std::string_view pattern) {
    const auto refuse = [&](const std::string& why) {
      throw UsageError{"lines of the pattern '" + std::string{pattern} + "' cannot be taken apart again: " +
                       why + " Write the log with sinks::json, or with a pattern such as the default one, '" +
                       std::string{default_pattern} + "'."};
    };
    const bool literal = next.kind == Kind::literal;
    const char first = literal ? next.text.front() : '\0';
    switch (part.kind) {
      case Kind::literal:
      case Kind::milliseconds:
      case Kind::microseconds:
      case Kind::nanoseconds:
      case Kind::level_letter: return;
      case Kind::time:
        if (std::string_view{"aAbhB"}.find(part.flag) != std::string_view::npos &&
            !(literal && !is_token_char(first)))
          refuse("a name touches what follows it.");
        return;
      case Kind::message:
        if (next.kind != Kind::fields) refuse("only the fields, %V, may follow the message, %v.");
        return;
      case Kind::fields: refuse("nothing may follow the fields, %V."); return;
      case Kind::who:
        if (next.kind != Kind::fields && (!literal || first == ' ' || first == '#' || first == '"' ||
                                          first == '<' || first == '!' || is_token_char(first)))
          refuse("%W must be followed by a character such as ']'.");
        return;
      default:
        if (next.kind != Kind::fields && (!literal || is_token_char(first)))
          refuse("%" + std::string{part.flag} + " touches what follows it.");
    }
  }

  bool read_message(std::string_view rest, bool fields, LogRecord& record) {
    if (fields && rest.ends_with('}')) {
      const auto begin = rest.rfind(" {");
      if (begin != std::string_view::npos) {
        if (!take_fields(rest.substr(begin), record.fields)) return false;
        rest = rest.substr(0, begin);
      }
    }
    return append_unescaped(record.message, rest);
  }

  static bool read_part(const PatternPart& part, std::string_view& line, TimePieces& pieces,
                        LogRecord& record) {
    const auto fraction = [&](std::size_t digits, std::int64_t unit) {
      int value = 0;
      if (!take_digits(line, digits, value)) return false;
      pieces.nanosecond = value * unit;
      return true;
    };
    switch (part.kind) {
      case Kind::literal: return take(line, part.text);
      case Kind::time: return take_time_piece(part.flag, line, pieces);
      case Kind::milliseconds: return fraction(3, 1'000'000);
      case Kind::microseconds: return fraction(6, 1'000);
      case Kind::nanoseconds: return fraction(9, 1);
      case Kind::epoch: {
        std::int64_t seconds = 0;
        if (!take_number(line, seconds)) return false;
        pieces.epoch = seconds;
        return true;
      }
      case Kind::since_nanoseconds:
      case Kind::since_microseconds:
      case Kind::since_milliseconds:
      case Kind::since_seconds: {
        std::uint64_t passed = 0;
        return take_number(line, passed);
      }
      case Kind::level: return take_level(line, record);
      case Kind::level_letter: {
        const auto level =
            line.empty() ? std::string_view::npos : std::string_view{"TDIWECO"}.find(line.front());
        if (level == std::string_view::npos) return false;
        line.remove_prefix(1);
        record.level = static_cast<Level>(level);
        return true;
      }
      case Kind::logger: return take_token(line, record.logger);
      case Kind::field: {
        if (line.empty() || !(line.front() == '"' || is_token_char(line.front()))) return true;
        Field field{part.text, {}};
        if (!take_value(line, field.value)) return false;
        record.fields.push_back(std::move(field));
        return true;
      }
      case Kind::worker: return take(line, "parent") || take_number(line, record.worker);
      case Kind::incarnation: return take_number(line, record.incarnation);
      case Kind::pid: return take_number(line, record.pid);
      case Kind::tid: return take_number(line, record.tid);
      case Kind::task_id: return take_number(line, record.task_id);
      case Kind::task_name: return take_token(line, record.task_name);
      case Kind::attempt: return take_number(line, record.attempt);
      case Kind::sequence: return take_number(line, record.sequence);
      case Kind::origin: return take_origin(line, record.origin);
      case Kind::late: record.late = take(line, "late"); return true;
      case Kind::who: return take_who(line, record);
      case Kind::source: {
        std::string place;
        if (line.starts_with('"')) {
          if (!take_quoted(line, place) || !take(line, ":") || !take_number(line, record.source.line))
            return false;
        } else {
          std::string_view bare = take_bare(line);
          if (bare.empty()) return true;
          const auto colon = bare.rfind(':');
          if (colon == std::string_view::npos) return false;
          std::string_view number = bare.substr(colon + 1);
          if (!take_number(number, record.source.line) || !number.empty()) return false;
          place = bare.substr(0, colon);
        }
        record.source.file = intern(place);
        return true;
      }
      case Kind::source_name:
      case Kind::source_path:
      case Kind::function: {
        std::string name;
        if (!take_token(line, name)) return false;
        (part.kind == Kind::function ? record.source.function : record.source.file) = intern(name);
        return true;
      }
      case Kind::source_line:
        if (line.empty() || !is_digit(line.front())) return true;
        return take_number(line, record.source.line);
      case Kind::message:
      case Kind::fields:
      case Kind::color_begin:
      case Kind::color_end: break;
    }
    return false;
  }

  bool settle_time(TimePieces& pieces, LogRecord& record) {
    if (pieces.epoch) {
      if (!is_in_range(*pieces.epoch)) return false;
      record.time = to_record_time(*pieces.epoch, pieces.nanosecond);
      return true;
    }
    if (pieces.afternoon) pieces.local.tm_hour = pieces.local.tm_hour % 12 + (*pieces.afternoon ? 12 : 0);
    const auto seconds = seconds_of(pieces.local);
    if (!seconds || !is_in_range(*seconds)) return false;
    if (pieces.zone_minutes) {
      record.time = to_record_time(*seconds - *pieces.zone_minutes * 60, pieces.nanosecond);
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
    record.time = to_record_time(*seconds - known_offset_, pieces.nanosecond);
    return true;
  }

  std::vector<PatternPart> parts_;
  std::int64_t known_minute_ = INT64_MIN;
  std::int64_t known_offset_ = 0;
};

}  // namespace

bool take_field(std::string_view& text, Field& field) {
  const bool quoted = text.starts_with('"');
  if (!take_token(text, field.key) || (!quoted && field.key.empty()) || !take(text, "=")) return false;
  return take_value(text, field.value);
}

bool take_time(std::string_view& text, RecordTime& time) {
  std::tm local{};
  const auto two = [&](int& target) { return take_digits(text, 2, target); };
  if (!take_digits(text, 4, local.tm_year) || !take(text, "-") || !two(local.tm_mon) || !take(text, "-") ||
      !two(local.tm_mday))
    return false;
  local.tm_year -= 1900;
  local.tm_mon -= 1;
  if (!(take(text, "T") || take(text, " ")) || !two(local.tm_hour) || !take(text, ":") ||
      !two(local.tm_min) || !take(text, ":") || !two(local.tm_sec))
    return false;
  std::int64_t nanosecond = 0;
  if (take(text, ".")) {
    std::int64_t unit = 1'000'000'000;
    while (!text.empty() && is_digit(text.front())) {
      unit /= 10;
      nanosecond += (text.front() - '0') * unit;
      text.remove_prefix(1);
    }
  }
  std::int64_t offset = 0;
  if (!take(text, "Z")) {
    const bool west = text.starts_with('-');
    int hours = 0;
    int minutes = 0;
    if (!(take(text, "+") || take(text, "-")) || !two(hours) || !take(text, ":") || !two(minutes))
      return false;
    offset = (west ? -60 : 60) * (hours * 60 + minutes);
  }
  const auto seconds = seconds_of(local);
  if (!seconds || !is_in_range(*seconds)) return false;
  time = to_record_time(*seconds - offset, nanosecond);
  return true;
}

std::string_view intern(std::string_view text) {
  if (text.empty()) return {};
  // Never destroyed: records that name a place may outlive everything.
  static std::mutex& mutex = *new std::mutex;
  static auto& known = *new std::unordered_set<std::string>;
  const std::lock_guard lock{mutex};
  return *known.emplace(text).first;
}

std::unique_ptr<RecordReader> make_text_reader(std::string_view pattern) {
  return std::make_unique<TextReader>(pattern);
}

}  // namespace kindred::internal
