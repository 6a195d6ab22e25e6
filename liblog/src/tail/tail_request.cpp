#include "kindred/internal/tail_request.hpp"

#include <algorithm>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "collect/history.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/record_reader.hpp"
#include "kindred/sink_options.hpp"
#include "record/fields.hpp"
#include "record/site.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t most_values = 256;  ///< of one key: who sends them is not trusted
constexpr std::string_view greeting = "kindred-tail/2";

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
  put("ask", ask);
  put("follow", follow);
  put("level", std::string{to_string(level)});
  put("last", static_cast<std::int64_t>(last));
  for (const int worker : workers) put("worker", std::int64_t{worker});
  for (const auto id : task_ids) put("task_id", id);
  for (const auto& name : task_names) put("task_name", name);
  if (since) put("since", *since);
  if (!logger.empty()) put("logger", logger);
  if (!text.empty()) put("text", text);
  for (const auto& [key, value] : others) put(key, value);
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
    if (request.take(field)) continue;
    const bool own = request.ask == facts || request.ask == records || request.ask == set_level;
    if (own || request.others.size() == most_values) return std::nullopt;
    request.others.push_back(std::move(field));
  }
  return request;
}

/// Takes one key of ours. False: it is none, or its value makes no sense.
bool TailRequest::take(const Field& field) {
  const auto* const words = std::get_if<std::string>(&field.value);
  const auto* const flag = std::get_if<bool>(&field.value);
  const auto* const number = std::get_if<std::int64_t>(&field.value);
  const bool is_number = number != nullptr && *number >= 0;
  if (field.key == "ask" && words != nullptr)
    ask = *words;
  else if (field.key == "follow" && flag != nullptr)
    follow = *flag;
  else if (field.key == "level" && words != nullptr && level_named(*words))
    level = *level_named(*words);
  else if (field.key == "last" && is_number)
    last = static_cast<std::uint64_t>(*number);
  else if (field.key == "worker" && number != nullptr && *number >= -1 && *number < 65536 &&
           workers.size() < most_values)
    workers.push_back(static_cast<int>(*number));
  else if (field.key == "task_id" && is_number && task_ids.size() < most_values)
    task_ids.push_back(static_cast<std::uint64_t>(*number));
  else if (field.key == "task_name" && words != nullptr && task_names.size() < most_values)
    task_names.push_back(*words);
  else if (field.key == "since" && number != nullptr)
    since = *number;
  else if (field.key == "logger" && words != nullptr)
    logger = *words;
  else if (field.key == "text" && words != nullptr)
    text = *words;
  else
    return false;
  return true;
}

bool TailRequest::may_accept(const KeptRecord& kept) const noexcept {
  if (kept.site->level() < level || (since && kept.time < *since)) return false;
  if (!workers.empty() && std::ranges::find(workers, kept.worker) == workers.end()) return false;
  // A name is known only when the record is read.
  return task_ids.empty() || !task_names.empty() ||
         std::ranges::find(task_ids, kept.task_id) != task_ids.end();
}

bool TailRequest::accepts(const LogRecord& record) const {
  const bool any_task = task_ids.empty() && task_names.empty();
  if (!any_task && std::ranges::find(task_ids, record.task_id) == task_ids.end() &&
      std::ranges::find(task_names, record.task_name) == task_names.end())
    return false;
  return (logger.empty() || logger_is_below(record.logger, logger)) &&
         (text.empty() || record.message.find(text) != std::string::npos);
}

}  // namespace kindred::internal
