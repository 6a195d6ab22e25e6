#include "kindred/internal/json_formatter.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "kindred/internal/escape.hpp"
#include "record/delivery.hpp"
#include "record/small_number.hpp"
#include "sinks/json_members.hpp"

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

constexpr std::uint32_t billion = 1'000'000'000;
constexpr std::size_t fraction_digits = 9;

}  // namespace

JsonFormatter::JsonFormatter(std::string_view pattern, std::string_view start_method) : end_{start_method} {
  if (!pattern.empty()) text_.emplace(pattern);
  turn_to_second_of(0);
}

/// Adds a member to "exact": the text escaped as in lines, in which every byte has its form, and that for
/// JSON.
void JsonFormatter::add_exact(std::string_view key, std::string_view text) {
  exact_.append(exact_.empty() ? "\"" : ",\"");
  exact_.append(key);
  exact_.append("\":\"");
  TextBuffer escaped;
  append_escaped(escaped, text);
  append_json_escaped(exact_, escaped.view());
  exact_.push_back('"');
}

void JsonFormatter::append_string(TextBuffer& out, std::string_view text, std::string_view exact_key) {
  if (!append_json_string(out, text) && !exact_key.empty()) add_exact(exact_key, text);
}

/// Appends "text" and the beginning of "record", up to its message.
void JsonFormatter::append_message(Delivery& delivery, TextBuffer& out) {
  constexpr std::string_view between = "\",\"record\":{\"message\":\"";
  out.append("{\"text\":\"");
  bool all_utf8 = true;
  if (text_) {
    line_.clear();
    text_->append(delivery, line_);
    append_json_escaped(out, line_.view());
    out.append(between);
    all_utf8 = delivery.append_json_message(out);
  } else {
    const std::size_t begin = out.size();
    all_utf8 = delivery.append_json_message(out);
    const std::size_t bytes = out.size() - begin;
    char* const target = out.reserve(between.size() + bytes);
    std::memcpy(target, between.data(), between.size());
    if (bytes != 0) std::memcpy(target + between.size(), out.data() + begin, bytes);
    out.advance(between.size() + bytes);
  }
  out.append("\",");
  if (!all_utf8) [[unlikely]]
    add_exact("message", delivery.whole().message);
}

void JsonFormatter::turn_to_second_of(std::int64_t since_epoch) {
  const std::int64_t second = since_epoch / billion - (since_epoch % billion < 0 ? 1 : 0);
  second_begin_ = static_cast<std::uint64_t>(second) * billion;
  const auto clock = static_cast<std::time_t>(second);
  std::tm time{};
  ::localtime_r(&clock, &time);
  const auto minutes = std::abs(time.tm_gmtoff) / 60;
  time_ = fmt::format("\"time\":{{\"repr\":\"{}.", date_time_text(time));
  fraction_ = time_.size();
  time_ += fmt::format("000000000{}{:02}:{:02}\",\"timestamp\":", time.tm_gmtoff < 0 ? '-' : '+',
                       minutes / 60, minutes % 60);
  before_timestamp_ = time_.size();
  time_ += fmt::format("{}.000000000}}", second);
}

void JsonFormatter::append_time(const LogRecord& record, TextBuffer& out) {
  const std::int64_t since_epoch = record.time.time_since_epoch().count();
  if (static_cast<std::uint64_t>(since_epoch) - second_begin_ >= billion) [[unlikely]]
    turn_to_second_of(since_epoch);
  const std::size_t begin = out.size();
  out.append(time_);
  char* const fraction = out.data() + begin + fraction_;
  const std::uint64_t nanoseconds = static_cast<std::uint64_t>(since_epoch) - second_begin_;
  write_nine_digits(fraction, static_cast<std::uint32_t>(nanoseconds));
  if (since_epoch >= 0) [[likely]] {
    std::memcpy(out.data() + out.size() - fraction_digits - 1, fraction, fraction_digits);
    return;
  }
  // -0.5 s is the second -1 and 500,000,000 ns: written as -0.500000000.
  const auto size = ~static_cast<std::uint64_t>(since_epoch) + 1;
  out.truncate(begin + before_timestamp_);
  out.push_back('-');
  out.append_number(size / billion);
  out.push_back('.');
  out.append_padded(static_cast<std::uint32_t>(size % billion), fraction_digits);
  out.push_back('}');
}

void JsonFormatter::append_extra(const LogRecord& record, TextBuffer& out) {
  if (record.fields.empty()) [[likely]]
    return out.append(",\"extra\":{}");
  out.append(",\"extra\":{");
  const bool plain = is_plain(record.fields);
  bool whole = true;
  bool first = true;
  for (std::size_t i = 0; i < record.fields.size(); ++i) {
    const auto& [key, value] = record.fields[i];
    if (!plain && is_hidden(record.fields, i)) continue;
    if (!std::exchange(first, false)) out.push_back(',');
    whole &= append_json_string(out, key);
    out.push_back(':');
    whole &= append_json_value(out, value);
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
    if (!std::exchange(first, false)) exact_.push_back(',');
    append_json_string(exact_, field.view());
  }
  exact_.push_back(']');
}

/// Appends the members that a place and a thread's facts make.
void JsonFormatter::append_facts(const LogRecord& record, TextBuffer& out) {
  out.append(",\"level\":{\"name\":");
  const bool standard = record.level_name.empty();
  append_string(out, standard ? to_string(record.level) : std::string_view{record.level_name}, "level");
  out.append(",\"no\":");
  const auto custom = standard ? std::nullopt : find_level(record.level_name);
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
  out.append("},");
  append_json_worker(out, record);
  if (record.task_id == 0 && record.task_name.empty() && record.attempt == 0)
    return out.append(",\"task\":null");
  out.append(",\"task\":{\"id\":");
  out.append_number(record.task_id);
  out.append(",\"name\":");
  append_string(out, record.task_name, "task");
  out.append(",\"attempt\":");
  out.append_number(std::uint64_t{record.attempt});
  out.push_back('}');
}

/// As `append_facts`; where the same were put together before, they are copied.
void JsonFormatter::append_common(const Delivery& delivery, TextBuffer& out) {
  constexpr unsigned bits = 6;
  const std::uint64_t facts_id = delivery.facts_id();
  const void* const site = delivery.site();
  if (facts_id == 0) return append_facts(delivery.facts(), out);
  if (common_.empty()) common_.resize(std::size_t{1} << bits);
  const auto hash = (facts_id ^ reinterpret_cast<std::uintptr_t>(site)) * 0x9e37'79b9'7f4a'7c15U;
  Common& common = common_[hash >> (64U - bits)];
  if (common.facts_id == facts_id && common.site == site) [[likely]]
    return out.append(common.text);
  const std::size_t begin = out.size();
  const std::size_t exact = exact_.size();
  append_facts(delivery.facts(), out);
  if (exact_.size() != exact) return;  // what is not exact has two places
  common = {facts_id, site, std::string{out.view(begin)}};
}

void JsonFormatter::append(const LogRecord& record, TextBuffer& out) {
  Delivery delivery{record};
  append(delivery, out);
}

void JsonFormatter::append(Delivery& delivery, TextBuffer& out) {
  const LogRecord& record = delivery.facts();
  exact_.clear();
  append_message(delivery, out);
  append_time(record, out);
  append_common(delivery, out);
  end_.append(out, record);
  // Most records have no fields, and are exact.
  if (record.fields.empty() && exact_.empty()) [[likely]]
    return out.append(",\"extra\":{}}}");
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
