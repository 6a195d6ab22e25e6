#pragma once

#include "kindred/executor.hpp"

namespace kindred::internal {

/// A cluster's futures, callbacks and log stand on a pool of this process that never starts a worker.
struct ExecutorAccess {
  [[nodiscard]] static PoolCore* core(ProcessPoolExecutor& executor) noexcept { return executor.core_; }
  static void check(const TaskOptions& options) { ProcessPoolExecutor::check(options); }
};

}  // namespace kindred::internal
