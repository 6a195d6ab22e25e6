#include "kindred/internal/ecs_formatter.hpp"

#include <chrono>
#include <ctime>
#include <variant>

#include "record/delivery.hpp"
#include "sinks/json_members.hpp"

namespace kindred::internal {
namespace {

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
  append_json_string(out, record.source.file);
  out.append(",\"line\":");
  out.append_number(std::uint64_t{record.source.line});
  out.append("},\"function\":");
  append_json_string(out, record.source.function);
  out.push_back('}');
}

void append_labels(const LogRecord& record, TextBuffer& out) {
  if (record.fields.empty()) return;
  out.append(",\"labels\":{");
  bool first = true;
  for (std::size_t i = 0; i < record.fields.size(); ++i) {
    const auto& [key, value] = record.fields[i];
    if (is_hidden(record.fields, i)) continue;
    if (!first) out.push_back(',');
    first = false;
    append_json_string(out, key);
    out.push_back(':');
    append_json_value(out, value);
  }
  out.push_back('}');
}

}  // namespace

EcsFormatter::EcsFormatter(std::string_view pattern, std::string_view start_method) : end_{start_method} {
  if (!pattern.empty()) text_.emplace(pattern);
}

void EcsFormatter::append_time(const LogRecord& record, TextBuffer& out) {
  const auto second = std::chrono::floor<std::chrono::seconds>(record.time);
  if (second.time_since_epoch().count() != second_) {
    second_ = second.time_since_epoch().count();
    const auto clock = static_cast<std::time_t>(second_);
    std::tm time{};
    ::gmtime_r(&clock, &time);
    date_time_ = date_time_text(time);
  }
  out.append(date_time_);
  out.push_back('.');
  out.append_padded(static_cast<std::uint32_t>((record.time - second).count()), 9);
  out.push_back('Z');
}

void EcsFormatter::append_kindred(const LogRecord& record, TextBuffer& out) const {
  out.append(",\"kindred\":{");
  append_json_worker(out, record);
  if (record.task_id != 0 || !record.task_name.empty()) {
    out.append(",\"task\":{\"id\":");
    out.append_number(record.task_id);
    out.append(",\"name\":");
    append_json_string(out, record.task_name);
    out.append(",\"attempt\":");
    out.append_number(std::uint64_t{record.attempt});
    out.push_back('}');
  }
  end_.append(out, record);
  out.push_back('}');
}

void EcsFormatter::append(const LogRecord& record, TextBuffer& out) { append(Delivery{record}, out); }

void EcsFormatter::append(const Delivery& delivery, TextBuffer& out) {
  const LogRecord& record = delivery.facts();
  // The first three in this order: so the loggers of Elastic write them, and people read them.
  out.append("{\"@timestamp\":\"");
  append_time(record, out);
  out.append("\",\"log.level\":");
  append_json_string(
      out, record.level_name.empty() ? to_string(record.level) : std::string_view{record.level_name});
  out.append(",\"message\":");
  if (text_) {
    line_.clear();
    text_->append(delivery, line_);
    append_json_string(out, line_.view());
  } else {
    out.push_back('"');
    delivery.append_json_message(out);
    out.push_back('"');
  }
  out.append(",\"ecs.version\":\"8.11.0\"");
  if (!record.logger.empty()) {
    out.append(",\"log.logger\":");
    append_json_string(out, record.logger);
  }
  out.append(",\"process.pid\":");
  out.append_number(std::uint64_t{record.pid});
  out.append(",\"process.thread.id\":");
  out.append_number(std::uint64_t{record.tid});
  append_origin(record, out);
  if (const auto* const type = text_of(record, "exception")) {
    out.append(",\"error.type\":");
    append_json_string(out, *type);
    if (const auto* const what = text_of(record, "what")) {
      out.append(",\"error.message\":");
      append_json_string(out, *what);
    }
  }
  append_labels(record, out);
  append_kindred(record, out);
  out.push_back('}');
}

}  // namespace kindred::internal
