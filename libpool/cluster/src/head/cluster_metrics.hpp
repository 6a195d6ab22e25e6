#pragma once

#include <string>
#include <string_view>

#include "kindred/cluster_options.hpp"

namespace kindred::internal::cluster {

/// Returns what a cluster and its nodes did so far, in the OpenMetrics text format, without the end mark.
/// `pool`: the value of the label "pool". libpool/doc/cluster.md lists the families.
[[nodiscard]] std::string metrics_text(const ClusterStats& stats, std::string_view cluster,
                                       std::string_view pool);

}  // namespace kindred::internal::cluster
