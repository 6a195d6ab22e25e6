#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "engine/engine.hpp"
#include "kindred/cluster_options.hpp"

namespace kindred::internal::cluster {

/// Connects to the servers of a cluster, with signed messages where the options have a `sign_key`.
///
/// `refused`: is told on the engine's threads what was dropped for want of the right signature.
///
/// Errors: as `connect_to_nats`; `UsageError` for a `sign_key` that cannot be used. Blocks: until a server
/// answers, at most `patience`.
[[nodiscard]] std::unique_ptr<Engine> connect_engine(const EngineOptions& options, const std::string& cluster,
                                                     const std::string& who,
                                                     std::chrono::nanoseconds patience,
                                                     Engine::Receive receive,
                                                     std::function<void(const std::string& what)> refused);

}  // namespace kindred::internal::cluster
