#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kindred/internal/locked.hpp"
#include "kindred/log_record.hpp"
#include "link/worker_slot.hpp"

namespace kindred::internal {

/// What the pool itself writes into the unified log: starts, deaths, retries. Its records are of
/// `Origin::lifecycle`.
class LifecycleLog {
 public:
  /// Records below `level()` are not made; the others are given to `emit`. Both are called on any thread.
  struct Out {
    std::function<Level()> level;
    std::function<void(LogRecord)> emit;
  };
  LifecycleLog(Out out, std::uint32_t parent_pid, std::shared_ptr<const CodeBook> code)
      : out_{std::move(out)}, parent_pid_{parent_pid}, code_{std::move(code)} {}

  [[nodiscard]] std::string name_of(const TaskState& task) const { return name_of_task(*code_, task); }
  /// A record of the pool as a whole. Any thread.
  void note(Level level, std::string message);
  /// A record about a worker, and where `task` is not null, about an attempt at a task.
  void note_of(Locked, const WorkerSlot& slot, Level level, std::string message,
               const TaskState* task = nullptr, std::uint32_t attempt = 0, const std::string& backtrace = {});

 private:
  const Out out_;
  const std::uint32_t parent_pid_;
  const std::shared_ptr<const CodeBook> code_;
};

}  // namespace kindred::internal
