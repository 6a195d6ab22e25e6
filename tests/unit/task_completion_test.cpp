// How tasks end: what follows at once, what is deferred until the lock is given back, and who is woken.
#include "task/completion.hpp"

#include <stdexcept>

#include "kindred/error.hpp"
#include "support/test.hpp"
#include "unit/pool_rooms.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

TEST_CASE("a task that ends is counted once, and wakes the leader only if the leader waits for it") {
  PlayedPool pool;
  const auto first = pool.make_task();
  const auto second = pool.make_task();
  const auto third = pool.make_task();
  PoolGuard guard{pool.mutex};
  CHECK(pool.completion.outstanding(guard) == 3);
  pool.completion.lead_for(guard, second.get());
  pool.completion.finish_with_value(guard, PlayedPool::task_of(first));
  CHECK(pool.events.leader_wakes == 0);
  pool.completion.finish_with_value(guard, PlayedPool::task_of(second));
  CHECK(pool.events.leader_wakes == 1);
  CHECK(first->outcome() == TaskOutcome::value);
  CHECK(pool.completion.outstanding(guard) == 1);
  CHECK(pool.completion.totals(guard).done == 2);
  pool.completion.lead_for(guard, third.get());
  pool.completion.finish(guard, PlayedPool::task_of(third), TaskOutcome::failure);
  CHECK(pool.events.leader_wakes == 2);
  CHECK(pool.completion.outstanding(guard) == 0);
  CHECK(pool.events.ends == 0);
}

TEST_CASE("threads that sleep for a future are woken when it ends, and those of another future are not") {
  PlayedPool pool;
  const auto task = pool.make_task();
  const auto other = pool.make_task();
  PoolGuard guard{pool.mutex};
  task->note_sleeper(guard);
  pool.completion.finish_with_value(guard, PlayedPool::task_of(other));
  CHECK(pool.events.woken.empty());
  pool.completion.finish_with_value(guard, PlayedPool::task_of(task));
  REQUIRE(pool.events.woken.size() == 1);
  CHECK(pool.events.woken[0] == task.get());
}

TEST_CASE("a continuation runs when the task ends, a callback only when the lock is given back") {
  PlayedPool pool;
  const auto task = pool.make_task();
  std::string order;
  std::atomic<bool> called{false};
  task->on_finished_inline([&](Locked) { order += "inline "; });
  task->on_finished([&] { called = true; });
  {
    PoolGuard guard{pool.mutex};
    CHECK(pool.completion.with_continuations(guard) == 1);
    pool.completion.finish_with_value(guard, PlayedPool::task_of(task));
    CHECK(order == "inline ");
    CHECK(pool.completion.with_continuations(guard) == 0);
    CHECK(pool.mutex.deferred().has_callbacks(guard));
    CHECK_FALSE(called);
    CHECK_FALSE(pool.completion.nothing_left(guard));  // the callback may submit a task
  }
  pool.callbacks.finish();
  CHECK(called);
  PoolGuard guard{pool.mutex};
  CHECK(pool.completion.nothing_left(guard));
}

TEST_CASE("callbacks of futures that outlive the callback thread run on the thread that ends them") {
  PlayedPool pool;
  const auto task = pool.make_task();
  std::thread::id ran_on;
  task->on_finished([&] { ran_on = std::this_thread::get_id(); });
  pool.callbacks.finish();
  {
    PoolGuard guard{pool.mutex};
    pool.completion.finish_with_value(guard, PlayedPool::task_of(task));
    CHECK(ran_on == std::thread::id{});
  }
  CHECK(ran_on == std::this_thread::get_id());
}

TEST_CASE("what is added to a finished future is done at once") {
  PlayedPool pool;
  const auto task = pool.make_task();
  {
    PoolGuard guard{pool.mutex};
    pool.completion.finish_with_value(guard, PlayedPool::task_of(task));
  }
  int ran = 0;
  task->on_finished_inline([&](Locked) { ++ran; });
  task->on_finished([&] { ++ran; });
  CHECK(ran == 2);
}

