#pragma once

#include <atomic>
#include <chrono>
#include <functional>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/locked.hpp"
#include "link/memory_blocks.hpp"
#include "link/worker_control.hpp"
#include "link/worker_slots.hpp"
#include "task/task_store.hpp"

namespace kindred::internal {

/// Memory that was used and is kept for the next tasks: blocks for large arguments and results, and cells of
/// tasks. What has been idle for a while is given back to the system, by the supervisor.
class IdleMemory {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// `wake_supervisor` is called by any thread, without a lock, when there is something to look after.
  IdleMemory(WorkerSlots& slots, WorkerControl& control, TaskStore& cells,
             std::function<void()> wake_supervisor)
      : slots_{slots}, control_{control}, cells_{cells}, wake_supervisor_{std::move(wake_supervisor)} {}
  IdleMemory(const IdleMemory&) = delete;
  IdleMemory& operator=(const IdleMemory&) = delete;

  [[nodiscard]] CallBlocks& call_blocks() noexcept { return call_blocks_; }
  /// A block, or the last cell of a task, is free again. Any thread.
  void note_freed() noexcept;
  /// Releases what has been idle since before `now` for long enough.
  void check(Locked locked, Time now);
  [[nodiscard]] Deadline next(Locked) const noexcept { return release_at_; }

 private:
  void release(Locked locked, Time idle_since);
  void tell_to_forget(Locked locked, WorkerSlot& slot, ParentMessage what, std::uint64_t id);

  WorkerSlots& slots_;
  WorkerControl& control_;
  TaskStore& cells_;
  const std::function<void()> wake_supervisor_;
  CallBlocks call_blocks_{[this] { note_freed(); }};
  std::atomic<bool> some_is_free_{false};
  Deadline release_at_;
};

}  // namespace kindred::internal
