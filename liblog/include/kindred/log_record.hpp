#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kindred/level.hpp"

namespace kindred {

/// Where a record comes from.
enum class Origin : unsigned char { log, stdout, stderr, lifecycle, crash };
/// Returns "log", "stdout", "stderr", "lifecycle", "crash".
[[nodiscard]] std::string_view to_string(Origin origin) noexcept;

/// A place in the code. The strings live as long as the program.
struct SourceLocation {
  std::string_view file;
  std::uint32_t line = 0;
  std::string_view function;
};

/// A value of a field, with the type it was given.
using FieldValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::string>;
struct Field {
  std::string key;
  FieldValue value;
};

/// One logged event, as sinks and readers see it. A value: keep it, copy it, send it.
struct LogRecord {
  std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds> time{};
  Level level = Level::info;
  std::string level_name;  ///< set only for custom levels
  std::string logger;      ///< name; empty: the executor's own
  std::string message;     ///< as formatted, unescaped
  SourceLocation source;
  int worker = -1;  ///< index; -1: the parent
  std::uint32_t incarnation = 0;
  std::uint32_t pid = 0;
  std::uint32_t tid = 0;
  std::uint64_t task_id = 0;  ///< 0: none
  std::string task_name;
  std::uint32_t attempt = 0;
  std::uint64_t sequence = 0;  ///< per thread, from 1, without gaps unless records were dropped
  Origin origin = Origin::log;
  bool late = false;          ///< it came so late that it stands behind younger records
  std::vector<Field> fields;  ///< context (`with`, `LogScope`) and key-values, typed
};

}  // namespace kindred
