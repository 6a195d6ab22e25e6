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
  explicit LimitedPool(std::optional<std::chrono::nanoseconds> grace = {}, std::size_t max_workers = 1)
      : PlayedPool{max_workers}, limits{grace, slots, pending, intake, completion} {
    events.on_end_queue_limit = [this](Locked locked, TaskState& task) { limits.forget(locked, task); };
  }
  ~LimitedPool() {
    events.on_end_queue_limit = {};
    PoolGuard guard{mutex};
    limits.clear(guard);
  }
  // Looks at the limits of that worker's attempts now, whenever a look is planned.
  void look_at(Locked locked, WorkerSlot& slot, SteadyTime now) {
    slot.limits.end();
    slot.limits.look_within(0ns, now);
    limits.check(locked, now);
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
  timers.add(guard, start + 5s, PlayedPool::task_of(second));
  timers.add(guard, start + 3s, PlayedPool::task_of(first));
  CHECK(timers.next(guard) == start + 3s);
  CHECK(timers.take_due(guard, start + 3s - 1ns) == nullptr);
  TaskState* due = timers.take_due(guard, start + 3s);
  CHECK(due == &PlayedPool::task_of(first));
  due->unpin(guard);
  due = timers.take_due(guard, start + 6s);
  CHECK(due == &PlayedPool::task_of(second));
  due->unpin(guard);
  CHECK(timers.take_due(guard, start + 6s) == nullptr);
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
  timers.add(guard, start + 1s, PlayedPool::task_of(done));
  timers.add(guard, start + 2s, PlayedPool::task_of(open));
  timers.forget(guard, PlayedPool::task_of(done));
  timers.forget(guard, PlayedPool::task_of(done));  // it has none
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
    pool.events.on_end_queue_limit = [&](Locked locked, TaskState& task) { timers.forget(locked, task); };
    auto older = pool.make_task({}, TaskOptions{.queue_timeout = 1h});
    auto task = pool.make_task({}, TaskOptions{.queue_timeout = 2h});
    TaskState& state = PlayedPool::task_of(task);
    {
      PoolGuard guard{pool.mutex};
      timers.add(guard, SteadyTime{1h}, PlayedPool::task_of(older));
      timers.add(guard, SteadyTime{2h}, state);
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

TEST_CASE("a task that waits longer than its queue timeout fails, also where a worker has not begun it") {
  for (const bool dispatched : {false, true}) {
    CAPTURE(dispatched);
    LimitedPool pool;
    if (dispatched) pool.add_worker();
    const auto task = pool.submit({}, TaskOptions{.queue_timeout = 2s});
    TaskState& state = PlayedPool::task_of(task);
    const auto until = std::chrono::steady_clock::now() + 2s;
    PoolGuard guard{pool.mutex};
    CHECK(state.is_dispatched() == dispatched);
    pool.limits.fail_unless_begun_by(guard, until, state);
    CHECK(pool.limits.next(guard) == until);
    pool.limits.check(guard, until - 1ns);
    CHECK_FALSE(task->finished());
    // The moment decides, and no other clock, which may be a little behind.
    pool.limits.check(guard, until);
    CHECK(task->outcome() == TaskOutcome::failure);
    CHECK_THROWS_AS(task->require_value(), TaskTimeout);
    CHECK(pool.slots.in_flight(guard) == 0);
    CHECK(pool.completion.totals(guard).lost == 1);
    CHECK_FALSE(pool.limits.next(guard).has_value());
  }
}

TEST_CASE("a task that has begun has no queue timeout any more") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, TaskOptions{.queue_timeout = 2s});
  REQUIRE(worker.begin() == 1);
  const auto until = std::chrono::steady_clock::now() + 2s;
  PoolGuard guard{pool.mutex};
  pool.limits.fail_unless_begun_by(guard, until, PlayedPool::task_of(task));
  pool.limits.check(guard, until);
  CHECK_FALSE(task->finished());
  CHECK_FALSE(pool.limits.next(guard).has_value());
}

TEST_CASE(
    "an attempt over its soft limit is asked to stop once, and over its limit its worker is condemned") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, TaskOptions{.timeout = 10s, .soft_timeout = 3s});
  REQUIRE(worker.begin() == 1);
  InFlight& attempt = worker.slot().in_flight.front();
  const auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  const auto look_after = [&](double ran) {
    worker.header().begun_ticks = ticks() - seconds(ran);
    pool.look_at(guard, worker.slot(), now);
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
  const auto task = pool.submit({}, TaskOptions{.timeout = 10s});
  REQUIRE(worker.begin() == 1);
  worker.header().begun_ticks = ticks() - seconds(11);
  const auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  pool.look_at(guard, worker.slot(), now);
  const InFlight& attempt = worker.slot().in_flight.front();
  CHECK(attempt.condemned == InFlight::Condemned::timed_out);
  CHECK(attempt.killed_at == now + 2s);
  CHECK(pool.limits.next(guard) == now + 2s);
  // Another look, for whatever reason, does not shorten the grace.
  pool.look_at(guard, worker.slot(), now + 2s - 1ns);
  CHECK(attempt.killed_at == now + 2s);
  CHECK(pool.limits.next(guard) == now + 2s);
  pool.limits.check(guard, now + 2s);
  CHECK_FALSE(attempt.killed_at.has_value());
  CHECK_FALSE(pool.limits.next(guard).has_value());
}

