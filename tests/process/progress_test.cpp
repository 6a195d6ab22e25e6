// The progress bar: what a person sees on a terminal, and what a file gets.
#include <algorithm>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/terminal.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;

namespace {

std::vector<std::string> screen_of(const std::string& mode, unsigned columns = 80) {
  return rows_on_screen(run_on_terminal({victim("progress"), mode}, columns), columns);
}

}  // namespace

TEST_CASE("a bar by hand: a line of the log appears above it, and it stays as a line at its end") {
  const auto written = run_on_terminal({victim("progress"), "hand"}, 80);
  const auto rows = rows_on_screen(written, 80);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0] == "a line in the middle");
  CHECK_CONTAINS(rows[1], "words 100% [########################] 4/4");
  CHECK_CONTAINS(rows[1], "1 failed");
  // It was drawn before the line, erased for it, and drawn again after it.
  const auto first = written.find("words  25%");
  const auto line = written.find("a line in the middle");
  CHECK(first < line);
  CHECK(written.find("words  25%", line) != std::string::npos);
  CHECK(written.substr(line - 4, 4) == "\r\x1b[K");
}

TEST_CASE("a map that shows its progress: the workers' lines are whole, and the failures are counted") {
  for (const unsigned columns : {80U, 40U}) {
    CAPTURE(columns);
    const auto rows = screen_of("map", columns);
    REQUIRE(rows.size() == 21);
    for (int item = 0; item < 20; ++item)
      CHECK(std::ranges::count(rows, "item " + std::to_string(item)) == 1);
    CHECK_CONTAINS(rows.back(), "items 100%");
    CHECK_CONTAINS(rows.back(), "20/20");
    CHECK_CONTAINS(rows.back(), "1 failed");
    CHECK(rows.back().size() < columns);
  }
}

TEST_CASE("a first crash fits its terminal, with and without a sink: a frame a row, above the bar") {
  KINDRED_SKIP_UNDER_TSAN("its own frames are wider than a row");
  for (const std::string mode : {"crash", "console"}) {
    for (const unsigned columns : {80U, 50U}) {
      CAPTURE(mode);
      CAPTURE(columns);
      const auto written = run_on_terminal({victim("progress"), mode}, columns);
      const auto rows = rows_on_screen(written, columns);
      // As the program broke them: the terminal had nothing to break.
      const auto newlines = static_cast<std::size_t>(std::ranges::count(written, '\n'));
      CHECK(rows.size() == newlines);
      CHECK(std::ranges::count(rows, "    at crash_in_a_library") == 1);
      std::string all;
      for (const auto& row : rows) all += row.starts_with("    ") ? row.substr(3) : row;
      CHECK_CONTAINS(all, "may be too large for it");
      CHECK_CONTAINS(all, "was killed by SIGSEGV while running 'crash_in_a_library' #1; SIGSEGV");
      CHECK(!contains(all, "backtrace="));
      CHECK(!contains(all, "numbers  50%"));
      CHECK_CONTAINS(rows.back(), "numbers 100%");
    }
  }
}

TEST_CASE("of two bars the newer is seen, and the other comes back after it") {
  const auto rows = screen_of("two");
  REQUIRE(rows.size() == 3);
  CHECK(rows[0] == "a line below both");
  CHECK_CONTAINS(rows[1], "files 100%");
  CHECK_CONTAINS(rows[2], "folders 100%");
}

TEST_CASE("a terminal that cannot draw, and a file, get plain lines") {
  const auto written = run_on_terminal({victim("progress"), "hand"}, 80, {"TERM=dumb"});
  CHECK(!contains(written, "\x1b"));
  CHECK_CONTAINS(written, "words: 4 of 4, 100%");
  std::ostringstream out;
  {
    ProgressBar bar{out, 3, "wo\x1brds\n"};
    for (std::size_t done = 1; done <= 3; ++done) bar.update(done);
    bar.finish();
  }
  CHECK(std::ranges::count(out.str(), '\n') == 1);
  CHECK(!contains(out.str(), "\x1b"));
  CHECK_CONTAINS(out.str(), "3 of 3, 100%");
}

TEST_CASE_EACH_START_METHOD(
    "a bar is a map's progress, by value or by reference, and ends with its last copy") {
  std::ostringstream out;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    ProgressBar bar{out, 100, "numbers"};
    std::vector<int> items(50, 1);
    int sum = 0;
    for (const int value : pool.map(number, items, {.progress = bar})) sum += value;
    for (const int value : pool.map(number, items, MapOptions{.progress = std::ref(bar)})) sum += value;
    CHECK(sum == 100);
    CHECK(out.str().empty());
  }
  CHECK_CONTAINS(out.str(), "numbers: 50 of 100, 50%");
}
