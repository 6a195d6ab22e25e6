#pragma once

#include <string>
#include <vector>

namespace kindred::view {

/// Returns the metrics of several pools as one text: all samples of a family stand together below its TYPE
/// and HELP, and `# EOF` stands at the end.
[[nodiscard]] std::string merge_metrics(const std::vector<std::string>& texts);

}  // namespace kindred::view