TEST_CASE("a failed task gives its arguments back, and its flight records go when the lock is given back") {
  PlayedPool pool;
  const auto task = pool.make_task(std::string(1000, 'x'));
  {
    PoolGuard guard{pool.mutex};
    pool.completion.finish_with(guard, PlayedPool::task_of(task), TaskOutcome::failure, [] {
      return std::make_unique<SharedFailure>(std::make_exception_ptr(std::runtime_error{"no"}));
    });
    CHECK(PlayedPool::value_of(task).empty());
    CHECK(pool.flights.empty());
  }
  REQUIRE(pool.flights.size() == 1);
  CHECK(pool.flights[0] == PlayedPool::task_of(task).id);
  CHECK_THROWS_AS(task->require_value(), std::runtime_error);
}

TEST_CASE("where memory ends while a failure is made, the future says so") {
  PlayedPool pool;
  const auto task = pool.make_task();
  PoolGuard guard{pool.mutex};
  pool.completion.finish_with(guard, PlayedPool::task_of(task), TaskOutcome::failure,
                              []() -> std::unique_ptr<Failure> { throw std::bad_alloc{}; });
  CHECK_THROWS_AS(task->require_value(), std::bad_alloc);
}

TEST_CASE("a cancelled task's error says how, and is a new object for each reader") {
  PlayedPool pool;
  const auto task = pool.make_task();
  {
    PoolGuard guard{pool.mutex};
    pool.completion.finish_cancelled(guard, PlayedPool::task_of(task), "before it began");
    CHECK(pool.completion.totals(guard).cancelled == 1);
  }
  CHECK(task->exception() != task->exception());
  try {
    task->require_value();
    FAIL("it is cancelled");
  } catch (const Cancelled& error) {
    CHECK(std::string{error.what()}.find("before it began") != std::string::npos);
  }
}

TEST_CASE("a task is tried again as often as its retries say, and not once the pool breaks or is ended") {
  PlayedPool pool;
  const auto task = pool.make_task({}, TaskOptions{.retries = 1});
  const auto none = pool.make_task();
  TaskState& state = PlayedPool::task_of(task);
  PoolGuard guard{pool.mutex};
  state.end_attempt();
  CHECK(pool.completion.try_again(guard, state));
  CHECK(state.is_pending());
  pool.pending.remove(guard, state);
  state.end_attempt();
  CHECK_FALSE(pool.completion.try_again(guard, state));
  CHECK_FALSE(pool.completion.try_again(guard, PlayedPool::task_of(none)));
  const auto broken = [&] {
    state.options = new SharedOptions{{.retries = 9}};
    return pool.completion.try_again(guard, state);
  };
  pool.phase.kill_signal = 9;
  CHECK_FALSE(broken());
  pool.phase.kill_signal = 0;
  pool.phase.broken = std::make_unique<SharedFailure>(nullptr);
  CHECK_FALSE(broken());
  CHECK(pool.completion.totals(guard).retried == 1);
  pool.end(guard, {&task, &none});
}

TEST_CASE("a task that was forgotten while it was open is destroyed when it ends, and gives its cell back") {
  PlayedPool pool;
  auto task = pool.make_task();
  TaskState& state = PlayedPool::task_of(task);
  task = {};
  CHECK(static_cast<bool>(state.forgotten));
  CHECK(pool.cells.in_use() == 1);
  PoolGuard guard{pool.mutex};
  pool.completion.finish_with_value(guard, state);
  CHECK(pool.cells.in_use() == 0);
  CHECK(pool.completion.totals(guard).done == 1);
}

TEST_CASE("of a closed pool, the end of the last task is told, and that of the others is not") {
  PlayedPool pool;
  const auto first = pool.make_task();
  const auto last = pool.make_task();
  PoolGuard guard{pool.mutex};
  pool.phase.closed = true;
  pool.completion.finish_with_value(guard, PlayedPool::task_of(first));
  CHECK(pool.events.ends == 0);
  pool.completion.finish_with_value(guard, PlayedPool::task_of(last));
  CHECK(pool.events.ends == 1);
}

TEST_CASE("pending tasks are failed with an error of their own each, or cancelled") {
  PlayedPool pool;
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 3; ++i) tasks.push_back(pool.submit());
  PoolGuard guard{pool.mutex};
  CHECK(pool.pending.size() == 3);
  int made = 0;
  pool.completion.fail_pending(guard, [&]() -> std::unique_ptr<Failure> {
    ++made;
    return std::make_unique<SharedFailure>(std::make_exception_ptr(std::runtime_error{"broken"}));
  });
  CHECK(made == 3);
  CHECK(pool.completion.totals(guard).lost == 3);
  CHECK(pool.pending.empty());
}
