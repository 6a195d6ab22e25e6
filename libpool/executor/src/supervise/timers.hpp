#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <new>
#include <unordered_map>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/locked.hpp"
#include "task/task_state.hpp"

namespace kindred::internal {

/// The moments of tasks, one for each. It knows no clock and no thread. Keeps each task by a reference until
/// its moment, or until the task is finished: `forget`. Guarded by the pool's lock.
class Timers {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Timers() = default;
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;
  ~Timers() { KINDRED_ASSERT(by_time_.empty()); }

  /// Errors: `std::bad_alloc`.
  void add(Locked, Time at, TaskState& task) {
    KINDRED_ASSERT(!task.finished());
    const auto [of_task, is_new] = of_task_.try_emplace(&task);
    KINDRED_ASSERT(is_new);
    try {
      of_task->second = by_time_.emplace(at, &task);
    } catch (const std::bad_alloc&) {
      of_task_.erase(of_task);
      throw;
    }
    task.retain();
  }
  /// A task whose moment has come; null: there is none. Its reference is the caller's now, which has to
  /// `unpin` it.
  [[nodiscard]] TaskState* take_due(Locked, Time now) noexcept {
    return by_time_.empty() || by_time_.begin()->first > now ? nullptr : take_first();
  }
  /// Removes the moment of a task, if it has one, and drops its reference to the task.
  void forget(Locked locked, TaskState& task) noexcept {
    const auto of_task = of_task_.find(&task);
    if (of_task == of_task_.end()) return;
    by_time_.erase(of_task->second);
    of_task_.erase(of_task);
    task.unpin(locked);
  }
  /// The next moment at which a task is to be looked at.
  [[nodiscard]] Deadline next(Locked) const noexcept {
    if (by_time_.empty()) return {};
    return by_time_.begin()->first;
  }
  void clear(Locked locked) noexcept {
    while (!by_time_.empty()) take_first()->unpin(locked);
  }

 private:
  using ByTime = std::multimap<Time, TaskState*>;

  TaskState* take_first() noexcept {
    const auto timer = by_time_.begin();
    TaskState* const task = timer->second;
    of_task_.erase(task);
    by_time_.erase(timer);
    KINDRED_ASSERT(by_time_.size() == of_task_.size());
    return task;
  }

  ByTime by_time_;
  std::unordered_map<const TaskState*, ByTime::iterator> of_task_;
};

}  // namespace kindred::internal
