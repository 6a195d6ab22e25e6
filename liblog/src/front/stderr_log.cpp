#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <type_traits>
#include <variant>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "front/front.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "record/level_table.hpp"
#include "sinks/wrapped_rows.hpp"

namespace kindred::internal {
namespace {

constexpr int standard_error = 2;

void write_all(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto written = write_some(standard_error, text);
    if (written <= 0) return;
    text.remove_prefix(std::min(text.size(), static_cast<std::size_t>(written)));
  }
}

}  // namespace

namespace {

void append_line(TextBuffer& line, const LogRecord& record) {
  const auto seconds = std::chrono::time_point_cast<std::chrono::seconds>(record.time);
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(record.time - seconds).count();
  const std::time_t time = std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::system_clock::duration>(seconds));
  line.append(fmt::format("[{:%Y-%m-%d %H:%M:%S}.{:03}] [", fmt::localtime(time), millis));
  if (record.level_name.empty())
    line.append(to_string(record.level));
  else
    append_token(line, record.level_name);
  line.append("] ");
  if (!record.logger.empty()) {
    line.push_back('[');
    append_token(line, record.logger);
    line.append("] ");
  }
  if (record.worker >= 0) line.append(fmt::format("[w{}] ", record.worker));
  append_escaped(line, record.message);
  for (const Field& field : record.fields) {
    line.push_back(' ');
    append_token(line, field.key);
    line.push_back('=');
    std::visit(
        [&line](const auto& value) {
          if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>)
            append_token(line, value);
          else
            line.append(fmt::format("{}", value));
        },
        field.value);
  }
}

}  // namespace

void write_to_stderr(const LogRecord& record) noexcept {
  try {
    TextBuffer line;
    const std::string* const stack = crash_stack(record);
    append_line(line, stack != nullptr ? without_stack(record) : record);
    if (is_terminal(standard_error)) wrap_for_terminal(line, 0, standard_error);
    if (stack != nullptr) append_frames(line, *stack);
    line.push_back('\n');
    write_all(line.view());
  } catch (const std::exception&) {
    write_raw_to_stderr(record.message);
  }
}

void write_raw_to_stderr(std::string_view text) noexcept {
  char piece[256];
  do {
    const std::size_t bytes = std::min(text.size(), sizeof piece - 1);
    for (std::size_t i = 0; i < bytes; ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      piece[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
    }
    text.remove_prefix(bytes);
    std::size_t used = bytes;
    if (text.empty()) piece[used++] = '\n';
    write_all({piece, used});
  } while (!text.empty());
}

bool stderr_enabled(Level level) noexcept { return level < Level::off && level >= stderr_levels().level; }

}  // namespace kindred::internal
