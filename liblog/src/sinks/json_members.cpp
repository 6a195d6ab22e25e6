#include "sinks/json_members.hpp"

#include <cmath>
#include <ctime>
#include <variant>

#include <fmt/format.h>

#include "kindred/internal/escape.hpp"
#include "kindred/internal/pattern.hpp"

namespace kindred::internal {

bool append_json_string(TextBuffer& out, std::string_view text) {
  out.push_back('"');
  const bool whole = append_json_escaped(out, text);
  out.push_back('"');
  return whole;
}

bool append_json_value(TextBuffer& out, const FieldValue& value) {
  if (const auto* const text = std::get_if<std::string>(&value)) return append_json_string(out, *text);
  const auto* const number = std::get_if<double>(&value);
  if (number == nullptr || std::isfinite(*number)) {
    append_field_value(out, value);
    return true;
  }
  out.append(std::isnan(*number) ? "\"NaN\"" : *number < 0 ? "\"-Infinity\"" : "\"Infinity\"");
  return false;
}

bool is_hidden(const std::vector<Field>& fields, std::size_t index) noexcept {
  for (std::size_t later = index + 1; later < fields.size(); ++later) {
    if (fields[later].key == fields[index].key) return true;
  }
  return false;
}

void append_json_worker(TextBuffer& out, const LogRecord& record) {
  out.append("\"worker\":");
  if (record.worker < 0)
    out.append("null");
  else
    out.append_number(static_cast<std::uint64_t>(record.worker));
  out.append(",\"incarnation\":");
  out.append_number(std::uint64_t{record.incarnation});
}

std::string date_time_text(const std::tm& time) {
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", time.tm_year + 1900, time.tm_mon + 1,
                     time.tm_mday, time.tm_hour, time.tm_min, time.tm_sec);
}

}  // namespace kindred::internal
