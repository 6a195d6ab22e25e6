// Tasks that no worker has, and what a task knows of the worker that has it: no process.
#include "task/pending_tasks.hpp"

#include <csignal>
#include <cstddef>
#include <deque>
#include <memory>
#include <new>
#include <vector>

#include <doctest/doctest.h>

#include "link/worker_slot.hpp"
#include "support/test.hpp"
#include "unit/held_lock.hpp"

using namespace kindred;
using namespace kindred::internal;

namespace {

// Tasks without a pool. Their memory is given back without their destructors, which would ask the pool.
class LooseTasks {
 public:
  ~LooseTasks() {
    for (auto& cell : cells_) cell.task->options.reset();
  }
  TaskState& make(int priority = 0) {
    Cell& cell = cells_.emplace_back();
    cell.task = ::new (cell.memory) TaskState{nullptr, ++last_id_, 0, 0};
    if (priority != 0) {
      cell.task->options = new SharedOptions{{.priority = priority}};
    }
    return *cell.task;
  }

 private:
  struct Cell {
    alignas(TaskState) std::byte memory[sizeof(TaskState)];
    TaskState* task = nullptr;
  };
  std::deque<Cell> cells_;
  std::uint64_t last_id_ = 0;
};

std::vector<std::uint64_t> take_all(Locked locked, PendingTasks& pending) {
  std::vector<std::uint64_t> ids;
  while (TaskState* const task = pending.front(locked)) {
    pending.remove(locked, *task);
    CHECK_FALSE(task->is_pending());
    ids.push_back(task->id);
  }
  CHECK(pending.empty());
  return ids;
}

}  // namespace

TEST_CASE("pending tasks come in the order in which they were added, and those put in front come first") {
  LooseTasks tasks;
  const test::HeldLock locked;
  PendingTasks pending;
  for (int i = 0; i < 3; ++i) pending.push_back(locked, tasks.make());
  pending.push_front(locked, tasks.make());
  CHECK(pending.size() == 4);
  CHECK(take_all(locked, pending) == std::vector<std::uint64_t>{4, 1, 2, 3});
}

TEST_CASE("a higher priority comes first, a lower one last, and each priority keeps its order") {
  LooseTasks tasks;
  const test::HeldLock locked;
  PendingTasks pending;
  for (const int priority : {0, -1, 5, 0, 9, 5, -1}) pending.push_back(locked, tasks.make(priority));
  CHECK(take_all(locked, pending) == std::vector<std::uint64_t>{5, 3, 6, 1, 4, 2, 7});
}

TEST_CASE("any pending task can be removed: the first, the last, the only one of its priority") {
  LooseTasks tasks;
  const test::HeldLock locked;
  PendingTasks pending;
  std::vector<TaskState*> all;
  for (const int priority : {0, 0, 0, 7, 0}) {
    all.push_back(&tasks.make(priority));
    pending.push_back(locked, *all.back());
  }
  pending.remove(locked, *all[0]);
  pending.remove(locked, *all[3]);
  pending.remove(locked, *all[4]);
  CHECK(pending.size() == 2);
  pending.push_back(locked, *all[3]);
  CHECK(take_all(locked, pending) == std::vector<std::uint64_t>{4, 2, 3});
}

TEST_CASE("a task is pending, or with a worker, or neither") {
  LooseTasks tasks;
  const test::HeldLock locked;
  PendingTasks pending;
  WorkerSlot slot;
  CallHeader call;
  TaskState& task = tasks.make();
  CHECK_FALSE(task.is_pending());
  CHECK_FALSE(task.is_dispatched());
  pending.push_back(locked, task);
  CHECK(task.is_pending());
  pending.remove(locked, task);
  task.dispatch_to(slot, call);
  CHECK(task.is_dispatched());
  CHECK(&task.worker() == &slot);
  CHECK(&task.call() == &call);
  task.leave_worker();
  CHECK_FALSE(task.is_dispatched());
  pending.push_back(locked, task);
  CHECK(pending.front(locked) == &task);
}

#if KINDRED_ASSERTIONS
TEST_CASE("a task that is in two places at once, or asked for a worker that it has not, ends the process") {
  LooseTasks tasks;
  const test::HeldLock locked;
  PendingTasks pending;
  WorkerSlot slot;
  CallHeader call;
  TaskState& task = tasks.make();
  pending.push_back(locked, task);
  CHECK(test::run_forked([&] { task.dispatch_to(slot, call); }).signal == SIGABRT);
  CHECK(test::run_forked([&] { pending.push_back(locked, task); }).signal == SIGABRT);
  CHECK(test::run_forked([&] { (void)task.worker(); }).signal == SIGABRT);
  pending.remove(locked, task);
  CHECK(test::run_forked([&] { pending.remove(locked, task); }).signal == SIGABRT);
  CHECK(test::run_forked([&] { task.leave_worker(); }).signal == SIGABRT);
}
#endif

TEST_CASE("a queue of calls keeps its order while it wraps, widens, and loses entries in the middle") {
  CircularQueue<int> queue;
  int next = 0;
  int first = 0;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 7; ++i) queue.push_back(next++);
    for (int i = 0; i < 3; ++i) {
      CHECK(queue.front() == first++);
      queue.pop_front();
    }
  }
  CHECK(queue.size() == 200);
  CHECK(queue.back() == next - 1);
  queue.erase(1);
  CHECK(queue[0] == first);
  CHECK(queue[1] == first + 2);
  CHECK(queue.size() == 199);
}

TEST_CASE("nothing of one incarnation of a worker reaches the next one") {
  LooseTasks tasks;
  WorkerSlot slot;
  slot.index = 3;
  slot.next_incarnation = 5;
  slot.state = WorkerSlot::State::dying;
  slot.kill_reason = KillReason::task;
  slot.ready = slot.full = slot.found_dead = true;
  slot.silent_since = slot.untidy.mute_since = std::chrono::steady_clock::now();
  slot.arming.bits = slot.arming.epoch = slot.sent.calls = 7;
  slot.last_words.protocol_error = slot.last_words.loss_hint = "it died";
  slot.sent.modules = 2;
  slot.untidy.stopped_since = slot.untidy.mute_since;
  slot.untidy.forked_children = 2;
  slot.in_flight.push_back({.task = &tasks.make()});
  slot.average.move_towards(1000, 0, 1);
  slot.stats.restarts = 4;
  slot.end_incarnation();
  CHECK_FALSE(slot.average.known());
  CHECK(slot.stats.restarts == 4);  // of all incarnations
  CHECK(slot.index == 3);
  CHECK(slot.next_incarnation == 5);
  CHECK(slot.state == WorkerSlot::State::empty);
  CHECK(slot.kill_reason == KillReason::none);
  CHECK_FALSE(slot.ready);
  CHECK_FALSE(slot.full);
  CHECK_FALSE(slot.found_dead);
  CHECK_FALSE(slot.silent());
  CHECK_FALSE(slot.untidy.mute_since.has_value());
  CHECK_FALSE(slot.untidy.stopped_since.has_value());
  CHECK(slot.untidy.forked_children == 0);
  CHECK(slot.arming.bits == 0);
  CHECK(slot.arming.epoch == 0);
  CHECK(slot.sent.calls == 0);
  CHECK(slot.sent.modules == 0);
  CHECK(slot.last_words.protocol_error.empty());
  CHECK(slot.last_words.loss_hint.empty());
  CHECK(slot.in_flight.empty());
}
