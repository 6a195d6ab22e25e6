// Limits of tasks on a clock that the test moves: no process, and no wait.
#include "supervise/timers.hpp"

#include "kindred/error.hpp"
#include "supervise/limit_keeper.hpp"
#include "support/test.hpp"
#include "unit/pool_rooms.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

struct LimitedPool : PlayedPool {
  explicit LimitedPool(std::optional<std::chrono::nanoseconds> grace = {})
      : limits{grace, pending, intake, completion} {
    events.on_end_limits = [this](Locked locked, TaskState& task) { limits.forget(locked, task); };
  }
  ~LimitedPool() {
    events.on_end_limits = {};
    PoolGuard guard{mutex};
    limits.clear(guard);
  }
  LimitKeeper limits;
};

std::uint64_t seconds(double count) {
  return static_cast<std::uint64_t>(count * 1e9 * ticks_per_nanosecond());
}

}  // namespace

TEST_CASE("timers come in the order of their moments, none before it, and each keeps its task") {
  PlayedPool pool;
  const SteadyTime start{1000s};
  auto first = pool.make_task();
  auto second = pool.make_task();
  PoolGuard guard{pool.mutex};
  Timers timers;
  CHECK(timers.add(guard, start + 5s, PlayedPool::task_of(second)));
  CHECK(timers.add(guard, start + 3s, PlayedPool::task_of(first)));
  CHECK_FALSE(timers.add(guard, start + 9s, PlayedPool::task_of(first)));
  CHECK(timers.next(guard) == start + 3s);
  CHECK(timers.take_due(guard, start + 3s - 1ns) == nullptr);
  TaskState* due = timers.take_due(guard, start + 3s);
  CHECK(due == &PlayedPool::task_of(first));
  due->unpin(guard);
  due = timers.take_due(guard, start + 6s);
  CHECK(due == &PlayedPool::task_of(second));
  due->unpin(guard);
  CHECK(timers.take_due(guard, start + 6s) == nullptr);
  timers.clear(guard);
  CHECK_FALSE(timers.next(guard).has_value());
  pool.end(guard, {&first, &second});
}

TEST_CASE("a task that is forgotten has no moment: the next one is that of another task") {
  PlayedPool pool;
  const SteadyTime start{1000s};
  const auto done = pool.make_task();
  const auto open = pool.make_task();
  PoolGuard guard{pool.mutex};
  Timers timers;
  (void)timers.add(guard, start + 1s, PlayedPool::task_of(done));
  (void)timers.add(guard, start + 2s, PlayedPool::task_of(open));
  (void)timers.add(guard, start + 3s, PlayedPool::task_of(done));
  timers.forget(guard, PlayedPool::task_of(done));
  CHECK(timers.next(guard) == start + 2s);
  TaskState* const due = timers.take_due(guard, start + 9s);
  CHECK(due == &PlayedPool::task_of(open));
  due->unpin(guard);
  CHECK_FALSE(timers.next(guard).has_value());
  pool.end(guard, {&done, &open});
}

TEST_CASE("nothing of a finished task is kept for its limits, however far away they are") {
  for (const bool has_future : {false, true}) {
    CAPTURE(has_future);
    PlayedPool pool;
    Timers timers;
    pool.events.on_end_limits = [&](Locked locked, TaskState& task) { timers.forget(locked, task); };
    auto older = pool.make_task({}, std::make_unique<TaskOptions>(TaskOptions{.timeout = 1h}));
    auto task = pool.make_task({}, std::make_unique<TaskOptions>(TaskOptions{.timeout = 2h}));
    TaskState& state = PlayedPool::task_of(task);
    {
      PoolGuard guard{pool.mutex};
      (void)timers.add(guard, SteadyTime{1h}, PlayedPool::task_of(older));
      (void)timers.add(guard, SteadyTime{2h}, state);
    }
    if (!has_future) task = {};
    {
      PoolGuard guard{pool.mutex};
      pool.completion.finish_with_value(guard, state);
    }
    task = {};
    CHECK(pool.cells.in_use() == 1);  // the older one
    PoolGuard guard{pool.mutex};
    pool.completion.finish_with_value(guard, PlayedPool::task_of(older));
    CHECK_FALSE(timers.next(guard).has_value());
  }
}

