#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/locked.hpp"
#include "kindred/internal/wakeup.hpp"
#include "task/task_state.hpp"

namespace kindred::internal {

/// When the time limits of tasks are to be looked at. It knows no clock and no thread. Keeps each task by a
/// reference until its moment. Guarded by the pool's lock.
class Timers {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Timers() = default;
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;
  ~Timers() { KINDRED_ASSERT(heap_.empty()); }

  /// True: it is the earliest now. Errors: `std::bad_alloc`.
  [[nodiscard]] bool add(Locked, Time at, TaskState& task) {
    heap_.push_back({at, &task});
    task.retain();
    std::push_heap(heap_.begin(), heap_.end(), later);
    return heap_.front().task == &task && heap_.front().at == at;
  }
  /// A task whose moment has come; null: there is none. Its reference is the caller's now, who has to `unpin`
  /// it.
  [[nodiscard]] TaskState* take_due(Locked, Time now) noexcept {
    return heap_.empty() || heap_.front().at > now ? nullptr : take_first();
  }
  /// The next moment at which an unfinished task is to be looked at.
  [[nodiscard]] Deadline next(Locked locked) noexcept {
    while (!heap_.empty() && heap_.front().task->finished()) take_first()->unpin(locked);
    if (heap_.empty()) return {};
    return heap_.front().at;
  }
  void clear(Locked locked) noexcept {
    while (!heap_.empty()) take_first()->unpin(locked);
  }

 private:
  struct Timer {
    Time at;
    TaskState* task;
  };
  static bool later(const Timer& a, const Timer& b) noexcept { return a.at > b.at; }
  TaskState* take_first() noexcept {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    TaskState* const task = heap_.back().task;
    heap_.pop_back();
    return task;
  }

  std::vector<Timer> heap_;
};

}  // namespace kindred::internal
