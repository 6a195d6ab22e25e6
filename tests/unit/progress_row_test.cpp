// The row of a progress bar, and its line in a file.
#include "progress_row.hpp"

#include <cstddef>
#include <sstream>

#include "kindred/progress_bar.hpp"
#include "support/test.hpp"

using namespace kindred::internal;

namespace {

const Progress half_way{
    .unit = "words", .done = 1260, .total = 3000, .failed = 3, .busy = 2, .seconds = 12.6, .over = false};

}  // namespace

TEST_CASE("a row fits its terminal: what matters least is left out first") {
  CHECK(progress_row(half_way, 79) ==
        "words  42% [#########.............] 1260/3000 100/s 0:17 left, 3 failed, 2 busy");
  for (std::size_t columns = 0; columns < 120; ++columns)
    CHECK(progress_row(half_way, columns).size() <= columns);
  CHECK_CONTAINS(progress_row(half_way, 40), "42%");
  CHECK_CONTAINS(progress_row(half_way, 40), "3 failed");
  CHECK(progress_row(half_way, 4) == " 42%");
  auto unknown = half_way;
  unknown.total = 0;
  CHECK(progress_row(unknown, 79) == "words 1260 100/s, 3 failed, 2 busy");
}

TEST_CASE("wide characters take two columns of the row, and marks none") {
  CHECK(columns_of("words") == 5);
  CHECK(columns_of("\xe5\xad\x97\xe5\xad\x97") == 4);
  CHECK(columns_of("e\xcc\x81") == 1);
  CHECK(columns_of("\xf0\x9f\x8e\x89") == 2);
  auto wide = half_way;
  wide.unit = "\xe5\xad\x97\xe5\xad\x97\xe5\xad\x97";
  for (std::size_t columns = 0; columns < 100; ++columns)
    CHECK(columns_of(progress_row(wide, columns)) <= columns);
}

TEST_CASE("a line of a file says the same in words, and at the end how long it took") {
  CHECK(progress_line(half_way) == "words: 1260 of 3000, 42%, 100/s, 0:17 left, 3 failed");
  auto over = half_way;
  over.done = over.total;
  over.over = true;
  over.failed = 0;
  over.seconds = 3725;
  CHECK(progress_line(over) == "words: 3000 of 3000, 100%, 0.8/s, in 1:02:05");
}

TEST_CASE("a bar that is drawn on no terminal is lines, the last one when it ends") {
  std::ostringstream out;
  {
    kindred::ProgressBar bar{out, 4, "items"};
    bar.update(1);
    CHECK(out.str().find('\r') == std::string::npos);
    bar.update(4);
  }
  CHECK_CONTAINS(out.str(), "items: 4 of 4, 100%");
  CHECK(out.str().back() == '\n');
}
