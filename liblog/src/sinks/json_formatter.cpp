#include "kindred/internal/json_formatter.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <ctime>

#include "kindred/internal/escape.hpp"

namespace kindred::internal {
namespace {

/// Python's numbers of the levels, which readers of Loguru's files know.
std::string_view level_number(Level level) noexcept {
  switch (level) {
    case Level::trace: return "5";
    case Level::debug: return "10";
    case Level::info: return "20";
    case Level::warn: return "30";
    case Level::error: return "40";
    case Level::critical: return "50";
    case Level::off: break;
  }
  return "60";
}

/// Can the object "extra" carry the fields as they are?
bool is_plain(const std::vector<Field>& fields) noexcept {
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const auto* const number = std::get_if<double>(&fields[i].value);
    if (number != nullptr && !std::isfinite(*number)) return false;
    for (std::size_t j = 0; j < i; ++j)
      if (fields[j].key == fields[i].key) return false;
  }
  return true;
}

bool is_hidden(const std::vector<Field>& fields, std::size_t index) noexcept {
  for (std::size_t later = index + 1; later < fields.size(); ++later)
    if (fields[later].key == fields[index].key) return true;
  return false;
}

}  // namespace

JsonFormatter::JsonFormatter(std::string_view pattern, std::string_view start_method) {
  if (!pattern.empty()) text_.emplace(pattern);
  if (!start_method.empty()) start_method_ = fmt::format(",\"start_method\":\"{}\"", start_method);
}

void JsonFormatter::append_string(TextBuffer& out, std::string_view text, std::string_view exact_key) {
  out.push_back('"');
  const bool whole = append_json_escaped(out, text);
  out.push_back('"');
  if (whole || exact_key.empty()) return;
  exact_.append(exact_.empty() ? "\"" : ",\"");
  exact_.append(exact_key);
  exact_.append("\":\"");
  // Escaped twice: as a message of a text sink, in which every byte has its form, and that text for JSON.
  TextBuffer escaped;
  append_escaped(escaped, text);
  append_json_escaped(exact_, escaped.view());
  exact_.push_back('"');
}

void JsonFormatter::append_time(const LogRecord& record, TextBuffer& out) {
  constexpr std::int64_t billion = 1'000'000'000;
  const std::int64_t since_epoch = record.time.time_since_epoch().count();
  std::int64_t second = since_epoch / billion;
  std::int64_t nanosecond = since_epoch % billion;
  if (nanosecond < 0) {
    nanosecond += billion;
    --second;
  }
  if (second != second_) [[unlikely]] {
    second_ = second;
    const auto clock = static_cast<std::time_t>(second);
    std::tm time{};
    ::localtime_r(&clock, &time);
    const auto minutes = std::abs(time.tm_gmtoff) / 60;
    date_time_ = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", time.tm_year + 1900, time.tm_mon + 1,
                             time.tm_mday, time.tm_hour, time.tm_min, time.tm_sec);
    zone_ = fmt::format("{}{:02}:{:02}", time.tm_gmtoff < 0 ? '-' : '+', minutes / 60, minutes % 60);
  }
  out.append("\"time\":{\"repr\":\"");
  out.append(date_time_);
  out.push_back('.');
  out.append_padded(static_cast<std::uint32_t>(nanosecond), 9);
  out.append(zone_);
  out.append("\",\"timestamp\":");
  // -0.5 s is the second -1 and 500,000,000 ns: written as -0.500000000.
  if (since_epoch < 0) out.push_back('-');
  const auto size = since_epoch < 0 ? ~static_cast<std::uint64_t>(since_epoch) + 1
                                    : static_cast<std::uint64_t>(since_epoch);
  out.append_number(size / billion);
  out.push_back('.');
  out.append_padded(static_cast<std::uint32_t>(size % billion), 9);
  out.push_back('}');
}

