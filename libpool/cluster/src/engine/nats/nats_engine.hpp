#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "engine/engine.hpp"
#include "kindred/cluster_options.hpp"

namespace kindred::internal::cluster {

/// Connects to the cluster's NATS servers, and stays connected: where a connection ends, another server, or
/// the same again, is tried for ever. `receive` is called on threads of the client library.
///
/// Errors: `SystemError` where no server answers within `patience`, or one refuses this user: with its words.
[[nodiscard]] std::unique_ptr<Engine> connect_to_nats(const EngineOptions& options,
                                                      const std::string& cluster, const std::string& who,
                                                      std::chrono::nanoseconds patience,
                                                      Engine::Receive receive);

}  // namespace kindred::internal::cluster
