#pragma once

#include "kindred/entry.hpp"
#include "kindred/node_options.hpp"

namespace kindred::internal {

/// Serves as a node until it is told to end (SIGTERM, SIGINT). Returns the exit code.
/// Errors: as the options' check and the connection have them.
int serve_as_node(Entry& entry, NodeOptions options);

}  // namespace kindred::internal
