#include <algorithm>
#include <cstring>

#include "front/current_task.hpp"

namespace kindred::internal {

void set_task_name(std::string_view name) noexcept {
  CurrentTask& now = process_log.task;
  const std::size_t bytes = std::min(name.size(), sizeof now.name);
  for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, name.data() + at, std::min(sizeof word, bytes - at));
    now.name[at / sizeof word].store(word, std::memory_order_release);
  }
  now.name_bytes.store(static_cast<std::uint32_t>(bytes), std::memory_order_release);
}

bool read_current_task(TaskSnapshot& task) noexcept {
  const CurrentTask& now = process_log.task;
  for (int attempt = 0; attempt < 16; ++attempt) {
    task.serial = now.serial.load(std::memory_order_acquire);
    if ((task.serial & 1U) != 0) continue;
    task.id = now.id.load(std::memory_order_acquire);
    task.function = now.function.load(std::memory_order_acquire);
    task.attempt = now.attempt.load(std::memory_order_acquire);
    task.name_bytes =
        std::min<std::uint32_t>(now.name_bytes.load(std::memory_order_acquire), sizeof task.name);
    for (std::size_t at = 0; at < task.name_bytes; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = now.name[at / sizeof word].load(std::memory_order_acquire);
      std::memcpy(task.name + at, &word, std::min<std::size_t>(sizeof word, task.name_bytes - at));
    }
    // Order: the acquires above: had we seen a store of a later task, we would see its odd serial here.
    if (now.serial.load(std::memory_order_relaxed) == task.serial) return true;
  }
  return false;
}

}  // namespace kindred::internal
