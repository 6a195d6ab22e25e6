#include "kindred/internal/ecs_formatter.hpp"

#include <chrono>
#include <cmath>
#include <ctime>
#include <variant>

#include <fmt/format.h>

#include "kindred/internal/escape.hpp"

namespace kindred::internal {
namespace {

void append_string(TextBuffer& out, std::string_view text) {
  out.push_back('"');
  append_json_escaped(out, text);
  out.push_back('"');
}

void append_value(TextBuffer& out, const FieldValue& value) {
  if (const auto* const text = std::get_if<std::string>(&value)) return append_string(out, *text);
  const auto* const number = std::get_if<double>(&value);
  if (number != nullptr && !std::isfinite(*number))
    return out.append(std::isnan(*number) ? "\"NaN\"" : *number < 0 ? "\"-Infinity\"" : "\"Infinity\"");
  append_field_value(out, value);
}

/// The last field of that name, as text; null where there is none.
const std::string* text_of(const LogRecord& record, std::string_view key) noexcept {
  const std::string* found = nullptr;
  for (const Field& field : record.fields) {
    if (field.key == key) found = std::get_if<std::string>(&field.value);
  }
  return found;
}

void append_origin(const LogRecord& record, TextBuffer& out) {
  if (record.source.file.empty() && record.source.function.empty()) return;
  out.append(",\"log.origin\":{\"file\":{\"name\":");
  append_string(out, record.source.file);
  out.append(",\"line\":");
  out.append_number(std::uint64_t{record.source.line});
  out.append("},\"function\":");
  append_string(out, record.source.function);
  out.push_back('}');
}

void append_labels(const LogRecord& record, TextBuffer& out) {
  if (record.fields.empty()) return;
  out.append(",\"labels\":{");
  bool first = true;
  for (std::size_t i = 0; i < record.fields.size(); ++i) {
    const auto& [key, value] = record.fields[i];
    bool hidden = false;  // by a later one of its name
    for (std::size_t later = i + 1; later < record.fields.size(); ++later)
      hidden = hidden || record.fields[later].key == key;
    if (hidden) continue;
    if (!first) out.push_back(',');
    first = false;
    append_string(out, key);
    out.push_back(':');
    append_value(out, value);
  }
  out.push_back('}');
}

}  // namespace

EcsFormatter::EcsFormatter(std::string_view pattern, std::string_view start_method) {
  if (!pattern.empty()) text_.emplace(pattern);
  if (!start_method.empty()) start_method_ = fmt::format(",\"start_method\":\"{}\"", start_method);
}

void EcsFormatter::append_time(const LogRecord& record, TextBuffer& out) {
  const auto second = std::chrono::floor<std::chrono::seconds>(record.time);
  if (second.time_since_epoch().count() != second_) {
    second_ = second.time_since_epoch().count();
    const auto clock = static_cast<std::time_t>(second_);
    std::tm time{};
    ::gmtime_r(&clock, &time);
    date_time_ = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", time.tm_year + 1900, time.tm_mon + 1,
                             time.tm_mday, time.tm_hour, time.tm_min, time.tm_sec);
  }
  out.append(date_time_);
  out.push_back('.');
  out.append_padded(static_cast<std::uint32_t>((record.time - second).count()), 9);
  out.push_back('Z');
}

void EcsFormatter::append_kindred(const LogRecord& record, TextBuffer& out) const {
  out.append(",\"kindred\":{\"worker\":");
  if (record.worker < 0)
    out.append("null");
  else
    out.append_number(static_cast<std::uint64_t>(record.worker));
  out.append(",\"incarnation\":");
  out.append_number(std::uint64_t{record.incarnation});
  if (record.task_id != 0 || !record.task_name.empty()) {
    out.append(",\"task\":{\"id\":");
    out.append_number(record.task_id);
    out.append(",\"name\":");
    append_string(out, record.task_name);
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
  out.push_back('}');
}

void EcsFormatter::append(const LogRecord& record, TextBuffer& out) {
  // The first three in this order: so the loggers of Elastic write them, and people read them.
  out.append("{\"@timestamp\":\"");
  append_time(record, out);
  out.append("\",\"log.level\":");
  append_string(out,
                record.level_name.empty() ? to_string(record.level) : std::string_view{record.level_name});
  out.append(",\"message\":");
  if (text_) {
    line_.clear();
    text_->append(record, line_);
    append_string(out, line_.view());
  } else {
    append_string(out, record.message);
  }
  out.append(",\"ecs.version\":\"8.11.0\"");
  if (!record.logger.empty()) {
    out.append(",\"log.logger\":");
    append_string(out, record.logger);
  }
  out.append(",\"process.pid\":");
  out.append_number(std::uint64_t{record.pid});
  out.append(",\"process.thread.id\":");
  out.append_number(std::uint64_t{record.tid});
  append_origin(record, out);
  if (const auto* const type = text_of(record, "exception")) {
    out.append(",\"error.type\":");
    append_string(out, *type);
    if (const auto* const what = text_of(record, "what")) {
      out.append(",\"error.message\":");
      append_string(out, *what);
    }
  }
  append_labels(record, out);
  append_kindred(record, out);
  out.push_back('}');
}

}  // namespace kindred::internal
