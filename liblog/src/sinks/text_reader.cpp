#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/record_reader.hpp"
#include "sinks/text_scan.hpp"
#include "sinks/time_text.hpp"

namespace kindred::internal {
namespace {

using Kind = PatternPart::Kind;

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

/// A line that is being taken apart.
struct TakenLine {
  std::string_view rest;
  TimePieces pieces;
  LogRecord& record;

  void skip_spaces() noexcept {
    while (rest.starts_with(' ')) rest.remove_prefix(1);
  }
};
/// Takes what a part of the pattern has written from the front of the line. False: it is not there.
using TakePart = bool (*)(TakenLine& line, const PatternPart& part);

template <std::size_t digits, std::int64_t unit>
bool take_fraction(TakenLine& line, const PatternPart&) noexcept {
  int value = 0;
  if (!take_digits(line.rest, digits, value)) return false;
  line.pieces.nanosecond = value * unit;
  return true;
}

template <auto member>
bool take_number_of(TakenLine& line, const PatternPart&) noexcept {
  return take_number(line.rest, line.record.*member);
}

template <auto member>
bool take_token_of(TakenLine& line, const PatternPart&) {
  return take_token(line.rest, line.record.*member);
}

template <auto member>
bool take_place_of(TakenLine& line, const PatternPart&) {
  std::string name;
  if (!take_token(line.rest, name)) return false;
  line.record.source.*member = intern(name);
  return true;
}

bool take_literal(TakenLine& line, const PatternPart& part) noexcept { return take(line.rest, part.text); }

bool take_time_piece(TakenLine& line, const PatternPart& part) {
  const TakeTimePiece piece = time_piece_of(part.flag);
  return piece != nullptr && piece(line.rest, line.pieces);
}

bool take_epoch(TakenLine& line, const PatternPart&) noexcept {
  std::int64_t seconds = 0;
  if (!take_number(line.rest, seconds)) return false;
  line.pieces.epoch = seconds;
  return true;
}

// How long ago the record before was says nothing that the record keeps.
bool take_passed(TakenLine& line, const PatternPart&) noexcept {
  std::uint64_t passed = 0;
  return take_number(line.rest, passed);
}

bool take_level_name(TakenLine& line, const PatternPart&) { return take_level(line.rest, line.record); }

bool take_level_letter(TakenLine& line, const PatternPart&) noexcept {
  const auto level =
      line.rest.empty() ? std::string_view::npos : std::string_view{"TDIWECO"}.find(line.rest.front());
  if (level == std::string_view::npos) return false;
  line.rest.remove_prefix(1);
  line.record.level = static_cast<Level>(level);
  return true;
}

bool take_one_field(TakenLine& line, const PatternPart& part) {
  if (line.rest.empty() || !(line.rest.front() == '"' || is_token_char(line.rest.front()))) return true;
  Field field{part.text, {}};
  if (!take_value(line.rest, field.value)) return false;
  line.record.fields.push_back(std::move(field));
  return true;
}

bool take_worker(TakenLine& line, const PatternPart&) noexcept {
  return take(line.rest, "parent") || take_number(line.rest, line.record.worker);
}

bool take_origin_name(TakenLine& line, const PatternPart&) noexcept {
  return take_origin(line.rest, line.record.origin);
}

bool take_late(TakenLine& line, const PatternPart&) noexcept {
  line.record.late = take(line.rest, "late");
  return true;
}

bool take_who_logs(TakenLine& line, const PatternPart&) { return take_who(line.rest, line.record); }

bool take_source(TakenLine& line, const PatternPart&) {
  auto& source = line.record.source;
  std::string place;
  if (line.rest.starts_with('"')) {
    if (!take_quoted(line.rest, place) || !take(line.rest, ":") || !take_number(line.rest, source.line))
      return false;
  } else {
    const std::string_view bare = take_bare(line.rest);
    if (bare.empty()) return true;
    const auto colon = bare.rfind(':');
    if (colon == std::string_view::npos) return false;
    std::string_view number = bare.substr(colon + 1);
    if (!take_number(number, source.line) || !number.empty()) return false;
    place = bare.substr(0, colon);
  }
  source.file = intern(place);
  return true;
}

bool take_source_line(TakenLine& line, const PatternPart&) noexcept {
  if (line.rest.empty() || !is_digit(line.rest.front())) return true;
  return take_number(line.rest, line.record.source.line);
}

using SourcePlace = decltype(LogRecord::source);

TakePart take_of(Kind kind) noexcept {
  struct Row {
    Kind kind;
    TakePart take;
  };
  static constexpr Row rows[] = {
      {Kind::literal, take_literal},
      {Kind::time, take_time_piece},
      {Kind::milliseconds, take_fraction<3, 1'000'000>},
      {Kind::microseconds, take_fraction<6, 1'000>},
      {Kind::nanoseconds, take_fraction<9, 1>},
      {Kind::epoch, take_epoch},
      {Kind::since_nanoseconds, take_passed},
      {Kind::since_microseconds, take_passed},
      {Kind::since_milliseconds, take_passed},
      {Kind::since_seconds, take_passed},
      {Kind::level, take_level_name},
      {Kind::level_letter, take_level_letter},
      {Kind::logger, take_token_of<&LogRecord::logger>},
      {Kind::field, take_one_field},
      {Kind::worker, take_worker},
      {Kind::incarnation, take_number_of<&LogRecord::incarnation>},
      {Kind::pid, take_number_of<&LogRecord::pid>},
      {Kind::tid, take_number_of<&LogRecord::tid>},
      {Kind::task_id, take_number_of<&LogRecord::task_id>},
      {Kind::task_name, take_token_of<&LogRecord::task_name>},
      {Kind::attempt, take_number_of<&LogRecord::attempt>},
      {Kind::sequence, take_number_of<&LogRecord::sequence>},
      {Kind::origin, take_origin_name},
      {Kind::late, take_late},
      {Kind::who, take_who_logs},
      {Kind::source, take_source},
      {Kind::source_name, take_place_of<&SourcePlace::file>},
      {Kind::source_path, take_place_of<&SourcePlace::file>},
      {Kind::source_line, take_source_line},
      {Kind::function, take_place_of<&SourcePlace::function>},
  };
  for (const Row& row : rows) {
    if (row.kind == kind) return row.take;
  }
  return nullptr;
}

class TextReader final : public RecordReader {
 public:
  explicit TextReader(std::string_view pattern)
      : parts_{parse_pattern(pattern.empty() ? default_pattern : pattern)} {
    std::erase_if(parts_, [](const PatternPart& part) {
      return part.kind == Kind::color_begin || part.kind == Kind::color_end;
    });
    for (std::size_t i = 0; i + 1 < parts_.size(); ++i) require_border(parts_[i], parts_[i + 1], pattern);
    for (const PatternPart& part : parts_) takes_.push_back(take_of(part.kind));
  }

  bool read(std::string_view line, LogRecord& record) override {
    std::string plain;
    if (line.find('\x1b') != std::string_view::npos) line = plain = without_colors(line);
    TakenLine at{.rest = line, .pieces = {}, .record = record};
    at.pieces.local.tm_mday = 1;
    at.pieces.local.tm_year = 70;
    bool with_time = false;
    const auto settle = [&] { return !with_time || time_.settle(at.pieces, record.time); };
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto& part = parts_[i];
      if (part.kind == Kind::message) return read_message(at.rest, i + 1 < parts_.size(), record) && settle();
      if (part.align == PatternPart::Align::right || part.align == PatternPart::Align::center)
        at.skip_spaces();
      // Without the message before them, the fields stand at the end.
      if (part.kind == Kind::fields)
        return (at.rest.empty() || take_fields(at.rest, record.fields)) && settle();
      with_time |= part.kind == Kind::time || part.kind == Kind::epoch;
      if (takes_[i] == nullptr || !takes_[i](at, part)) return false;
      if (part.align == PatternPart::Align::left || part.align == PatternPart::Align::center)
        at.skip_spaces();
    }
    return at.rest.empty() && settle();
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

  std::vector<PatternPart> parts_;
  std::vector<TakePart> takes_;  // of each part; null: of the message, the fields, and what cannot be read
  TimeReader time_;
};

}  // namespace

bool take_field(std::string_view& text, Field& field) {
  const bool quoted = text.starts_with('"');
  if (!take_token(text, field.key) || (!quoted && field.key.empty()) || !take(text, "=")) return false;
  return take_value(text, field.value);
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
