#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kindred/internal/code_reference.hpp"
#include "link/bells.hpp"
#include "link/memory_blocks.hpp"
#include "link/worker_control.hpp"
#include "link/worker_slots.hpp"
#include "task/completion.hpp"
#include "task/pool_clock.hpp"

namespace kindred::internal {

/// Writes a task's call into a worker's ring, and sends what the call needs beside its bytes: shared
/// memories, and news of libraries.
class CallWriter {
 public:
  /// `max_tasks_per_worker` is 0: there is no limit.
  CallWriter(const CodeBook& code, const PoolClock& clock, CallBlocks& blocks,
             std::uint64_t max_tasks_per_worker, WorkerSlots& slots, WorkerControl& control, Bells& bells,
             Completion& completion, PoolEvents& events) noexcept
      : code_{code},
        clock_{clock},
        blocks_{blocks},
        max_tasks_per_worker_{max_tasks_per_worker},
        slots_{slots},
        control_{control},
        bells_{bells},
        completion_{completion},
        events_{events} {}

  /// Dispatches the task to the worker. False: there is no space for the call in the worker's ring, its
  /// socket or our memory; the task is where it was. True: the worker has the call, or the task has failed,
  /// because no shared memory could be made for it. `now`: ticks.
  [[nodiscard]] bool dispatch(Locked locked, TaskState& task, WorkerSlot& slot, std::uint64_t now);

 private:
  struct Layout;  // of a call that is not plain, in the ring

  bool dispatch_plain(Locked locked, TaskState& task, WorkerSlot& slot, std::uint64_t now);
  bool dispatch_with_cargo(Locked locked, TaskState& task, WorkerSlot& slot, std::uint64_t now);
  [[nodiscard]] std::span<std::byte> reserve(Locked locked, WorkerSlot& slot, std::size_t size) noexcept;
  [[nodiscard]] static CallHeader* write_header(std::byte* at, const TaskState& task) noexcept;
  static void write_layout(CallHeader& header, const Layout& layout) noexcept;
  [[nodiscard]] bool move_to_block(Locked locked, TaskState& task);
  [[nodiscard]] bool send_ahead(WorkerSlot& slot, const TaskState& task, Layout& layout);
  [[nodiscard]] bool send_modules(WorkerSlot& slot, CodeReference reference);
  [[nodiscard]] static bool send_cargo(WorkerSlot& slot, const TaskState& task, Layout& layout);
  [[nodiscard]] static std::uint64_t send_block(WorkerSlot& slot, CallBlock& block);
  void watch_limits(Locked locked, WorkerSlot& slot, const TaskOptions& options);
  void publish(Locked locked, TaskState& task, WorkerSlot& slot, CallHeader& header, std::size_t size,
               std::uint64_t now);

  const CodeBook& code_;
  const PoolClock& clock_;
  CallBlocks& blocks_;
  const std::uint64_t max_tasks_per_worker_;
  WorkerSlots& slots_;
  WorkerControl& control_;
  Bells& bells_;
  Completion& completion_;
  PoolEvents& events_;
};

/// The worker neither began nor ended a call for long: it gets no more until it has passed those that were
/// revoked.
void begin_silence(Locked locked, WorkerSlot& slot, PoolClock::Time now) noexcept;

}  // namespace kindred::internal
