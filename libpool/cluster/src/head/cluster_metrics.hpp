#pragma once

#include <string>
#include <string_view>

#include "kindred/cluster_options.hpp"

namespace kindred::internal::cluster {

/// What a cluster did so far, and its nodes, in the OpenMetrics text format, without the end mark. `pool`:
/// the value of that label, as the metrics of pools have it. libpool/doc/cluster.md lists the families.
[[nodiscard]] std::string metrics_text(const ClusterStats& stats, std::string_view cluster,
                                       std::string_view pool);

}  // namespace kindred::internal::cluster
