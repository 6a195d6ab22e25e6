#include "progress_row.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include <fmt/core.h>

namespace kindred::internal {
namespace {

// Ranges of Unicode 15 (EastAsianWidth.txt W and F; the emoji blocks), and marks that take no column.
constexpr std::array<std::pair<std::uint32_t, std::uint32_t>, 13> wide{{{0x1100, 0x115f},
                                                                        {0x2e80, 0x303e},
                                                                        {0x3041, 0x33ff},
                                                                        {0x3400, 0x4dbf},
                                                                        {0x4e00, 0x9fff},
                                                                        {0xa000, 0xa4cf},
                                                                        {0xac00, 0xd7a3},
                                                                        {0xf900, 0xfaff},
                                                                        {0xfe30, 0xfe6f},
                                                                        {0xff00, 0xff60},
                                                                        {0xffe0, 0xffe6},
                                                                        {0x1f300, 0x1faff},
                                                                        {0x20000, 0x3fffd}}};
constexpr std::array<std::pair<std::uint32_t, std::uint32_t>, 5> no_width{
    {{0x0300, 0x036f}, {0x200b, 0x200f}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}}};

template <std::size_t n>
bool is_in(const std::array<std::pair<std::uint32_t, std::uint32_t>, n>& ranges, std::uint32_t code) {
  return std::ranges::any_of(ranges,
                             [&](const auto& range) { return code >= range.first && code <= range.second; });
}

// The character that begins `text`, and its bytes; a byte that begins none counts as one column.
std::pair<std::uint32_t, std::size_t> first_character(std::string_view text) {
  const auto byte = static_cast<unsigned char>(text[0]);
  const std::size_t bytes = byte < 0xc0 ? 1U : byte < 0xe0 ? 2U : byte < 0xf0 ? 3U : 4U;
  if (bytes == 1 || bytes > text.size()) return {byte, 1};
  std::uint32_t code = byte & (0xffU >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) code = code << 6U | (static_cast<unsigned char>(text[i]) & 0x3fU);
  return {code, bytes};
}

std::string clock_text(double seconds) {
  const auto all = static_cast<std::uint64_t>(seconds + 0.5);
  if (all >= 3600) return fmt::format("{}:{:02}:{:02}", all / 3600, all / 60 % 60, all % 60);
  return fmt::format("{}:{:02}", all / 60, all % 60);
}

std::string rate_text(const Progress& progress) {
  if (progress.seconds <= 0 || progress.done == 0) return {};
  const double rate = static_cast<double>(progress.done) / progress.seconds;
  return rate < 10 ? fmt::format("{:.1f}/s", rate) : fmt::format("{:.0f}/s", rate);
}

std::string time_text(const Progress& progress) {
  if (progress.over) return "in " + clock_text(progress.seconds);
  if (progress.total == 0 || progress.done == 0 || progress.done >= progress.total) return {};
  const auto left = static_cast<double>(progress.total - progress.done);
  return clock_text(progress.seconds / static_cast<double>(progress.done) * left) + " left";
}

unsigned percent_of(const Progress& progress) {
  const auto done = std::min(progress.done, progress.total);
  return static_cast<unsigned>(100 * static_cast<double>(done) / static_cast<double>(progress.total));
}

void append_part(std::string& row, std::string_view part, std::string_view before = " ") {
  if (part.empty()) return;
  row += before;
  row += part;
}

}  // namespace

std::size_t columns_of(std::string_view utf8) {
  std::size_t columns = 0;
  while (!utf8.empty()) {
    const auto [code, bytes] = first_character(utf8);
    columns += is_in(no_width, code) ? 0U : is_in(wide, code) ? 2U : 1U;
    utf8.remove_prefix(bytes);
  }
  return columns;
}

std::string progress_row(const Progress& progress, std::size_t columns) {
  const std::string counts = progress.total == 0 ? std::to_string(progress.done)
                                                 : fmt::format("{}/{}", progress.done, progress.total);
  const std::string failed = progress.failed == 0 ? "" : fmt::format("{} failed", progress.failed);
  const std::string busy = progress.busy == 0 || progress.over ? "" : fmt::format("{} busy", progress.busy);
  constexpr std::size_t widest_bar = 24;
  constexpr std::size_t narrowest_bar = 6;
  // From everything to the least: a part is left out at each step.
  for (int step = 0; step <= 6; ++step) {
    std::string head = step < 5 ? progress.unit : "";
    if (progress.total != 0) head += fmt::format("{}{:3}%", head.empty() ? "" : " ", percent_of(progress));
    std::string tail;
    if (step < 6) append_part(tail, counts);
    if (step < 3) append_part(tail, rate_text(progress));
    if (step < 4) append_part(tail, time_text(progress));
    if (step < 5) append_part(tail, failed, ", ");
    if (step < 1) append_part(tail, busy, ", ");
    const std::size_t taken = columns_of(head) + columns_of(tail);
    const bool has_bar = progress.total != 0 && step < 3;
    const std::size_t frame = has_bar ? 3 : 0;  // " [" and "]"
    if (taken + frame + (has_bar ? narrowest_bar : 0) > columns) continue;
    if (!has_bar) return head + tail;
    const std::size_t width = std::min(widest_bar, columns - taken - frame);
    const std::size_t filled = width * std::min(progress.done, progress.total) / progress.total;
    return head + " [" + std::string(filled, '#') + std::string(width - filled, '.') + "]" + tail;
  }
  return {};
}

std::string progress_line(const Progress& progress) {
  std::string line = progress.unit + ": " + std::to_string(progress.done);
  if (progress.total != 0) line += fmt::format(" of {}, {}%", progress.total, percent_of(progress));
  append_part(line, rate_text(progress), ", ");
  append_part(line, time_text(progress), ", ");
  if (progress.failed != 0) line += fmt::format(", {} failed", progress.failed);
  return line;
}

}  // namespace kindred::internal
