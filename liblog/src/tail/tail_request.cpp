#include "kindred/internal/tail_request.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

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

constexpr std::size_t max_values = 256;  ///< of one key: the sender is not trusted
constexpr std::string_view greeting = "kindred-tail/2";

std::optional<Level> level_named(std::string_view text) {
  try {
    return parse_level(text);
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

template <class T, class Target>
bool assign(Target& target, const FieldValue& value) {
  const T* const given = std::get_if<T>(&value);
  if (given == nullptr) return false;
  target = *given;
  return true;
}

std::optional<std::int64_t> number_in(const FieldValue& value, std::int64_t lowest, std::int64_t highest) {
  const auto* const number = std::get_if<std::int64_t>(&value);
  return number != nullptr && *number >= lowest && *number <= highest ? std::optional{*number} : std::nullopt;
}

template <class T>
bool append(std::vector<T>& values, std::optional<T> value) {
  if (!value || values.size() == max_values) return false;
  values.push_back(std::move(*value));
  return true;
}

/// A record of another machine has its node's name as a field.
bool is_of_a_node(const LogRecord& record, const std::vector<std::string>& nodes) {
  return std::ranges::any_of(record.fields, [&nodes](const Field& field) {
    const auto* const name = field.key == "node" ? std::get_if<std::string>(&field.value) : nullptr;
    return name != nullptr && std::ranges::find(nodes, *name) != nodes.end();
  });
}

/// A key of ours, and how its value is taken. False: the value makes no sense.
struct Key {
  std::string_view name;
  bool (*take)(TailRequest& request, const FieldValue& value);
};

constexpr Key keys[] = {
    {"ask",
     [](TailRequest& request, const FieldValue& value) { return assign<std::string>(request.ask, value); }},
    {"follow",
     [](TailRequest& request, const FieldValue& value) { return assign<bool>(request.follow, value); }},
    {"level",
     [](TailRequest& request, const FieldValue& value) {
       const auto* const name = std::get_if<std::string>(&value);
       const auto level = name != nullptr ? level_named(*name) : std::nullopt;
       if (level) request.level = *level;
       return level.has_value();
     }},
    {"last",
     [](TailRequest& request, const FieldValue& value) {
       const auto number = number_in(value, 0, INT64_MAX);
       if (number) request.last = static_cast<std::uint64_t>(*number);
       return number.has_value();
     }},
    {"worker",
     [](TailRequest& request, const FieldValue& value) {
       const auto number = number_in(value, -1, 65535);
       return append(request.workers, number ? std::optional{static_cast<int>(*number)} : std::nullopt);
     }},
    {"task_id",
     [](TailRequest& request, const FieldValue& value) {
       const auto number = number_in(value, 0, INT64_MAX);
       return append(request.task_ids,
                     number ? std::optional{static_cast<std::uint64_t>(*number)} : std::nullopt);
     }},
    {"task_name",
     [](TailRequest& request, const FieldValue& value) {
       const auto* const name = std::get_if<std::string>(&value);
       return append(request.task_names, name != nullptr ? std::optional{*name} : std::nullopt);
     }},
    {"node",
     [](TailRequest& request, const FieldValue& value) {
       const auto* const name = std::get_if<std::string>(&value);
       return append(request.nodes, name != nullptr ? std::optional{*name} : std::nullopt);
     }},
    {"since", [](TailRequest& request,
                 const FieldValue& value) { return assign<std::int64_t>(request.since, value); }},
    {"logger", [](TailRequest& request,
                  const FieldValue& value) { return assign<std::string>(request.logger, value); }},
    {"text",
     [](TailRequest& request, const FieldValue& value) { return assign<std::string>(request.text, value); }},
};

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
  for (const auto& node : nodes) put("node", node);
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
    if (own || request.others.size() == max_values) return std::nullopt;
    request.others.push_back(std::move(field));
  }
  return request;
}

/// Takes one key of ours. False: it is none, or its value makes no sense.
bool TailRequest::take(const Field& field) {
  for (const Key& key : keys) {
    if (field.key == key.name) return key.take(*this, field.value);
  }
  return false;
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
  if (!nodes.empty() && !is_of_a_node(record, nodes)) return false;
  return (logger.empty() || logger_is_below(record.logger, logger)) &&
         (text.empty() || record.message.find(text) != std::string::npos);
}

}  // namespace kindred::internal