void JsonFormatter::append_extra(const LogRecord& record, TextBuffer& out) {
  out.append(",\"extra\":{");
  const bool plain = is_plain(record.fields);
  bool whole = true;
  bool first = true;
  for (std::size_t i = 0; i < record.fields.size(); ++i) {
    const auto& [key, value] = record.fields[i];
    if (!plain && is_hidden(record.fields, i)) continue;
    out.append(first ? "\"" : ",\"");
    first = false;
    whole &= append_json_escaped(out, key);
    out.append("\":");
    if (const auto* const text = std::get_if<std::string>(&value)) {
      out.push_back('"');
      whole &= append_json_escaped(out, *text);
      out.push_back('"');
    } else if (const auto* const number = std::get_if<double>(&value);
               number != nullptr && !std::isfinite(*number)) {
      out.append(std::isnan(*number) ? "\"NaN\"" : *number < 0 ? "\"-Infinity\"" : "\"Infinity\"");
    } else {
      append_field_value(out, value);
    }
  }
  out.push_back('}');
  if (plain && whole) return;
  exact_.append(exact_.empty() ? "\"extra\":[" : ",\"extra\":[");
  first = true;
  for (const auto& [key, value] : record.fields) {
    // Each as in the fields of a text line, in which every value has its form.
    TextBuffer field;
    field.push_back('"');
    append_escaped(field, key, EscapeIn::field_quotes);
    field.append("\"=");
    append_field_value(field, value);
    exact_.append(first ? "\"" : ",\"");
    first = false;
    append_json_escaped(exact_, field.view());
    exact_.push_back('"');
  }
  exact_.push_back(']');
}

void JsonFormatter::append(const LogRecord& record, TextBuffer& out) {
  exact_.clear();
  out.append("{\"text\":\"");
  if (text_) {
    line_.clear();
    text_->append(record, line_);
    append_json_escaped(out, line_.view());
    out.append("\",\"record\":{\"message\":");
    append_string(out, record.message, "message");
  } else {
    const std::size_t begin = out.size();
    const bool whole = append_json_escaped(out, record.message);
    const std::size_t size = out.size() - begin;
    out.append("\",\"record\":{\"message\":\"");
    char* const target = out.reserve(size + 1);
    if (size != 0) std::memcpy(target, out.data() + begin, size);
    target[size] = '"';
    out.advance(size + 1);
    if (!whole) {
      out.truncate(out.size() - size - 2);
      append_string(out, record.message, "message");
    }
  }
  out.push_back(',');
  append_time(record, out);
  out.append(",\"level\":{\"name\":");
  if (record.level_name.empty()) {
    out.push_back('"');
    out.append(to_string(record.level));
    out.push_back('"');
  } else {
    append_string(out, record.level_name, "level");
  }
  out.append(",\"no\":");
  const auto custom = record.level_name.empty() ? std::nullopt : find_level(record.level_name);
  if (custom)
    out.append_number(std::int64_t{custom->number()});
  else
    out.append(level_number(record.level));
  out.append("},\"name\":");
  append_string(out, record.logger, "name");
  if (record.source.file.empty() && record.source.line == 0 && record.source.function.empty()) {
    out.append(",\"file\":null,\"line\":null,\"function\":null");
  } else {
    out.append(",\"file\":{\"name\":");
    append_string(out, record.source.file.substr(record.source.file.rfind('/') + 1), {});
    out.append(",\"path\":");
    append_string(out, record.source.file, "file");
    out.append("},\"line\":");
    out.append_number(std::uint64_t{record.source.line});
    out.append(",\"function\":");
    append_string(out, record.source.function, "function");
  }
  out.append(",\"process\":{\"id\":");
  out.append_number(std::uint64_t{record.pid});
  out.append("},\"thread\":{\"id\":");
  out.append_number(std::uint64_t{record.tid});
  out.append("},\"worker\":");
  if (record.worker < 0)
    out.append("null");
  else
    out.append_number(static_cast<std::uint64_t>(record.worker));
  out.append(",\"incarnation\":");
  out.append_number(std::uint64_t{record.incarnation});
  if (record.task_id == 0 && record.task_name.empty() && record.attempt == 0) {
    out.append(",\"task\":null");
  } else {
    out.append(",\"task\":{\"id\":");
    out.append_number(record.task_id);
    out.append(",\"name\":");
    append_string(out, record.task_name, "task");
    out.append(",\"attempt\":");
    out.append_number(std::uint64_t{record.attempt});
    out.push_back('}');
  }
  out.append(",\"sequence\":");
  out.append_number(record.sequence);
  out.append(",\"origin\":\"");
  out.append(to_string(record.origin));
  out.append(record.late ? "\",\"late\":true" : "\"");
  out.append(start_method_);
  append_extra(record, out);
  out.push_back('}');
  if (!exact_.empty()) {
    out.append(",\"exact\":{");
    out.append(exact_.view());
    out.push_back('}');
  }
  out.push_back('}');
}

}  // namespace kindred::internal
