#include "sinks/wrapped_rows.hpp"

namespace kindred::internal {
namespace {

constexpr std::string_view indent = "    ";

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

}  // namespace kindred::internal
