#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kindred::internal {

/// A line as rows of a terminal of `columns`: broken at spaces, the rows behind the first indented by four.
/// Colours
/// (`ESC [ ... m`) take no column. A word that is longer than a row stays whole: a path can be copied.
[[nodiscard]] std::string wrapped_rows(std::string_view line, std::size_t columns);

}  // namespace kindred::internal
