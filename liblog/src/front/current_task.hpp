#pragma once

#include <cstdint>

#include "kindred/internal/log_front.hpp"

namespace kindred::internal {

/// The process's task at one moment.
struct TaskSnapshot {
  std::uint64_t serial = 0;
  std::uint64_t id = 0;
  std::uint64_t function = 0;
  std::uint32_t attempt = 0;
  std::uint32_t name_bytes = 0;
  char name[sizeof CurrentTask::name];
};
/// Returns false where the task is just being changed by another thread; `serial` is then what was seen of
/// it.
[[nodiscard]] bool read_current_task(TaskSnapshot& task) noexcept;

}  // namespace kindred::internal
