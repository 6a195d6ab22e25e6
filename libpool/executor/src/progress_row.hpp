#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kindred::internal {

/// What a progress bar tells.
struct Progress {
  std::string unit;
  std::size_t done = 0;
  std::size_t total = 0;  ///< 0: not known
  std::size_t failed = 0;
  std::size_t busy = 0;  ///< workers; 0: not known, or none
  double seconds = 0;    ///< since the begin
  bool over = false;
};

/// How many columns of a terminal a text takes: wide characters two, combining ones none.
[[nodiscard]] std::size_t columns_of(std::string_view utf8);
/// The row of a terminal, at most `columns` wide: what matters least is left out first.
[[nodiscard]] std::string progress_row(const Progress& progress, std::size_t columns);
/// The same as a line of a file.
[[nodiscard]] std::string progress_line(const Progress& progress);

}  // namespace kindred::internal
