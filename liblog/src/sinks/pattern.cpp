#include "kindred/internal/pattern.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"

namespace kindred::internal {
namespace {

using Kind = PatternPart::Kind;
using Align = PatternPart::Align;

constexpr std::string_view time_flags = "aAbBhcCYDxmdHIMSpRrTXz";

/// Returns the kind that a flag stands for; `literal` where there is none.
Kind kind_of(char flag) noexcept {
  switch (flag) {
    case 'e': return Kind::milliseconds;
    case 'f': return Kind::microseconds;
    case 'F': return Kind::nanoseconds;
    case 'E': return Kind::epoch;
    case 'u': return Kind::since_nanoseconds;
    case 'i': return Kind::since_microseconds;
    case 'o': return Kind::since_milliseconds;
    case 'O': return Kind::since_seconds;
    case 'l': return Kind::level;
    case 'L': return Kind::level_letter;
    case 'n': return Kind::logger;
    case 'v': return Kind::message;
    case 'V': return Kind::fields;
    case 'w': return Kind::worker;
    case 'k': return Kind::incarnation;
    case 'P': return Kind::pid;
    case 't': return Kind::tid;
    case 'j': return Kind::task_id;
    case 'J': return Kind::task_name;
    case 'q': return Kind::attempt;
    case 'Q': return Kind::sequence;
    case 'K': return Kind::origin;
    case 'N': return Kind::late;
    case 'W': return Kind::who;
    case '@': return Kind::source;
    case 's': return Kind::source_name;
    case 'g': return Kind::source_path;
    case '#': return Kind::source_line;
    case '!': return Kind::function;
    case '^': return Kind::color_begin;
    case '$': return Kind::color_end;
    default: return time_flags.find(flag) != std::string_view::npos ? Kind::time : Kind::literal;
  }
}

constexpr std::string_view short_days = "SunMonTueWedThuFriSat";
constexpr std::string_view short_months = "JanFebMarAprMayJunJulAugSepOctNovDec";
constexpr std::array<std::string_view, 7> long_days{"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                    "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> long_months{"January",   "February", "March",    "April",
                                                       "May",       "June",     "July",     "August",
                                                       "September", "October",  "November", "December"};

std::string time_text(char flag, const std::tm& time) {
  const auto index = [](int value) { return static_cast<std::size_t>(std::max(value, 0)); };
  const int hour = time.tm_hour % 12 == 0 ? 12 : time.tm_hour % 12;
  const auto short_day = short_days.substr(index(time.tm_wday) * 3, 3);
  const auto short_month = short_months.substr(index(time.tm_mon) * 3, 3);
  const auto* const half = time.tm_hour < 12 ? "AM" : "PM";
  const int year = time.tm_year + 1900;
  switch (flag) {
    case 'a': return std::string{short_day};
    case 'A': return std::string{long_days[index(time.tm_wday)]};
    case 'b':
    case 'h': return std::string{short_month};
    case 'B': return std::string{long_months[index(time.tm_mon)]};
    case 'c':
      return fmt::format("{} {} {} {:02}:{:02}:{:02} {}", short_day, short_month, time.tm_mday, time.tm_hour,
                         time.tm_min, time.tm_sec, year);
    case 'C': return fmt::format("{:02}", year % 100);
    case 'Y': return fmt::format("{:04}", year);
    case 'D':
    case 'x': return fmt::format("{:02}/{:02}/{:02}", time.tm_mon + 1, time.tm_mday, year % 100);
    case 'm': return fmt::format("{:02}", time.tm_mon + 1);
    case 'd': return fmt::format("{:02}", time.tm_mday);
    case 'H': return fmt::format("{:02}", time.tm_hour);
    case 'I': return fmt::format("{:02}", hour);
    case 'M': return fmt::format("{:02}", time.tm_min);
    case 'S': return fmt::format("{:02}", time.tm_sec);
    case 'p': return half;
    case 'R': return fmt::format("{:02}:{:02}", time.tm_hour, time.tm_min);
    case 'r': return fmt::format("{:02}:{:02}:{:02} {}", hour, time.tm_min, time.tm_sec, half);
    case 'T':
    case 'X': return fmt::format("{:02}:{:02}:{:02}", time.tm_hour, time.tm_min, time.tm_sec);
    case 'z': {
      const auto minutes = std::abs(time.tm_gmtoff) / 60;
      return fmt::format("{}{:02}:{:02}", time.tm_gmtoff < 0 ? '-' : '+', minutes / 60, minutes % 60);
    }
    default: return {};
  }
}

std::string_view base_name(std::string_view path) noexcept { return path.substr(path.rfind('/') + 1); }

/// Length as a terminal shows it, near enough: characters of UTF-8.
std::size_t characters(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

void append_scalar_string(TextBuffer& out, const std::string& text) {
  // Bare only where it cannot be taken for a number, a truth value or nothing at all.
  const auto first = text.empty() ? '\0' : text.front();
  const bool word = (first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z') || first == '_' ||
                    first == '/' || static_cast<unsigned char>(first) >= 0x80;
  if (word && text != "true" && text != "false" && text != "nan" && text != "inf") {
    append_token(out, text, EscapeIn::field_quotes);
    return;
  }
  out.push_back('"');
  append_escaped(out, text, EscapeIn::field_quotes);
  out.push_back('"');
}

/// Could a reader take the end of `message` for fields?
bool ends_like_fields(std::string_view message) noexcept {
  return message.back() == '}' && message.find(" {") != std::string_view::npos;
}

}  // namespace

std::vector<PatternPart> parse_pattern(std::string_view pattern) {
  std::vector<PatternPart> parts;
  std::string literal;
  const auto settle = [&] {
    if (literal.empty()) return;
    PatternPart part;
    part.text = std::move(literal);
    parts.push_back(std::move(part));
    literal.clear();
  };
  const auto refuse = [&](const std::string& why) {
    throw UsageError{
        "the pattern '" + std::string{pattern} + "' " + why +
        " A pattern is spdlog's (\"[%H:%M:%S.%e] [%l] %v\"), with %w worker, %P pid, %t thread, %j task id, %J task name, "
        "%W all of these in short, %V fields, %{key} one field; '%%' is a percent sign."};
  };
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      // Ours are the only control bytes of a line, and there are none.
      if (static_cast<unsigned char>(pattern[i]) < 0x20 || pattern[i] == '\x7f')
        refuse("contains a control character.");
      literal += pattern[i];
      continue;
    }
    PatternPart part;
    ++i;
    if (i < pattern.size() && (pattern[i] == '-' || pattern[i] == '='))
      part.align = pattern[i++] == '-' ? Align::left : Align::center;
    while (i < pattern.size() && pattern[i] >= '0' && pattern[i] <= '9') {
      if (part.align == Align::none) part.align = Align::right;
      part.width = std::min<std::size_t>(part.width * 10 + static_cast<std::size_t>(pattern[i++] - '0'), 128);
    }
    if (part.width != 0 && i < pattern.size() && pattern[i] == '!' && i + 1 < pattern.size() &&
        kind_of(pattern[i + 1]) != Kind::literal) {
      part.cut = true;
      ++i;
    }
    if (i >= pattern.size()) refuse("ends in the middle of a flag.");
    const char flag = pattern[i];
    if (flag == '%') {
      literal += '%';
      continue;
    }
    if (flag == '+') {
      settle();
      for (auto& each : parse_pattern(default_pattern)) parts.push_back(std::move(each));
      continue;
    }
    if (flag == '{') {
      const auto close = pattern.find('}', i);
      if (close == std::string_view::npos) refuse("has a %{ without its }.");
      part.kind = Kind::field;
      part.text = pattern.substr(i + 1, close - i - 1);
      i = close;
    } else {
      part.kind = kind_of(flag);
      part.flag = flag;
      if (part.kind == Kind::literal)
        refuse("has the flag '%" + std::string{flag} + "', which means nothing.");
    }
    settle();
    parts.push_back(std::move(part));
  }
  settle();
  return parts;
}

PatternFormatter::PatternFormatter(std::string_view pattern, const LevelColors* colors)
    : parts_{parse_pattern(pattern.empty() ? default_pattern : pattern)}, colored_{colors != nullptr} {
  if (colors != nullptr) colors_ = *colors;
  for (const auto& part : parts_) {
    const bool steady = part.kind == Kind::literal || part.kind == Kind::time;
    if (steady && !steps_.empty() && steps_.back().kind == Kind::time) continue;
    Step step{.kind = steady ? Kind::time : part.kind};
    if (!steady) {
      step.align = part.align;
      step.cut = part.cut;
      step.width = part.width;
    }
    if (part.kind == Kind::field) {
      step.begin = static_cast<std::uint32_t>(keys_.size());
      keys_.push_back(part.text);
    }
    steps_.push_back(step);
  }
}

void PatternFormatter::turn_to(std::int64_t second) {
  second_ = second;
  const auto clock = static_cast<std::time_t>(second);
  std::tm time{};
  ::localtime_r(&clock, &time);
  steady_text_.clear();
  auto step = steps_.begin();
  bool open = false;
  for (const auto& part : parts_) {
    const bool steady = part.kind == Kind::literal || part.kind == Kind::time;
    if (open && !steady) {
      step->end = static_cast<std::uint32_t>(steady_text_.size());
      ++step;
      open = false;
    }
    if (!steady) {
      ++step;
      continue;
    }
    if (!open) {
      step->begin = static_cast<std::uint32_t>(steady_text_.size());
      open = true;
    }
    if (part.kind == Kind::literal) {
      steady_text_ += part.text;
      continue;
    }
    std::string text = time_text(part.flag, time);
    if (text.size() < part.width) {
      const auto gap = part.width - text.size();
      const auto before = part.align == Align::right ? gap : part.align == Align::center ? gap / 2 : 0;
      text.insert(0, before, ' ');
      text.append(gap - before, ' ');
    } else if (part.cut) {
      text.resize(part.width);
    }
    steady_text_ += text;
  }
  if (open) step->end = static_cast<std::uint32_t>(steady_text_.size());
}

void PatternFormatter::append(const LogRecord& record, TextBuffer& out, ColorRange* range) {
  constexpr std::int64_t billion = 1'000'000'000;
  const std::int64_t since_epoch = record.time.time_since_epoch().count();
  std::int64_t second = since_epoch / billion;
  std::int64_t nanosecond = since_epoch % billion;
  if (nanosecond < 0) {
    nanosecond += billion;
    --second;
  }
  if (second != second_) [[unlikely]]
    turn_to(second);
  std::size_t message_begin = out.size();
  for (const auto& step : steps_) {
    switch (step.kind) {
      case Kind::time: out.append({steady_text_.data() + step.begin, step.end - step.begin}); continue;
      case Kind::color_begin:
        if (colored_) out.append(colors_.of(record));
        if (range != nullptr) range->begin = out.size();
        continue;
      case Kind::color_end:
        if (range != nullptr) range->end = out.size();
        if (colored_ && !colors_.of(record).empty()) out.append(color_reset);
        continue;
      case Kind::message:
        message_begin = out.size();
        if (step.width == 0) {
          append_escaped(out, record.message);
          continue;
        }
        break;
      case Kind::fields:
        if (step.width == 0) {
          append_fields(out, record, message_begin);
          continue;
        }
        break;
      default: break;
    }
    const std::size_t begin = out.size();
    append_step(step, record, nanosecond, out);
    if (step.width == 0) continue;
    const std::size_t shown = characters(out.view(begin));
    if (shown < step.width) {
      const auto gap = step.width - shown;
      const auto before = step.align == Align::right ? gap : step.align == Align::center ? gap / 2 : 0;
      if (before != 0) out.insert(begin, before, ' ');
      out.insert(out.size(), gap - before, ' ');
    } else if (step.cut && shown > step.width) {
      std::size_t end = begin;
      for (std::size_t seen = 0; end < out.size(); ++end)
        if ((static_cast<unsigned char>(out.data()[end]) & 0xc0U) != 0x80U && seen++ == step.width) break;
      out.truncate(end);
    }
  }
  previous_nanoseconds_ = since_epoch;
}

void PatternFormatter::append_step(const Step& step, const LogRecord& record, std::int64_t nanosecond,
                                   TextBuffer& out) {
  const auto nanoseconds = static_cast<std::uint32_t>(nanosecond);
  const auto since = [&] {
    const auto now = record.time.time_since_epoch().count();
    return previous_nanoseconds_ == 0 || now < previous_nanoseconds_
               ? std::uint64_t{0}
               : static_cast<std::uint64_t>(now - previous_nanoseconds_);
  };
  switch (step.kind) {
    case Kind::milliseconds: out.append_padded(nanoseconds / 1'000'000, 3); return;
    case Kind::microseconds: out.append_padded(nanoseconds / 1'000, 6); return;
    case Kind::nanoseconds: out.append_padded(nanoseconds, 9); return;
    case Kind::epoch: out.append_number(second_); return;
    case Kind::since_nanoseconds: out.append_number(since()); return;
    case Kind::since_microseconds: out.append_number(since() / 1'000); return;
    case Kind::since_milliseconds: out.append_number(since() / 1'000'000); return;
    case Kind::since_seconds: out.append_number(since() / 1'000'000'000); return;
    case Kind::level:
      if (record.level_name.empty())
        out.append(to_string(record.level));
      else
        append_token(out, record.level_name);
      return;
    case Kind::level_letter: {
      constexpr std::string_view letters = "TDIWECO";
      const auto level = static_cast<std::size_t>(record.level);
      out.push_back(level < letters.size() ? letters[level] : '?');
      return;
    }
    case Kind::logger: append_token(out, record.logger); return;
    case Kind::message: append_escaped(out, record.message); return;
    case Kind::fields: append_fields(out, record, out.size()); return;
    case Kind::field:
      // The last one counts: what a scope within says hides what one around it said.
      for (auto field = record.fields.rbegin(); field != record.fields.rend(); ++field) {
        if (field->key != keys_[step.begin]) continue;
        append_field_value(out, field->value);
        return;
      }
      return;
    case Kind::worker:
      if (record.worker < 0)
        out.append("parent");
      else
        out.append_number(static_cast<std::uint64_t>(record.worker));
      return;
    case Kind::incarnation: out.append_number(std::uint64_t{record.incarnation}); return;
    case Kind::pid: out.append_number(std::uint64_t{record.pid}); return;
    case Kind::tid: out.append_number(std::uint64_t{record.tid}); return;
    case Kind::task_id: out.append_number(record.task_id); return;
    case Kind::task_name: append_token(out, record.task_name); return;
    case Kind::attempt: out.append_number(std::uint64_t{record.attempt}); return;
    case Kind::sequence: out.append_number(record.sequence); return;
    case Kind::origin: out.append(to_string(record.origin)); return;
    case Kind::late:
      if (record.late) out.append("late");
      return;
    case Kind::who: append_who(out, record); return;
    case Kind::source:
      if (record.source.file.empty()) return;
      append_token(out, record.source.file);
      out.push_back(':');
      out.append_number(std::uint64_t{record.source.line});
      return;
    case Kind::source_name: append_token(out, base_name(record.source.file)); return;
    case Kind::source_path: append_token(out, record.source.file); return;
    case Kind::source_line:
      if (record.source.line != 0) out.append_number(std::uint64_t{record.source.line});
      return;
    case Kind::function: append_token(out, record.source.function); return;
    case Kind::literal:
    case Kind::time:
    case Kind::color_begin:
    case Kind::color_end: return;
  }
}

void append_who(TextBuffer& out, const LogRecord& record) {
  if (record.worker < 0) {
    out.append("parent");
  } else {
    out.push_back('w');
    out.append_number(static_cast<std::uint64_t>(record.worker));
    if (record.incarnation != 0) {
      out.push_back('.');
      out.append_number(std::uint64_t{record.incarnation});
    }
  }
  if (record.task_id != 0 || !record.task_name.empty()) {
    out.push_back(' ');
    append_token(out, record.task_name);
    out.push_back('#');
    out.append_number(record.task_id);
    if (record.attempt != 1) {
      out.push_back('/');
      out.append_number(std::uint64_t{record.attempt});
    }
  }
  if (!record.logger.empty()) {
    out.push_back(' ');
    append_token(out, record.logger);
  }
  if (record.origin != Origin::log) {
    out.append(" <");
    out.append(to_string(record.origin));
    out.push_back('>');
  }
  if (record.late) out.append(" !late");
}

void append_field_value(TextBuffer& out, const FieldValue& value) {
  switch (value.index()) {
    case 0: out.append(*std::get_if<bool>(&value) ? "true" : "false"); return;
    case 1: out.append_number(*std::get_if<std::int64_t>(&value)); return;
    case 2: out.append_number(*std::get_if<std::uint64_t>(&value)); return;
    case 3: {
      const double number = *std::get_if<double>(&value);
      if (!std::isfinite(number)) {
        out.append(std::isnan(number) ? "nan" : number < 0 ? "-inf" : "inf");
        return;
      }
      char* const target = out.reserve(40);
      auto* const end = std::to_chars(target, target + 32, number).ptr;
      std::size_t size = static_cast<std::size_t>(end - target);
      // "5.0", so that a double stays one.
      if (std::string_view{target, size}.find_first_of(".e") == std::string_view::npos) {
        std::memcpy(end, ".0", 2);
        size += 2;
      }
      out.advance(size);
      return;
    }
    default: append_scalar_string(out, *std::get_if<std::string>(&value)); return;
  }
}

void append_fields(TextBuffer& out, const LogRecord& record, std::size_t message_begin) {
  if (record.fields.empty()) {
    if (out.size() != message_begin && ends_like_fields(out.view(message_begin))) out.append(" {}");
    return;
  }
  char separator = '{';
  out.push_back(' ');
  for (const auto& field : record.fields) {
    out.push_back(separator);
    separator = ' ';
    if (field.key.empty())
      out.append("\"\"");
    else
      append_token(out, field.key, EscapeIn::field_quotes);
    out.push_back('=');
    append_field_value(out, field.value);
  }
  out.push_back('}');
}

}  // namespace kindred::internal
