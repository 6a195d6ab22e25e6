#pragma once

#include <string>

#include "kindred/node_options.hpp"

namespace kindred::internal {

/// The options as kindred-node hands them to the program, which may be of another build: the form has a
/// version.
[[nodiscard]] std::string encode_node_options(const NodeOptions& options);
/// Errors: `UsageError`.
[[nodiscard]] NodeOptions decode_node_options(const std::string& text);

}  // namespace kindred::internal
