#pragma once

#include <string>
#include <string_view>

#include "kindred/cluster_options.hpp"
#include "kindred/count.hpp"

namespace kindred::internal {

[[nodiscard]] std::string file_name(std::string_view path);
/// Errors: `UsageError` where it is empty, longer than 64 bytes, or has other characters than letters,
/// digits,
/// - and _: it becomes a part of NATS subjects.
void check_name(std::string_view option, std::string_view name);

}  // namespace kindred::internal
