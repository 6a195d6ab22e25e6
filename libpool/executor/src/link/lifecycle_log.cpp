#include "link/lifecycle_log.hpp"

#include <utility>

namespace kindred::internal {

void LifecycleLog::note(Level level, std::string message) {
  if (level < out_.level()) return;
  LogRecord record;
  record.level = level;
  record.origin = Origin::lifecycle;
  record.message = std::move(message);
  record.pid = parent_pid_;
  out_.emit(std::move(record));
}

void LifecycleLog::note_of(Locked, const WorkerSlot& slot, Level level, std::string message,
                           const TaskState* task, std::uint32_t attempt, const std::string& backtrace) {
  if (level < out_.level()) return;
  LogRecord record;
  record.level = level;
  record.origin = Origin::lifecycle;
  record.message = std::move(message);
  record.worker = slot.index;
  record.incarnation = slot.incarnation;
  record.pid = slot.worker.process.pid();
  if (task != nullptr) {
    record.task_id = task->id;
    record.task_name = name_of_task(*code_, *task);
    record.attempt = attempt;
  }
  if (!backtrace.empty()) record.fields.push_back({"backtrace", backtrace});
  out_.emit(std::move(record));
}

}  // namespace kindred::internal
