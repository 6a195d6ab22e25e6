#include "kindred/internal/journal_sink.hpp"

#include <array>
#include <cstring>
#include <system_error>
#include <variant>

#include <fmt/format.h>

#include "kindred/internal/line_writer.hpp"

namespace kindred::internal {
namespace {

/// syslog's severities.
std::string_view priority_of(Level level) noexcept {
  switch (level) {
    case Level::critical: return "2";
    case Level::error: return "3";
    case Level::warn: return "4";
    case Level::info: return "6";
    default: return "7";
  }
}

constexpr std::array<std::string_view, 6> taken_names{"MESSAGE",   "PRIORITY",          "CODE_FILE",
                                                      "CODE_LINE", "SYSLOG_IDENTIFIER", "TID"};

/// A field's name as journald takes it: A to Z, 0 to 9 and `_`, at most 64, a letter first.
std::string journal_name(std::string_view key) {
  std::string name;
  for (const char c : key.substr(0, 56)) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool digit = c >= '0' && c <= '9';
    name += letter || digit ? static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c) : '_';
  }
  bool taken = name.empty() || name[0] < 'A' || name[0] > 'Z' || name.starts_with("KINDRED_");
  for (const auto one : taken_names) taken = taken || name == one;
  return taken ? "FIELD_" + name : name;
}

}  // namespace

JournalSink::JournalSink(const JournaldOptions& options, const SinkOptions& sink)
    : socket_{options.socket}, identifier_{options.identifier.empty() ? program_name() : options.identifier} {
  if (!sink.pattern.empty()) text_.emplace(sink.pattern);
}

/// "KEY=value\n", or where the value has a newline "KEY\n", its length as 64 bits, the value, "\n".
void JournalSink::put(std::string_view key, std::string_view value) {
  out_.append(key);
  if (value.find('\n') == std::string_view::npos) {
    out_.push_back('=');
  } else {
    out_.push_back('\n');
    std::uint64_t size = value.size();
    for (int i = 0; i < 8; ++i, size >>= 8U) out_.push_back(static_cast<char>(size & 0xffU));
  }
  out_.append(value);
  out_.push_back('\n');
}

void JournalSink::put(std::string_view key, std::uint64_t value) {
  std::array<char, 24> digits{};
  const auto end = fmt::format_to(digits.data(), "{}", value);
  put(key, std::string_view{digits.data(), static_cast<std::size_t>(end - digits.data())});
}

void JournalSink::put_field(const Field& field) {
  const std::string name = journal_name(field.key);
  if (const auto* const text = std::get_if<std::string>(&field.value)) return put(name, *text);
  TextBuffer value;
  append_field_value(value, field.value);
  put(name, value.view());
}

void JournalSink::write(const LogRecord& record) {
  out_.clear();
  if (text_) {
    line_.clear();
    text_->append(record, line_);
    put("MESSAGE", line_.view());
  } else {
    put("MESSAGE", record.message);
  }
  put("PRIORITY", priority_of(record.level));
  put("SYSLOG_IDENTIFIER", identifier_);
  if (!record.source.file.empty()) {
    put("CODE_FILE", record.source.file);
    put("CODE_LINE", record.source.line);
    put("CODE_FUNC", record.source.function);
  }
  put("TID", record.tid);
  put("KINDRED_LEVEL",
      record.level_name.empty() ? to_string(record.level) : std::string_view{record.level_name});
  if (!record.logger.empty()) put("KINDRED_LOGGER", record.logger);
  put("KINDRED_WORKER", record.worker < 0 ? std::string{"parent"} : std::to_string(record.worker));
  put("KINDRED_PID", record.pid);
  if (record.task_id != 0) {
    put("KINDRED_TASK_ID", record.task_id);
    put("KINDRED_TASK", record.task_name);
    put("KINDRED_ATTEMPT", record.attempt);
  }
  put("KINDRED_ORIGIN", to_string(record.origin));
  put("KINDRED_SEQUENCE", record.sequence);
  put("KINDRED_TIME_NS", static_cast<std::uint64_t>(record.time.time_since_epoch().count()));
  for (const Field& field : record.fields) put_field(field);
  const int error = socket_.send(out_.view());
  out_.shrink(1 << 20);
  if (error == 0) return;
  lost_.store(lost_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  const auto now = std::chrono::steady_clock::now();
  if (now < next_report_) return;
  next_report_ = now + std::chrono::seconds{1};
  complain("writing to journald failed: " + std::generic_category().message(error) + ". " +
           std::to_string(lost()) + " records are lost; it goes on by itself when journald is there again.");
}

}  // namespace kindred::internal
