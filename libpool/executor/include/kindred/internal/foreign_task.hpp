#pragma once

#include <cstdint>
#include <string>

namespace kindred::internal {

/// A task that came to this worker's pool from another machine: `Worker` tells of it what its submitter
/// knows, and not the numbers of the pool here.
struct ForeignTask {
  std::uint64_t id = 0;
  std::uint32_t attempts_before = 0;  ///< on other machines
  std::string idempotency_key = {};
};

/// For the time of a task's run; null: the task is this pool's own again. `task` must live as long. Threads:
/// the one that runs the task.
void set_foreign_task(const ForeignTask* task) noexcept;

}  // namespace kindred::internal
