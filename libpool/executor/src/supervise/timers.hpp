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

/// When the time limits of tasks are to be looked at. It knows no clock and no thread. Keeps each task by a
/// reference until its moment, or until the task is finished: `forget`. Guarded by the pool's lock.
class Timers {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Timers() = default;
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;
  ~Timers() { KINDRED_ASSERT(by_time_.empty()); }

  /// True: it is the earliest now. Errors: `std::bad_alloc`.
  [[nodiscard]] bool add(Locked, Time at, TaskState& task) {
    KINDRED_ASSERT(!task.finished());
    const auto timer = by_time_.emplace(at, &task);
    try {
      of_task_.emplace(&task, timer);
    } catch (const std::bad_alloc&) {
      by_time_.erase(timer);
      throw;
    }
    task.retain();
    return timer == by_time_.begin();
  }
  /// A task whose moment has come; null: there is none. Its reference is the caller's now, which has to
  /// `unpin` it.
  [[nodiscard]] TaskState* take_due(Locked, Time now) noexcept {
    return by_time_.empty() || by_time_.begin()->first > now ? nullptr : take_first();
  }
  /// Removes the timers of a task whose limits no longer matter, and drops its references to the task.
  void forget(Locked locked, TaskState& task) noexcept {
    const auto [first, last] = of_task_.equal_range(&task);
    std::size_t references = 0;
    for (auto timer = first; timer != last; ++timer, ++references) by_time_.erase(timer->second);
    of_task_.erase(first, last);
    KINDRED_ASSERT(by_time_.size() == of_task_.size());
    for (; references > 0; --references) task.unpin(locked);
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
    auto of_task = of_task_.find(task);
    while (of_task->second != timer) ++of_task;
    of_task_.erase(of_task);
    by_time_.erase(timer);
    KINDRED_ASSERT(by_time_.size() == of_task_.size());
    return task;
  }

  ByTime by_time_;
  std::unordered_multimap<const TaskState*, ByTime::iterator> of_task_;
};

}  // namespace kindred::internal
