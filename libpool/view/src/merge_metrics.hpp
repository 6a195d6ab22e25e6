#pragma once

#include <string>
#include <vector>

namespace kindred::view {

/// Puts the metrics of several pools together: the samples of a family must stand in one piece, below its
/// TYPE and HELP, and `# EOF` at the end.
[[nodiscard]] std::string merge_metrics(const std::vector<std::string>& texts);

}  // namespace kindred::view
