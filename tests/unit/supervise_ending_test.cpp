// How a pool ends before its work is done, and what its supervisor hears: no process.
#include "supervise/ending.hpp"

#include <csignal>

#include "kindred/error.hpp"
#include "kindred/internal/context_life.hpp"
#include "supervise/supervisor_poll.hpp"
#include "support/test.hpp"
#include "unit/pool_rooms.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

struct EndedPool : PlayedPool {
  explicit EndedPool(std::size_t max_workers = 1) : PlayedPool{max_workers} {}
  std::shared_ptr<ContextLife> life = std::make_shared<ContextLife>(ContextId::make(StartMethod::spawn));
  SharedObjectRegistry shared_objects{life};
  Ending ending{{phase, slots, intake, completion, backpressure, log, shared_objects}};
};

/// One whose only worker has begun the first of some tasks.
struct BusyPool : EndedPool {
  explicit BusyPool(int count) {
    for (int i = 0; i < count; ++i) tasks.push_back(submit());
    REQUIRE(worker.begin() == 1);
  }
  PlayedWorker& worker = add_worker();
  std::vector<StateHandle> tasks;
};

std::exception_ptr cause() { return std::make_exception_ptr(UsageError{"the cause"}); }

}  // namespace

TEST_CASE("a pool that breaks fails all its tasks with the cause, kills its workers and wants no more") {
  BusyPool pool{4};
  PoolGuard guard{pool.mutex};
  pool.slots.want_another(guard);
  pool.ending.break_pool(guard, cause(), "it broke");
  for (const auto& task : pool.tasks) {
    CHECK(task->outcome() == TaskOutcome::failure);
    CHECK_THROWS_AS(task->require_value(), BrokenProcessPool);
  }
  CHECK(pool.worker.slot().kill_reason == KillReason::shutdown);
  CHECK(pool.slots.wanted(guard) == 0);
  CHECK(pool.slots.in_flight(guard) == 0);
  CHECK(pool.completion.totals(guard).lost == 4);
  REQUIRE(pool.records.size() == 1);
  CHECK(pool.records[0].level == Level::critical);
  pool.ending.break_pool(guard, cause(), "again");  // it is broken once
  CHECK(pool.phase.broken_text == "it broke");
  CHECK(pool.records.size() == 1);
}

TEST_CASE("a shutdown that cancels leaves the running task alone, and ends all others") {
  BusyPool pool{4};
  {
    PoolGuard guard{pool.mutex};
    pool.ending.close(guard, true);
    CHECK_FALSE(pool.phase.finishes_chains);
  }
  CHECK_FALSE(pool.tasks[0]->finished());
  for (int i = 1; i < 4; ++i)
    CHECK(pool.tasks[static_cast<std::size_t>(i)]->outcome() == TaskOutcome::cancelled);
  pool.worker.end("x");
  CHECK(pool.collect());
  CHECK(pool.tasks[0]->outcome() == TaskOutcome::value);
}

TEST_CASE("a shutdown that waits for its tasks cancels none") {
  EndedPool pool;
  const auto task = pool.submit();
  PoolGuard guard{pool.mutex};
  pool.ending.close(guard, false);
  CHECK_FALSE(task->finished());
  CHECK(pool.phase.finishes_chains);
}

TEST_CASE("workers that are ended keep the task that they run, and the others fail") {
  BusyPool pool{3};
  PoolGuard guard{pool.mutex};
  pool.ending.end_workers(guard, SIGTERM);
  CHECK(pool.phase.kill_signal == SIGTERM);
  CHECK_FALSE(pool.tasks[0]->finished());
  CHECK_THROWS_AS(pool.tasks[1]->require_value(), BrokenProcessPool);
  CHECK_THROWS_AS(pool.tasks[2]->require_value(), BrokenProcessPool);
}

TEST_CASE("an interrupt cancels what has not begun, and asks what runs to stop") {
  BusyPool pool{2};
  PoolGuard guard{pool.mutex};
  pool.ending.interrupt(guard);
  CHECK(pool.worker.slot().in_flight.front().stop_asked);
  CHECK_FALSE(pool.tasks[0]->finished());
  CHECK(pool.tasks[1]->outcome() == TaskOutcome::cancelled);
  CHECK(pool.phase.closed);
}

TEST_CASE("the supervisor's poll tells of each descriptor once, and of which incarnation it was") {
  SharedBell bell;
  SupervisorPoll poll;
  auto [knocked, knocks] = MessageSocket::pair();
  poll.begin(bell, -1, knocked.fd());
  CHECK_FALSE(poll.has_event());
  const std::byte one{1};
  REQUIRE(knocks.send({&one, 1}) == MessageSocket::Sent::yes);
  const auto soon = [] { return std::chrono::steady_clock::now() + 30s; };
  while (!poll.has_event()) poll.wait(soon());
  CHECK(poll.event().kind == SupervisorPoll::Event::Kind::tail);
  poll.event_is_done();
  bell.ring();
  poll.wait(soon());
  CHECK_FALSE(poll.has_event());  // not asked for again
  poll.hear_tail_again();
  while (!poll.has_event()) poll.wait(soon());
  CHECK(poll.event().kind == SupervisorPoll::Event::Kind::tail);
  poll.event_is_done();
  poll.stop_hearing_tail();
  poll.end();
}
