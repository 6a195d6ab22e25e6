#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kindred::test {

/// A line of the table of promises, which `./tests/run --long` ends with: what this case has reached in
/// `row`. It is printed when the case has ended, and as NOT HELD where any of its checks failed, the audit's
/// at the very end included. The start method that the case's name ends with is added.
///
/// args: `as_promised`: whether `figure` is what the row promises. A busy machine may miss a time without
/// anything being wrong: that is said (MISSED) and fails nothing. A case that names its rows ("... (row
/// 31)") and says no figure has a line all the same: its name, NOT HELD, or SKIPPED with the reason. The
/// table shows the names where the row has no figure.
/// Threads: that of the case.
void scorecard(int row, const std::string& figure, bool as_promised = true);

namespace internal {
/// The rows that the name of a case is about: "... (rows 23, 24)" is about 23 and 24.
[[nodiscard]] std::vector<int> rows_of(std::string_view case_name);
void print_row(int row, std::string_view text, std::string_view case_name);
/// The case has ended: says what there is to be said.
void print_rows(const std::string& case_name, bool passed, const std::string& skipped);
}  // namespace internal

}  // namespace kindred::test
