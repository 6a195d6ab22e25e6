#include "support/rows.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace kindred::test {
namespace {

struct Line {
  int row;
  std::string figure;
  bool as_promised;
};
std::vector<Line> lines;  // of the running case

std::string_view method_of(std::string_view name) {
  for (const std::string_view method : {" [fork]", " [spawn]", " [forkserver]"}) {
    if (name.ends_with(method)) return method;
  }
  return {};
}

std::string_view without_brackets(std::string_view name) {
  name.remove_suffix(method_of(name).size());
  if (const auto at = name.rfind(" ("); at != std::string_view::npos && name.ends_with(')'))
    name = name.substr(0, at);
  return name;
}

}  // namespace

void scorecard(int row, const std::string& figure, bool as_promised) {
  lines.push_back({row, figure, as_promised});
}

namespace internal {

std::vector<int> rows_of(std::string_view name) {
  std::vector<int> rows;
  const auto begin = name.rfind('('), end = name.rfind(')');
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) return rows;
  std::string_view left = name.substr(begin + 1, end - begin - 1);
  for (bool counts = false; !left.empty();) {
    auto word = left.substr(0, left.find(", "));
    left.remove_prefix(std::min(left.size(), word.size() + 2));
    for (const std::string_view lead : {"rows ", "row "}) {
      if (!word.starts_with(lead)) continue;
      word.remove_prefix(lead.size());
      counts = true;
    }
    counts = counts && !word.empty() && word.find_first_not_of("0123456789") == std::string_view::npos;
    if (counts) rows.push_back(std::atoi(std::string{word}.c_str()));
  }
  return rows;
}

void print_row(int row, std::string_view text, std::string_view case_name) {
  std::string line = "scorecard: row " + std::to_string(row) + ": " + std::string{text};
  std::ranges::replace(line, '\n', ' ');
  std::printf("%s%s\n", line.c_str(), std::string{method_of(case_name)}.c_str());
  std::fflush(stdout);
}

void print_rows(const std::string& name, bool passed, const std::string& skipped) {
  auto silent = rows_of(name);
  for (const auto& [row, figure, as_promised] : lines) {
    std::erase(silent, row);
    print_row(row, (!passed ? "NOT HELD: " : as_promised ? "" : "MISSED here: ") + figure, name);
  }
  const std::string what{without_brackets(name)};
  for (const int row : silent)
    print_row(row,
              !passed            ? "NOT HELD: " + what
              : !skipped.empty() ? "SKIPPED: " + skipped
                                 : "case: " + what,
              name);
  lines.clear();
}

}  // namespace internal
}  // namespace kindred::test
