#include "sinks/wrapped_rows.hpp"

#include <algorithm>
#include <variant>

#include "kindred/internal/escape.hpp"
#include "kindred/internal/files.hpp"

namespace kindred::internal {
namespace {

constexpr std::string_view indent = "    ";
constexpr std::string_view stack_field = "backtrace";
constexpr std::size_t usual_columns = 80;

/// Columns of a word. Characters beyond ASCII count as one each.
std::size_t width_of(std::string_view word) noexcept {
  std::size_t width = 0;
  bool in_escape = false;
  for (const char c : word) {
    if (c == '\x1b')
      in_escape = true;
    else if (in_escape)
      in_escape = c != 'm';
    else if ((static_cast<unsigned char>(c) & 0xc0U) != 0x80U)
      ++width;
  }
  return width;
}

}  // namespace

std::string wrapped_rows(std::string_view line, std::size_t columns) {
  std::string rows;
  std::size_t used = 0;
  for (bool first = true; first || !line.empty(); first = false) {
    const auto end = line.find(' ');
    const std::string_view word = line.substr(0, end);
    line = end == std::string_view::npos ? std::string_view{} : line.substr(end + 1);
    const std::size_t width = width_of(word);
    if (first) {
      used = width;
    } else if (used + 1 + width <= columns) {
      rows += ' ';
      used += 1 + width;
    } else {
      rows += '\n';
      rows += indent;
      used = indent.size() + width;
    }
    rows += word;
  }
  return rows;
}

void wrap_for_terminal(TextBuffer& buffer, std::size_t begin, int fd) {
  const unsigned there = terminal_columns(fd);
  const std::size_t columns = there == 0 ? usual_columns : there;
  if (buffer.size() - begin <= columns) return;
  const std::string line{buffer.view().substr(begin)};
  buffer.truncate(begin);
  buffer.append(wrapped_rows(line, columns));
}

const std::string* crash_stack(const LogRecord& record) noexcept {
  if (record.origin != Origin::lifecycle) return nullptr;
  const auto found = std::ranges::find(record.fields, stack_field, &Field::key);
  return found == record.fields.end() ? nullptr : std::get_if<std::string>(&found->value);
}

LogRecord without_stack(const LogRecord& record) {
  LogRecord copy = record;
  std::erase_if(copy.fields, [](const Field& field) { return field.key == stack_field; });
  return copy;
}

void append_frames(TextBuffer& buffer, std::string_view stack) {
  while (!stack.empty()) {
    const auto end = stack.find('\n');
    buffer.append("\n    at ");
    append_escaped(buffer, stack.substr(0, end));
    stack = end == std::string_view::npos ? std::string_view{} : stack.substr(end + 1);
  }
}

}  // namespace kindred::internal
