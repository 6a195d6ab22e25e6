#pragma once

#include <cstddef>
#include <map>
#include <new>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/locked.hpp"
#include "task/task_state.hpp"

namespace kindred::internal {

/// Tasks that no worker has: by priority, then in order. A list through the tasks themselves, so a million
/// pending tasks need no further memory.
class PendingTasks {
 public:
  void push_back(Locked, TaskState& task) noexcept { insert(list_for(task), task, false); }
  void push_front(Locked, TaskState& task) noexcept { insert(list_for(task), task, true); }

  void remove(Locked, TaskState& task) noexcept {
    KINDRED_ASSERT(task.is_pending());
    List& list = list_of(task);
    (task.previous_ != nullptr ? task.previous_->next_ : list.first) = task.next_;
    (task.next_ != nullptr ? task.next_->previous_ : list.last) = task.previous_;
    task.place_ = TaskState::Place::nowhere;
    --size_;
    if (&list != &usual_ && list.first == nullptr) others_.erase(-priority_of(task));
  }

  [[nodiscard]] TaskState* front(Locked) noexcept {
    if (!others_.empty() && others_.begin()->first < 0) return others_.begin()->second.first;
    if (usual_.first != nullptr || others_.empty()) return usual_.first;
    return others_.begin()->second.first;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

 private:
  struct List {
    TaskState* first = nullptr;
    TaskState* last = nullptr;
  };
  static int priority_of(const TaskState& task) noexcept {
    return task.options && !task.lost_priority ? task.options->priority : 0;
  }
  List& list_of(const TaskState& task) {
    return priority_of(task) == 0 ? usual_ : others_[-priority_of(task)];
  }

  // Where there is no memory for the list of its priority, the task loses its priority rather than its place.
  List& list_for(TaskState& task) noexcept {
    try {
      return list_of(task);
    } catch (const std::bad_alloc&) {
      task.lost_priority = true;
      return usual_;
    }
  }

  void insert(List& list, TaskState& task, bool in_front) noexcept {
    KINDRED_ASSERT(task.place_ == TaskState::Place::nowhere);
    task.place_ = TaskState::Place::pending;
    task.next_ = in_front ? list.first : nullptr;
    task.previous_ = in_front ? nullptr : list.last;
    if (task.next_ != nullptr) task.next_->previous_ = &task;
    if (task.previous_ != nullptr) task.previous_->next_ = &task;
    if (in_front || list.first == nullptr) list.first = &task;
    if (!in_front || list.last == nullptr) list.last = &task;
    ++size_;
  }

  List usual_;
  std::map<int, List> others_;  // by negated priority, so the highest comes first
  std::size_t size_ = 0;
};

}  // namespace kindred::internal