TEST_CASE("every attempt of a worker is looked at, and the nearest of their limits plans the next look") {
  for (const bool nearest_last : {false, true}) {
    CAPTURE(nearest_last);
    LimitedPool pool;
    PlayedWorker& worker = pool.add_worker();
    const TaskOptions far{.timeout = 1h}, near{.soft_timeout = 5s};
    const auto first = pool.submit({}, nearest_last ? far : near);
    const auto second = pool.submit({}, nearest_last ? near : far);
    const auto now = std::chrono::steady_clock::now();
    PoolGuard guard{pool.mutex};
    REQUIRE(worker.slot().in_flight.size() == 2);
    pool.look_at(guard, worker.slot(), now);
    CHECK(pool.limits.next(guard) == now + 5s);  // it may begin at once
  }
}

TEST_CASE("the next look is the first of all workers' and of all queue timeouts") {
  LimitedPool pool{{}, 3};
  const auto now = std::chrono::steady_clock::now();
  PlayedWorker* const workers[] = {&pool.add_worker(), &pool.add_worker(), &pool.add_worker()};
  const auto task = pool.make_task({}, TaskOptions{.queue_timeout = 1h});
  PoolGuard guard{pool.mutex};
  workers[0]->slot().limits.look_within(4s, now);
  workers[1]->slot().limits.look_within(3s, now);
  workers[2]->slot().limits.look_within(5s, now);
  CHECK(pool.limits.next(guard) == now + 3s);
  pool.limits.fail_unless_begun_by(guard, now + 2s, PlayedPool::task_of(task));
  CHECK(pool.limits.next(guard) == now + 2s);
  pool.end(guard, {&task});
  CHECK(pool.limits.next(guard) == now + 3s);
}

TEST_CASE("a limit that is shorter moves no look to a later moment") {
  const SteadyTime start{1000s};
  LimitLooks limits;
  limits.look_within(1s, start);
  CHECK(limits.are_looked_at_within(1s));
  REQUIRE_FALSE(limits.are_looked_at_within(900ms));
  limits.look_within(900ms, start + 800ms);  // it ends later, although it is shorter
  CHECK(limits.next_look() == start + 1s);
  REQUIRE_FALSE(limits.are_looked_at_within(50ms));
  limits.look_within(50ms, start + 900ms);
  CHECK(limits.next_look() == start + 950ms);
  limits.end();
  CHECK_FALSE(limits.are_looked_at_within(1h));
  limits.look_within(1h, start);
  CHECK(limits.next_look() == start + 1h);
}

TEST_CASE("a look that was planned for another attempt takes no time from one that has not begun") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, TaskOptions{.timeout = 10s});
  auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  pool.look_at(guard, worker.slot(), now);  // left over from a task that has ended
  worker.slot().in_flight.front().dispatched_ticks -= seconds(10);
  now += 10s;
  pool.look_at(guard, worker.slot(), now);
  REQUIRE(worker.begin() == 1);
  now += 10s;  // it has run for less
  pool.look_at(guard, worker.slot(), now);
  CHECK(worker.slot().kill_reason == KillReason::none);
  now += 1100ms;
  pool.look_at(guard, worker.slot(), now);
  CHECK(worker.slot().kill_reason == KillReason::task);
}

TEST_CASE("a worker whose attempts have no limit is looked at no more") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto limited = pool.submit({}, TaskOptions{.timeout = 10s});
  const auto unlimited = pool.submit();
  REQUIRE(worker.begin() == 1);
  worker.end("done");
  REQUIRE(pool.collect());
  REQUIRE(limited->finished());
  PoolGuard guard{pool.mutex};
  const auto planned = pool.limits.next(guard);
  REQUIRE(planned.has_value());
  pool.limits.check(guard, *planned);
  CHECK_FALSE(pool.limits.next(guard).has_value());
}

TEST_CASE("a worker that ends its attempt in the same moment is not killed for its limit") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, TaskOptions{.timeout = 10s});
  REQUIRE(worker.begin() == 1);
  worker.slot().in_flight.front().header->state = call_state::done;
  worker.header().begun_ticks = ticks() - seconds(11);
  const auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  pool.look_at(guard, worker.slot(), now);
  CHECK(worker.slot().kill_reason == KillReason::none);
  CHECK(pool.limits.next(guard).has_value());  // it says that it is done: it is looked at again
}

TEST_CASE("a worker that never begins its only call is killed by the parent's clock") {
  LimitedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, TaskOptions{.timeout = 10s});
  auto now = std::chrono::steady_clock::now();
  PoolGuard guard{pool.mutex};
  const auto look = [&] {
    pool.look_at(guard, worker.slot(), now);
    return worker.slot().kill_reason;
  };
  CHECK(look() == KillReason::none);
  now += 10s;
  worker.slot().in_flight.front().dispatched_ticks -= seconds(10);
  CHECK(look() == KillReason::none);  // from now on it counts
  now += 10s;
  CHECK(look() == KillReason::none);
  now += 1100ms;  // a second more for a machine that is busy
  CHECK(look() == KillReason::task);
}
