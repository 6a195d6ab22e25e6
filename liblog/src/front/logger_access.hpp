#pragma once

#include <memory>

#include "kindred/logger.hpp"

namespace kindred::internal {

/// Makes the loggers that are bound to one executor's log.
struct LoggerAccess {
  [[nodiscard]] static Logger bound(LogFront& front, std::shared_ptr<ContextLife> life);
};

}  // namespace kindred::internal
