#include "tail/tail_request.hpp"

#include <variant>

#include <fmt/format.h>

#include "collect/history.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/record_reader.hpp"
#include "kindred/sink_options.hpp"

namespace kindred::internal {
namespace {

constexpr std::string_view greeting = "kindred-tail/1";

std::optional<Level> level_named(std::string_view text) {
  try {
    return parse_level(text);
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

}  // namespace

std::string tail_name(std::uint32_t uid, std::uint32_t pid, std::uint32_t serial) {
  return fmt::format("kindred/{}/{}/{}", uid, pid, serial);
}

std::string TailRequest::to_line() const {
  TextBuffer line;
  line.append(greeting);
  const auto put = [&line](std::string_view key, const FieldValue& value) {
    line.push_back(' ');
    line.append(key);
    line.push_back('=');
    append_field_value(line, value);
  };
  put("follow", follow);
  put("level", std::string{to_string(level)});
  put("last", last);
  if (worker) put("worker", static_cast<std::int64_t>(*worker));
  if (task_id) put("task_id", *task_id);
  if (!task_name.empty()) put("task_name", task_name);
  if (!logger.empty()) put("logger", logger);
  if (!text.empty()) put("text", text);
  line.push_back('\n');
  return std::string{line.view()};
}

std::optional<TailRequest> TailRequest::parse(std::string_view line) {
  if (!line.starts_with(greeting)) return std::nullopt;
  line.remove_prefix(greeting.size());
  TailRequest request;
  while (!line.empty()) {
    if (line.front() != ' ') return std::nullopt;
    line.remove_prefix(1);
    Field field;
    if (!take_field(line, field)) return std::nullopt;
    const auto* const text = std::get_if<std::string>(&field.value);
    const auto* const flag = std::get_if<bool>(&field.value);
    std::optional<std::int64_t> number;
    if (const auto* const it = std::get_if<std::int64_t>(&field.value)) number = *it;
    if (field.key == "follow" && flag != nullptr)
      request.follow = *flag;
    else if (field.key == "level" && text != nullptr && level_named(*text))
      request.level = *level_named(*text);
    else if (field.key == "last" && number && *number >= 0)
      request.last = static_cast<std::uint64_t>(*number);
    else if (field.key == "worker" && number && *number >= -1 && *number < 65536)
      request.worker = static_cast<int>(*number);
    else if (field.key == "task_id" && number)
      request.task_id = static_cast<std::uint64_t>(*number);
    else if (field.key == "task_name" && text != nullptr)
      request.task_name = *text;
    else if (field.key == "logger" && text != nullptr)
      request.logger = *text;
    else if (field.key == "text" && text != nullptr)
      request.text = *text;
    else
      return std::nullopt;
  }
  return request;
}

bool TailRequest::may_accept(const KeptRecord& kept) const noexcept {
  return kept.site->level() >= level && (!worker || kept.worker == *worker) &&
         (!task_id || kept.task_id == *task_id);
}

bool TailRequest::accepts(const LogRecord& record) const {
  return (task_name.empty() || record.task_name == task_name) &&
         (logger.empty() || logger_is_below(record.logger, logger)) &&
         (text.empty() || record.message.find(text) != std::string::npos);
}

}  // namespace kindred::internal
