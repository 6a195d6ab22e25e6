#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kindred/internal/code_reference.hpp"
#include "kindred/task_error.hpp"
#include "task/task_state.hpp"

namespace kindred::internal {

/// Which worker, for errors and the log.
struct WorkerIdentity {
  int index = -1;
  std::uint32_t pid = 0;
  std::uint32_t incarnation = 0;
};

/// The name of a function of this process, or of a task that is named by its type; where neither is known,
/// its place in a file; empty: not even that.
[[nodiscard]] std::string name_of_code(const CodeBook& code, CodeReference reference);
/// The same for a reference that a worker wrote: it may be anything, so nothing is read that is not known to
/// be a constant of the program.
[[nodiscard]] std::string name_of_reported_code(const CodeBook& code, CodeReference reference);
[[nodiscard]] std::string name_of_task(const CodeBook& code, const TaskState& task);

/// What an error says of a task; `worker` is null where no worker is to be named. Call while the pool's lock
/// is held, or when the task is finished.
[[nodiscard]] TaskFacts facts_of(const TaskState& task, const std::shared_ptr<const CodeBook>& code,
                                 const WorkerIdentity* worker = nullptr);
/// What an error says of something else that a worker ran: its initializer, say.
[[nodiscard]] TaskFacts facts_about(const WorkerIdentity& worker, std::string what);

}  // namespace kindred::internal