TEST_CASE(
    "a task that is pending for longer than its queue timeout fails, also where a worker has not begun it") {
  for (const bool dispatched : {false, true}) {
    CAPTURE(dispatched);
    LimitedPool pool;
    if (dispatched) pool.add_worker();
    const auto task = pool.submit({}, std::make_unique<TaskOptions>(TaskOptions{.queue_timeout = 2s}));
    TaskState& state = PlayedPool::task_of(task);
    const auto now = std::chrono::steady_clock::now();
    PoolGuard guard{pool.mutex};
    CHECK(state.is_dispatched() == dispatched);
    (void)pool.limits.look_at(guard, now, state);
    pool.limits.check(guard, now);
    CHECK_FALSE(task->finished());  // it has been submitted just now
    state.submitted_ticks = ticks() - seconds(3);
    (void)pool.limits.look_at(guard, now, state);
    pool.limits.check(guard, now);
    CHECK(task->outcome() == TaskOutcome::failure);
    CHECK_THROWS_AS(task->require_value(), TaskTimeout);
    CHECK(pool.slots.in_flight(guard) == 0);
    CHECK(pool.completion.totals(guard).lost == 1);
  }
}

TEST_CASE(
    "an attempt over its soft limit is asked to stop once, and over its limit its worker is condemned") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task =
      pool.submit({}, std::make_unique<TaskOptions>(TaskOptions{.timeout = 10s, .soft_timeout = 3s}));
  REQUIRE(worker.begin() == 1);
  InFlight& attempt = worker.slot().in_flight.front();
  const auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  const auto look_after = [&](double ran) {
    worker.header().begun_ticks = ticks() - seconds(ran);
    (void)pool.limits.look_at(guard, now, PlayedPool::task_of(task));
    pool.limits.check(guard, now);
  };
  look_after(1);
  CHECK_FALSE(attempt.stop_asked);
  CHECK(pool.limits.next(guard) > now + 1s);  // the soft limit is 2 s away
  CHECK(pool.limits.next(guard) < now + 3s);
  look_after(4);
  CHECK(attempt.stop_asked);
  CHECK(worker.header().stop_attempt == PlayedPool::task_of(task).attempt());
  CHECK(worker.header().stop_signal == 1);
  look_after(5);
  CHECK(worker.header().stop_signal == 1);
  CHECK(attempt.condemned == InFlight::Condemned::no);
  look_after(11);
  CHECK(attempt.condemned == InFlight::Condemned::timed_out);
  CHECK(worker.slot().kill_reason == KillReason::task);
  CHECK(attempt.header->state == call_state::condemned);
  CHECK(attempt.ran >= 11s);
}

TEST_CASE("a worker that was terminated for a limit is killed when its grace has passed") {
  LimitedPool pool{2s};
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, std::make_unique<TaskOptions>(TaskOptions{.timeout = 10s}));
  REQUIRE(worker.begin() == 1);
  worker.header().begun_ticks = ticks() - seconds(11);
  const auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  (void)pool.limits.look_at(guard, now, PlayedPool::task_of(task));
  pool.limits.check(guard, now);
  CHECK(worker.slot().in_flight.front().condemned == InFlight::Condemned::timed_out);
  CHECK(pool.limits.next(guard) == now + 2s);
}

TEST_CASE("a worker that ends its attempt in the same moment is not killed for its limit") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, std::make_unique<TaskOptions>(TaskOptions{.timeout = 10s}));
  REQUIRE(worker.begin() == 1);
  worker.slot().in_flight.front().header->state = call_state::done;
  worker.header().begun_ticks = ticks() - seconds(11);
  const auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  (void)pool.limits.look_at(guard, now, PlayedPool::task_of(task));
  pool.limits.check(guard, now);
  CHECK(worker.slot().kill_reason == KillReason::none);
  CHECK(pool.limits.next(guard).has_value());  // it says that it is done: it is looked at again
}

TEST_CASE("a worker that never begins its only call is killed by the parent's clock") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, std::make_unique<TaskOptions>(TaskOptions{.timeout = 10s}));
  auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  const auto look = [&] {
    (void)pool.limits.look_at(guard, now, PlayedPool::task_of(task));
    pool.limits.check(guard, now);
    return worker.slot().kill_reason;
  };
  CHECK(look() == KillReason::none);
  now += 10s;
  CHECK(look() == KillReason::none);
  now += 1100ms;  // a second more for a machine that is busy
  CHECK(look() == KillReason::task);
}
