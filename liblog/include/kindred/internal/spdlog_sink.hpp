#pragma once

#include <memory>

#include "kindred/internal/sink.hpp"
#include "kindred/sink_options.hpp"

namespace spdlog::sinks {
class sink;
}

namespace kindred::internal {

/// Feeds a sink of spdlog's. Without a pattern the sink is left as it is, its own formatter included: it sees
/// the record's time, level, logger, thread and source, and as payload the escaped message with the fields.
/// With one, our formatter is set on it. Errors: `UsageError` for an empty pointer, or a pattern that means
/// nothing.
[[nodiscard]] std::unique_ptr<Sink> make_spdlog_sink(std::shared_ptr<spdlog::sinks::sink> sink,
                                                     const SinkOptions& options);

}  // namespace kindred::internal
